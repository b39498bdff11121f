"""Losses over shortlists and over mined negatives."""

from skxmc.losses.elias import elias_loss, log1mexp
from skxmc.losses.owl import (
    MARGINS,
    TREATMENTS,
    effective_hardness,
    expected_weights,
    margin_loss,
    ordered_weighted_loss,
    ordered_weights,
)

__all__ = [
    "MARGINS",
    "TREATMENTS",
    "effective_hardness",
    "elias_loss",
    "expected_weights",
    "log1mexp",
    "margin_loss",
    "ordered_weighted_loss",
    "ordered_weights",
]
