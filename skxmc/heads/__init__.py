"""Label heads: from embeddings to label scores, and the sparse ranker that re-orders them."""

from skxmc.heads.candidates import candidate_dots, log_scores, sort_candidates
from skxmc.heads.label_head import LabelHead, log_prior
from skxmc.heads.ranker import SparseRanker

__all__ = [
    "LabelHead",
    "SparseRanker",
    "candidate_dots",
    "log_prior",
    "log_scores",
    "sort_candidates",
]
