"""Metrics for extreme multi-label classification, on sparse truth and top-k predictions.

Numpy, scipy and scikit-learn only: importing this package loads neither torch nor numba.
"""

from skxmc.metrics._bootstrap import BootstrapInterval, bootstrap_interval
from skxmc.metrics._breakdown import breakdown_by_frequency
from skxmc.metrics._calibration import (
    ReliabilityCurve,
    expected_calibration_error,
    reliability_curve,
)
from skxmc.metrics._evaluate import evaluate_topk
from skxmc.metrics._label_wise import (
    coverage_at_k,
    macro_f1_at_k,
    macro_precision_at_k,
    macro_recall_at_k,
)
from skxmc.metrics._propensity import (
    PROPENSITY_CONSTANTS,
    propensities,
    propensities_from_counts,
    propensity_constants,
)
from skxmc.metrics._propensity_scored import psndcg_at_k, psp_at_k
from skxmc.metrics._ranking import map_at_k, mrr_at_k, ndcg_at_k, precision_at_k, recall_at_k
from skxmc.metrics._scorers import TopKScorer, get_scorer, get_scorer_names

__all__ = [
    "PROPENSITY_CONSTANTS",
    "BootstrapInterval",
    "ReliabilityCurve",
    "TopKScorer",
    "bootstrap_interval",
    "breakdown_by_frequency",
    "coverage_at_k",
    "evaluate_topk",
    "expected_calibration_error",
    "get_scorer",
    "get_scorer_names",
    "macro_f1_at_k",
    "macro_precision_at_k",
    "macro_recall_at_k",
    "map_at_k",
    "mrr_at_k",
    "ndcg_at_k",
    "precision_at_k",
    "propensities",
    "propensities_from_counts",
    "propensity_constants",
    "psndcg_at_k",
    "psp_at_k",
    "recall_at_k",
    "reliability_curve",
]
