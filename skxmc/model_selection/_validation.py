"""scikit-learn's cross-validation functions, opened for sparse y.

Only their parameter check refuses a sparse y (scikit-learn pull request 11589, open since 2018);
what follows the check slices rows and asks the scorer, which sparse matrices are fit for.
"""

import numpy as np
from sklearn import config_context, model_selection

from skxmc.model_selection._scoring import as_scoring

_CURVE_SIZES = (0.1, 0.33, 0.55, 0.78, 1.0)


def cross_validate(
    estimator,
    X,
    y=None,
    *,
    groups=None,
    scoring=None,
    cv=None,
    n_jobs=None,
    verbose=0,
    params=None,
    pre_dispatch="2*n_jobs",
    return_train_score=False,
    return_estimator=False,
    return_indices=False,
    error_score=np.nan,
) -> dict:
    """Fit and score an estimator on each fold, also with sparse y.

    Parameters
    ----------
    estimator : estimator
        Cloned for each fold.
    X : {array-like, sparse, list of str} of n_rows rows
        What the estimator takes.
    y : {sparse, array-like} of shape (n_rows, n_labels) or (n_rows,)
        0/1 indicator of the labels, or whatever else the estimator takes.
    groups : array-like of shape (n_rows,), optional
        Groups for a splitter that wants them.
    scoring : str, callable, list, tuple, dict or None
        A name such as "precision_at_5", a `skxmc.metrics.TopKScorer` (many metrics from one
        prediction), or what scikit-learn takes; None is the estimator's `score`.
    cv : int, splitter, iterable or None
        Folds as in scikit-learn; for an indicator y an int means `KFold` without shuffling.
    n_jobs : int or None
        Folds fitted at the same time.
    verbose : int
        Verbosity of scikit-learn.
    params : dict, optional
        Passed on to the estimator, the scorer and the splitter by metadata routing, or to `fit`.
    pre_dispatch : int or str
        Folds handed to the workers in advance; each holds its slice of the data.
    return_train_score, return_estimator, return_indices : bool
        What else to return.
    error_score : "raise" or float
        Score of a fold whose fit failed.

    Returns
    -------
    scores : dict of str to ndarray of shape (n_folds,)
        "fit_time", "score_time", and "test_score" or one "test_<name>" for each metric.

    Raises
    ------
    ValueError
        If every fit failed, or the data do not fit each other.

    See Also
    --------
    prediction_curve : Many values of prediction parameters from one fit.

    Notes
    -----
    scikit-learn's check of parameters is off while this function runs, also for its estimators
    inside a pipeline, so that a wrong parameter there is reported by whatever it breaks.

    References
    ----------
    `sklearn.model_selection.cross_validate`, which does the work.

    Examples
    --------
    >>> from skxmc import SNMClassifier
    >>> from skxmc.datasets import make_xmc_classification
    >>> from skxmc.metrics import TopKScorer
    >>> from skxmc.model_selection import cross_validate
    >>> X, Y = make_xmc_classification(n_samples=200, n_labels=30, random_state=0)
    >>> scores = cross_validate(
    ...     SNMClassifier(max_epochs=3, random_state=0),
    ...     X,
    ...     Y,
    ...     scoring=TopKScorer("precision", k=[1, 5]),
    ...     cv=2,
    ... )
    >>> sorted(scores)
    ['fit_time', 'score_time', 'test_precision_at_1', 'test_precision_at_5']
    """
    with config_context(skip_parameter_validation=True):
        return model_selection.cross_validate(
            estimator,
            X,
            y,
            groups=groups,
            scoring=as_scoring(scoring),
            cv=cv,
            n_jobs=n_jobs,
            verbose=verbose,
            params=params,
            pre_dispatch=pre_dispatch,
            return_train_score=return_train_score,
            return_estimator=return_estimator,
            return_indices=return_indices,
            error_score=error_score,
        )


