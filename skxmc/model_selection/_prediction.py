"""Parameters that act in prediction only: one fit per fold for all their values."""

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils import indexable
from sklearn.utils.parallel import Parallel, delayed

from skxmc.model_selection._scoring import as_scoring


def prediction_curve(
    estimator, X, y, *, param_grid, scoring=None, cv=None, groups=None, n_jobs=None, verbose=0
) -> dict[str, Any]:
    """Score all values of parameters that act in prediction only, fitting once per fold.

    A grid search fits anew for every candidate. `beam_width`, `shortlist_size` and `rerank_size` of
    `EliasClassifier` may be set on the fitted model, which is then scored. For the k of a metric
    not even that is needed: a `skxmc.metrics.TopKScorer` takes many k at once.

    Parameters
    ----------
    estimator : estimator
        Cloned and fitted once for each fold; with ``cv="prefit"`` it is fitted already.
    X : {array-like, sparse, list of str} of n_rows rows
        What the estimator takes.
    y : {sparse, array-like} of shape (n_rows, n_labels) or (n_rows,)
        0/1 indicator of the labels, or whatever else the estimator takes.
    param_grid : dict of str to sequence, or list of such dicts
        As in `sklearn.model_selection.GridSearchCV`; names as `set_params` takes them, such as
        "eliasclassifier__beam_width" in a pipeline. Only parameters that may be set after `fit`.
    scoring : str, callable, list, tuple, dict or None
        As in `cross_validate`.
    cv : int, splitter, iterable, "prefit" or None
        Folds as in `cross_validate`. "prefit" scores the estimator as it is on all of X and y,
        which should then be rows that it was not trained on.
    groups : array-like of shape (n_rows,), optional
        Groups for a splitter that wants them.
    n_jobs : int or None
        Folds worked on at the same time.
    verbose : int
        Verbosity of joblib.

    Returns
    -------
    results : dict of str to ndarray of shape (n_candidates,), or list
        Keys as in `cv_results_` of scikit-learn's searches, ready for `pandas.DataFrame`:
        "params" (list of dicts), "param_<name>", "split<i>_test_score", "mean_test_score",
        "std_test_score", "rank_test_score" (with several metrics "..._test_<name>"),
        "mean_score_time" and "mean_fit_time", which all candidates share.

    Raises
    ------
    ValueError
        If a parameter does not exist or a candidate is refused by the estimator.

    Warns
    -----
    UserWarning
        If all candidates score the same in every fold, as they do if no parameter acts in
        prediction.

    Notes
    -----
    `beam_width` acts in training as well: here the model is trained with its own value and searched
    with each candidate, while a grid search trains with each candidate, too.

    Take the best values over with ``model.set_params(**results["params"][best])``. An estimator
    given with ``cv="prefit"`` has its own values again afterwards.

    References
    ----------
    The prediction-side counterpart of `sklearn.model_selection.validation_curve`.

    Examples
    --------
    >>> from skxmc import EliasClassifier
    >>> from skxmc.datasets import make_xmc_classification
    >>> from skxmc.model_selection import prediction_curve
    >>> X, Y = make_xmc_classification(n_samples=300, n_labels=50, random_state=0)
    >>> clf = EliasClassifier(stage1_epochs=3, stage2_epochs=1, max_leaf=8, random_state=0)
    >>> results = prediction_curve(
    ...     clf, X, Y, param_grid={"beam_width": [1, 8]}, scoring="precision_at_3", cv=2
    ... )
    >>> results["params"]
    [{'beam_width': 1}, {'beam_width': 8}]
    >>> results["mean_test_score"].shape
    (2,)
    """
    candidates = list(ParameterGrid(param_grid))
    scorer = check_scoring(estimator, as_scoring(scoring))
    if isinstance(cv, str) and cv == "prefit":
        folds = [(0.0, *_score_candidates(estimator, X, y, candidates, scorer))]
    else:
        X, y, groups = indexable(X, y, groups)
        splits = check_cv(cv, y, classifier=is_classifier(estimator)).split(X, y, groups)
        folds = Parallel(n_jobs=n_jobs, verbose=verbose)(
            delayed(_fit_and_score)(clone(estimator), X, y, *split, candidates, scorer)
            for split in splits
        )
    return _tabulate(candidates, *zip(*folds, strict=True))


def _fit_and_score(estimator, X, y, train, test, candidates, scorer):
    start = time.perf_counter()
    estimator.fit(take_rows(X, train), take_rows(y, train))
    seconds = time.perf_counter() - start
    return seconds, *_score_candidates(
        estimator, take_rows(X, test), take_rows(y, test), candidates, scorer
    )


def _score_candidates(estimator, X, y, candidates: list[dict], scorer):
    """Score a fitted estimator under each candidate: a list of dicts, and the seconds of each."""
    scores, seconds = [], []
    names = {name for candidate in candidates for name in candidate}
    own = {name: value for name, value in estimator.get_params().items() if name in names}
    try:
        for candidate in candidates:
            start = time.perf_counter()
            # grids in a list may name different parameters
            score = scorer(estimator.set_params(**{**own, **candidate}), X, y)
            scores.append(dict(score) if isinstance(score, Mapping) else {"score": score})
            seconds.append(time.perf_counter() - start)
    finally:
        estimator.set_params(**own)
    return scores, seconds


def take_rows(data, rows: np.ndarray):
    """Rows of a list, a data frame or an array."""
    if isinstance(data, list | tuple):
        return [data[row] for row in rows]
    return data.iloc[rows] if hasattr(data, "iloc") else data[rows]


def _tabulate(candidates: list[dict], fit_seconds, scores, score_seconds) -> dict[str, Any]:
    results: dict[str, Any] = {
        "mean_fit_time": np.full(len(candidates), np.mean(fit_seconds)),
        "mean_score_time": np.mean(score_seconds, axis=0),
    }
    for name in sorted({name for candidate in candidates for name in candidate}):
        values = np.empty(len(candidates), dtype=object)
        values[:] = [candidate.get(name) for candidate in candidates]
        results[f"param_{name}"] = values
    results["params"] = candidates
    same = True
    for metric in scores[0][0]:
        table = np.array([[score[metric] for score in fold] for fold in scores])
        same = same and bool((table == table[:, :1]).all())
        for fold, row in enumerate(table):
            results[f"split{fold}_test_{metric}"] = row
        results[f"mean_test_{metric}"] = table.mean(axis=0)
        results[f"std_test_{metric}"] = table.std(axis=0)
        results[f"rank_test_{metric}"] = rankdata(-table.mean(axis=0), method="min").astype(int)
    if same and len(candidates) > 1:
        warnings.warn(
            "prediction_curve: all candidates score the same in every fold. Either their values "
            "make no difference here, or the parameters act in fit; for those use GridSearchCV.",
            stacklevel=3,
        )
    return results
