"""The `scoring=` of this room: scikit-learn's, and our scorers by name."""

from skxmc.metrics import get_scorer


def as_scoring(scoring):
    """Turn a name such as "precision_at_5" into its scorer; leave the rest to scikit-learn."""
    return get_scorer(scoring) if isinstance(scoring, str) and "_at_" in scoring else scoring
