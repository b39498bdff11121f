"""Splitters: partitions, balance, and labels that stay in training."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from toy_rankers import CentroidClassifier

from skxmc.metrics import TopKScorer
from skxmc.model_selection import LabelCoverKFold, LabelCoverShuffleSplit


def rare_labels(container=sp.csr_array, n_rows=400, n_labels=300, seed=0):
    """Two labels a row on average, most labels in a few rows only."""
    rng = np.random.default_rng(seed)
    weights = 1 / (np.arange(n_labels) + 5)
    columns = rng.choice(n_labels, size=(n_rows, 2), p=weights / weights.sum())
    Y = np.zeros((n_rows, n_labels), dtype=np.int8)
    np.put_along_axis(Y, columns, 1, axis=1)
    return container(Y)


def n_lost(Y, splitter):
    """Labels of two rows or more that are missing in some training part, counted once a split."""
    Y = Y.toarray()
    several = Y.sum(axis=0) >= 2
    return sum((several & (Y[train].sum(axis=0) == 0)).sum() for train, _ in splitter.split(Y, Y))


@pytest.mark.parametrize("n_splits", [2, 5])
def test_k_fold_keeps_labels_in_training(csr_container, n_splits):
    Y = rare_labels(csr_container)
    splitter = LabelCoverKFold(n_splits, random_state=0)
    plain = n_lost(Y, KFold(n_splits, shuffle=True, random_state=0))
    assert n_lost(Y, splitter) <= 0.1 * plain
    assert plain > 5
    if n_splits == 5:
        assert n_lost(Y, splitter) == 0
    tests = [test for _, test in splitter.split(None, Y)]
    assert sorted(np.concatenate(tests)) == list(range(Y.shape[0]))
    assert all(np.all(np.diff(test) > 0) for test in tests)
    assert max(map(len, tests)) - min(map(len, tests)) <= 0.05 * Y.shape[0]
    for train, test in splitter.split(None, Y):
        assert sorted([*train, *test]) == list(range(Y.shape[0]))


def test_k_fold_of_labels_with_two_rows_each():
    Y = sp.csr_array(np.repeat(np.eye(50), 2, axis=0))
    for seed in range(5):
        assert n_lost(Y, LabelCoverKFold(2, random_state=seed)) == 0


def test_shuffle_split_loses_no_label(csr_container):
    Y = rare_labels(csr_container)
    present = Y.toarray().any(axis=0)
    splitter = LabelCoverShuffleSplit(3, test_size=0.25, random_state=0)
    assert splitter.get_n_splits() == 3
    parts = list(splitter.split(None, Y))
    for train, test in parts:
        assert len(test) == 100
        assert sorted([*train, *test]) == list(range(400))
        np.testing.assert_array_equal(Y[train].toarray().any(axis=0), present)
    assert parts[0][1].tolist() != parts[1][1].tolist()


def test_shuffle_split_takes_what_it_can():
    Y = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
    with pytest.warns(UserWarning, match="1 of the 2 test rows"):
        train, test = next(LabelCoverShuffleSplit(1, test_size=0.5, random_state=0).split(Y, Y))
    assert train[:2].tolist() == [0, 1]
    assert test[0] in (2, 3)
    with pytest.raises(ValueError, match="every row has a label that no other row has"):
        next(LabelCoverShuffleSplit(1).split(None, np.eye(4)))


@pytest.mark.parametrize("splitter", [LabelCoverKFold(3), LabelCoverShuffleSplit(3)])
def test_same_seed_same_splits(splitter):
    Y = rare_labels()
    splits = []
    for seed in (0, 0, 1):
        splitter.random_state = seed
        splits.append([test.tolist() for _, test in splitter.split(None, Y)])
    assert splits[0] == splits[1] != splits[2]


def test_one_dimensional_y():
    y = np.repeat(["a", "b", "c"], 2)
    for train, _ in LabelCoverKFold(2, random_state=0).split(None, y):
        assert set(y[train]) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "splitter", [LabelCoverKFold(2, random_state=0), LabelCoverShuffleSplit(2, random_state=0)]
)
def test_in_a_search(data, splitter):
    X, Y = data
    search = GridSearchCV(
        CentroidClassifier(), {"power": [0.0]}, scoring=TopKScorer("precision", 3), cv=splitter
    )
    search = clone(search).fit(X, Y)
    train, test = next(splitter.split(X, Y))
    model = CentroidClassifier().fit(X[train], Y[train])
    expected = TopKScorer("precision", 3)(model, X[test], Y[test])
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(expected)
    assert type(splitter).__name__ in repr(search)


def test_refused():
    Y = np.eye(3)
    with pytest.raises(ValueError, match="n_splits must be an int >= 2, got 1"):
        next(LabelCoverKFold(1).split(None, Y))
    with pytest.raises(ValueError, match="n_splits=4 is more than the 3 rows"):
        next(LabelCoverKFold(4).split(None, Y))
    with pytest.raises(ValueError, match="test_size must be a number > 0 and < 1"):
        next(LabelCoverShuffleSplit(1, test_size=1).split(None, Y))