def learning_curve(
    estimator,
    X,
    y,
    *,
    groups=None,
    train_sizes=_CURVE_SIZES,
    cv=None,
    scoring=None,
    n_jobs=None,
    pre_dispatch="all",
    verbose=0,
    shuffle=False,
    random_state=None,
    error_score=np.nan,
    params=None,
):
    """Score an estimator trained on growing parts of the data, also with sparse y.

    Parameters
    ----------
    estimator : estimator
        Cloned for each fold and size.
    X : {array-like, sparse, list of str} of n_rows rows
        What the estimator takes.
    y : {sparse, array-like} of shape (n_rows, n_labels) or (n_rows,)
        0/1 indicator of the labels, or whatever else the estimator takes.
    groups : array-like of shape (n_rows,), optional
        Groups for a splitter that wants them.
    train_sizes : array-like of shape (n_sizes,)
        Shares of the largest training set, or numbers of rows.
    cv : int, splitter, iterable or None
        Folds, as in `cross_validate`.
    scoring : str, callable or None
        A scorer of one value, such as "precision_at_5".
    n_jobs : int or None
        Fits at the same time.
    pre_dispatch : int or str
        Fits handed to the workers in advance.
    verbose : int
        Verbosity of scikit-learn.
    shuffle : bool
        Whether the rows of a fold are shuffled before its first rows are taken.
    random_state : int, RandomState or None
        Seed of the shuffle.
    error_score : "raise" or float
        Score of a fit that failed.
    params : dict, optional
        Passed on as in `cross_validate`.

    Returns
    -------
    train_sizes_abs : ndarray of shape (n_sizes,)
        Numbers of training rows.
    train_scores, test_scores : ndarray of shape (n_sizes, n_folds)
        Scores on the rows trained on and on the held-out rows.

    Raises
    ------
    ValueError
        If every fit failed, or the data do not fit each other.

    Notes
    -----
    The note of `cross_validate` on scikit-learn's check of parameters holds here too.

    References
    ----------
    `sklearn.model_selection.learning_curve`, which does the work.

    Examples
    --------
    >>> from skxmc import SNMClassifier
    >>> from skxmc.datasets import make_xmc_classification
    >>> from skxmc.model_selection import learning_curve
    >>> X, Y = make_xmc_classification(n_samples=200, n_labels=30, random_state=0)
    >>> sizes, train_scores, test_scores = learning_curve(
    ...     SNMClassifier(max_epochs=3, random_state=0), X, Y, train_sizes=[50, 100], cv=2
    ... )
    >>> sizes.tolist(), test_scores.shape
    ([50, 100], (2, 2))
    """
    with config_context(skip_parameter_validation=True):
        return model_selection.learning_curve(
            estimator,
            X,
            y,
            groups=groups,
            train_sizes=np.asarray(train_sizes),
            cv=cv,
            scoring=as_scoring(scoring),
            n_jobs=n_jobs,
            pre_dispatch=pre_dispatch,
            verbose=verbose,
            shuffle=shuffle,
            random_state=random_state,
            error_score=error_score,
            params=params,
        )


def validation_curve(
    estimator,
    X,
    y,
    *,
    param_name,
    param_range,
    groups=None,
    cv=None,
    scoring=None,
    n_jobs=None,
    pre_dispatch="all",
    verbose=0,
    error_score=np.nan,
    params=None,
):
    """Score an estimator over the values of one parameter, fitting each, also with sparse y.

    Parameters
    ----------
    estimator : estimator
        Cloned for each fold and value.
    X : {array-like, sparse, list of str} of n_rows rows
        What the estimator takes.
    y : {sparse, array-like} of shape (n_rows, n_labels) or (n_rows,)
        0/1 indicator of the labels, or whatever else the estimator takes.
    param_name : str
        Name of the parameter, as `set_params` takes it.
    param_range : array-like of shape (n_values,)
        Its values.
    groups : array-like of shape (n_rows,), optional
        Groups for a splitter that wants them.
    cv : int, splitter, iterable or None
        Folds, as in `cross_validate`.
    scoring : str, callable or None
        A scorer of one value, such as "precision_at_5".
    n_jobs : int or None
        Fits at the same time.
    pre_dispatch : int or str
        Fits handed to the workers in advance.
    verbose : int
        Verbosity of scikit-learn.
    error_score : "raise" or float
        Score of a fit that failed.
    params : dict, optional
        Passed on as in `cross_validate`.

    Returns
    -------
    train_scores, test_scores : ndarray of shape (n_values, n_folds)
        Scores on the rows trained on and on the held-out rows.

    Raises
    ------
    ValueError
        If every fit failed, or the data do not fit each other.

    See Also
    --------
    prediction_curve : The same without a fit for each value, where the parameter acts in
        prediction only.

    Notes
    -----
    The note of `cross_validate` on scikit-learn's check of parameters holds here too.

    References
    ----------
    `sklearn.model_selection.validation_curve`, which does the work.

    Examples
    --------
    >>> from skxmc import SNMClassifier
    >>> from skxmc.datasets import make_xmc_classification
    >>> from skxmc.model_selection import validation_curve
    >>> X, Y = make_xmc_classification(n_samples=200, n_labels=30, random_state=0)
    >>> train_scores, test_scores = validation_curve(
    ...     SNMClassifier(random_state=0), X, Y, param_name="max_epochs", param_range=[1, 4], cv=2
    ... )
    >>> test_scores.shape
    (2, 2)
    """
    with config_context(skip_parameter_validation=True):
        return model_selection.validation_curve(
            estimator,
            X,
            y,
            param_name=param_name,
            param_range=param_range,
            groups=groups,
            cv=cv,
            scoring=as_scoring(scoring),
            n_jobs=n_jobs,
            pre_dispatch=pre_dispatch,
            verbose=verbose,
            error_score=error_score,
            params=params,
        )
