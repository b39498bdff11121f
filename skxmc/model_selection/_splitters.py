"""Splitters that look at the labels, so that rare ones are not lost from the training rows."""

import warnings
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from skxmc._targets import encode_targets
from skxmc._validation import check_int, check_number

_NOWHERE = -1  # fold of a label none of whose rows has one yet


class LabelCoverKFold(BaseCrossValidator):
    """K folds in random order, in which labels of two or more rows stay in every training part.

    A label whose rows all fall into one fold cannot be learned when that fold is held out. Rows are
    given to folds one by one, the smallest fold first, and the last row of a label avoids the fold
    that holds all its others. A label of a single row is necessarily missing once.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, >= 2.
    random_state : int, RandomState or None, default=None
        Seed of the order.

    See Also
    --------
    LabelCoverShuffleSplit : Loses no label at all, but never tests on a label's only row.

    Notes
    -----
    The assignment is greedy. Where a row is the last one of several labels it may not suit them
    all, with two folds more often than with more; it then loses as few as it can. Fold sizes may
    differ by a few rows. Time and memory are linear in the number of positives.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from skxmc.model_selection import LabelCoverKFold
    >>> Y = sp.csr_array([[1, 0], [1, 0], [0, 1], [0, 1]])
    >>> for train, test in LabelCoverKFold(2, random_state=0).split(Y, Y):
    ...     print(Y[train].sum(axis=0))
    [1 1]
    [1 1]
    """

    def __init__(self, n_splits=5, *, random_state=None):
        self.n_splits = n_splits
        self.random_state = random_state

    def get_n_splits(self, X=None, y=None, groups=None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object
            Ignored, as in scikit-learn.

        Returns
        -------
        n_splits : int
            The parameter.
        """
        return self.n_splits

    def split(self, X, y, groups=None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows to train and to test on, for each fold.

        Parameters
        ----------
        X : object
            Ignored; the rows are those of y.
        y : {sparse, array-like} of shape (n_rows, n_labels) or (n_rows,)
            0/1 indicator of the labels, or one label a row.
        groups : object
            Ignored.

        Yields
        ------
        train, test : ndarray of int64
            Row numbers, ascending.

        Raises
        ------
        ValueError
            If `n_splits` is less than 2 or more than there are rows, or y is malformed.
        """
        check_int(self, "n_splits", self.n_splits, minimum=2)
        Y = encode_targets(y).Y
        if self.n_splits > Y.shape[0]:
            raise ValueError(
                f"LabelCoverKFold: n_splits={self.n_splits} is more than the {Y.shape[0]} rows of "
                "y; ask for fewer folds."
            )
        fold_of = _assign_folds(Y, self.n_splits, check_random_state(self.random_state))
        for fold in range(self.n_splits):
            yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


class LabelCoverShuffleSplit(BaseCrossValidator):
    """Random splits in which every label keeps at least one training row.

    Rows are drawn in random order, and a row goes to the test part only if each of its labels has
    another row left in the training part. With one split it takes the place of `train_test_split`.

    Parameters
    ----------
    n_splits : int, default=5
        Number of splits, drawn independently.
    test_size : float, default=0.2
        Share of the rows to test on, in (0, 1).
    random_state : int, RandomState or None, default=None
        Seed of the order.

    See Also
    --------
    LabelCoverKFold : Tests on every row once.

    Notes
    -----
    The only row of a label is never tested on, so that figures leave out what no method could get
    right; they are higher than those of a plain random split and not comparable with them.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from skxmc.model_selection import LabelCoverShuffleSplit
    >>> Y = sp.csr_array([[1, 0], [1, 0], [1, 0], [0, 1]])
    >>> train, test = next(LabelCoverShuffleSplit(1, test_size=0.5, random_state=0).split(Y, Y))
    >>> Y[train].sum(axis=0)
    array([1, 1])
    """

    def __init__(self, n_splits=5, *, test_size=0.2, random_state=None):
        self.n_splits = n_splits
        self.test_size = test_size
        self.random_state = random_state

    def get_n_splits(self, X=None, y=None, groups=None) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object
            Ignored, as in scikit-learn.

        Returns
        -------
        n_splits : int
            The parameter.
        """
        return self.n_splits

    def split(self, X, y, groups=None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows to train and to test on, for each split.

        Parameters
        ----------
        X : object
            Ignored; the rows are those of y.
        y : {sparse, array-like} of shape (n_rows, n_labels) or (n_rows,)
            0/1 indicator of the labels, or one label a row.
        groups : object
            Ignored.

        Yields
        ------
        train, test : ndarray of int64
            Row numbers, ascending.

        Raises
        ------
        ValueError
            If a parameter is out of range, y is malformed, or each row has a label of its own.

        Warns
        -----
        UserWarning
            If fewer rows than asked for can be spared.
        """
        check_int(self, "n_splits", self.n_splits, minimum=1)
        check_number(self, "test_size", self.test_size, above=0, below=1)
        Y = encode_targets(y).Y
        rng = check_random_state(self.random_state)
        for _ in range(self.n_splits):
            test = _hold_out(Y, max(1, round(self.test_size * Y.shape[0])), rng)
            yield np.flatnonzero(~test), np.flatnonzero(test)


def _labels_by_row(Y: sp.csr_array, order: np.ndarray) -> Iterator[tuple[int, list[int]]]:
    """Yield each row with its labels, in the order given."""
    shuffled = Y[order]
    ends = pairwise(shuffled.indptr.tolist())
    for row, (start, end) in zip(order.tolist(), ends, strict=True):
        yield row, shuffled.indices[start:end].tolist()


def _count_labels(Y: sp.csr_array) -> list[int]:
    return np.bincount(Y.indices, minlength=Y.shape[1]).tolist()


def _assign_folds(Y: sp.csr_array, n_splits: int, rng: np.random.RandomState) -> np.ndarray:
    several = n_splits  # home of a label whose rows are in two folds or more
    left, home = _count_labels(Y), [_NOWHERE] * Y.shape[1]
    sizes, fold_of = [0] * n_splits, np.empty(Y.shape[0], dtype=np.int64)
    for row, labels in _labels_by_row(Y, rng.permutation(Y.shape[0])):
        lost = [0] * (n_splits + 1)  # labels that each fold would keep to itself
        for label in labels:
            left[label] -= 1
            if left[label] == 0 and home[label] != _NOWHERE:
                lost[home[label]] += 1
        fold = min(range(n_splits), key=list(zip(lost, sizes, strict=False)).__getitem__)
        for label in labels:
            home[label] = fold if home[label] in (_NOWHERE, fold) else several
        sizes[fold] += 1
        fold_of[row] = fold
    return fold_of


def _hold_out(Y: sp.csr_array, n_test: int, rng: np.random.RandomState) -> np.ndarray:
    """Mark up to `n_test` rows without which every label still has one."""
    left, n_taken = _count_labels(Y), 0
    test = np.zeros(Y.shape[0], dtype=bool)
    for row, labels in _labels_by_row(Y, rng.permutation(Y.shape[0])):
        if n_taken == min(n_test, Y.shape[0] - 1):
            break
        if all(left[label] > 1 for label in labels):
            for label in labels:
                left[label] -= 1
            test[row] = True
            n_taken += 1
    if n_taken == 0:
        raise ValueError(
            "LabelCoverShuffleSplit: every row has a label that no other row has, so none can be "
            "held out. Use LabelCoverKFold, or drop labels of a single row."
        )
    if n_taken < n_test:
        warnings.warn(
            f"LabelCoverShuffleSplit: {n_taken} of the {n_test} test rows asked for can be held "
            "out without losing a label from training; the rest stays in training.",
            stacklevel=3,
        )
    return test
