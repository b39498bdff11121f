"""Label heads: from embeddings to label scores."""

from skxmc.heads.label_head import LabelHead, log_prior

__all__ = ["LabelHead", "log_prior"]
