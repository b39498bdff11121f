"""Losses over shortlists."""

from skxmc.losses.elias import elias_loss, log1mexp

__all__ = ["elias_loss", "log1mexp"]
