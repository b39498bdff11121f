"""The estimator inside searches, pipelines and frozen estimators: the one that ranks labels."""

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skxmc.topk import TopK


def unwrap(estimator, X):
    """Walk down a fitted estimator to the one that ranks labels, transforming X on the way."""
    if hasattr(estimator, "predict_topk"):
        return estimator, X
    if isinstance(estimator, FrozenEstimator):
        return unwrap(estimator.estimator, X)
    if isinstance(estimator, Pipeline):
        inner = X if len(estimator) == 1 else estimator[:-1].transform(X)
        return unwrap(estimator[-1], inner)
    if hasattr(estimator, "best_estimator_"):
        return unwrap(estimator.best_estimator_, X)
    return estimator, X


def check_ranks(estimator):
    """Raise unless an estimator, fitted or not, has one with `predict_topk` inside."""
    inner = estimator
    while not hasattr(inner, "predict_topk"):
        if isinstance(inner, Pipeline):
            inner = inner[-1]
        elif hasattr(inner, "estimator"):  # a search or a frozen estimator
            inner = inner.estimator
        else:
            raise TypeError(_advice(estimator))


def rank_labels(estimator, X, k: int) -> TopK:
    """Ask the estimator inside a fitted estimator for the best k labels of each row."""
    model, X = unwrap(estimator, X)
    if not hasattr(model, "predict_topk"):
        raise TypeError(_advice(estimator))
    return model.predict_topk(X, k=k)


def _advice(estimator) -> str:
    return (
        "An estimator with predict_topk is needed, or a pipeline or search (with refit on) that "
        f"ends in one, got {type(estimator).__name__}."
    )
