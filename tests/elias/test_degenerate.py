"""Sizes at which something runs out: rows, labels, features, clusters, edges, the beam."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from skxmc import EliasClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords

X, Y = make_xmc_classification(n_samples=60, n_features=40, n_labels=10, random_state=0)


def quick(**parameters):
    defaults = {
        "encoder": BagOfWords(embedding_dim=4),
        "stage1_epochs": 2,
        "stage2_epochs": 1,
        "max_leaf": 4,
        "random_state": 0,
    }
    return EliasClassifier(**{**defaults, **parameters})


def without(matrix, rows=(), columns=()):
    dense = matrix.toarray()
    dense[list(rows)] = 0
    dense[:, list(columns)] = 0
    return sp.csr_array(dense)


DATA = {
    "1 row": (X[:1], Y[:1]),
    "2 rows": (X[:2], Y[:2]),
    "1 label": (X, Y[:, :1]),
    "1 feature": (X[:, :1], Y),
    "1 row, label and feature": (sp.csr_array([[2.0]]), sp.csr_array([[1]])),
    "3 labels": (X, Y[:, :3]),
    "empty rows of X": (without(X, rows=[0, 5, 59]), Y),
    "X all empty": (sp.csr_array(X.shape), Y),
    "empty rows of Y": (X, without(Y, rows=[0, 5, 59])),
    "labels without positives": (X, without(Y, columns=[0, 3, 9])),
    "Y all empty": (X, sp.csr_array(Y.shape)),
    "Y all full": (X, sp.csr_array(np.ones(Y.shape))),
    "all empty": (sp.csr_array((1, 1)), sp.csr_array((1, 1))),
    "equal rows": (X[[3] * 60], Y[[3] * 60]),
}
SETTINGS = {
    "quick": {},
    "defaults": {"max_leaf": 100, "encoder": None},
    "more clusters than labels": {"n_clusters": 64},
    "one label a cluster": {"max_leaf": 1},
    "one edge, one cluster": {"n_clusters": 8, "kappa": 1, "beam_width": 1},
    "one label in the shortlist": {"train_shortlist_size": 1, "shortlist_size": 1},
    "one row a step": {"batch_size": 1},
    "one step": {"batch_size": 1000},
    "recluster": {"recluster": True, "n_clusters": 4},
    "label vectors from centroids": {"label_init": "centroids"},
    "bfloat16": {"precision": "bfloat16"},
    "dense layers": {"encoder": BagOfWords(4, n_layers=1, feature_dropout=0.5)},
    "no epochs": {"stage1_epochs": 0, "stage2_epochs": 0},
}


def check_answers(model, X, Y):
    n_rows, n_labels = Y.shape
    indices, scores = model.predict_topk(X, k=n_labels)
    found = indices >= 0
    assert found[:, 0].all(), "every row gets a label"
    assert np.isfinite(scores[found]).all()
    assert (scores[found] >= 0).all()
    assert (scores[found] <= 1).all()
    assert (scores[~found] == -np.inf).all()
    dense = model.decision_function(X)
    assert dense.shape == (n_rows, n_labels)
    assert not np.isnan(dense).any()
    predicted = model.predict(X)
    assert predicted.shape == (n_rows, n_labels)
    truth = Y.toarray()
    best = model.predict_topk(X, k=1).indices[:, 0]  # a larger k may widen the shortlist
    by_hand = np.mean([truth[i, label] for i, label in enumerate(best)])
    assert model.score(X, Y) == pytest.approx(by_hand)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", DATA)
def test_fits_and_answers(case, setting):
    rows, truth = DATA[case]
    model = quick(**SETTINGS[setting]).fit(rows, truth)
    check_answers(model, rows, truth)
    assert model.index_.reachable_fraction_ == 1.0
    assert model.n_labels_ == truth.shape[1]
    np.testing.assert_array_equal(model.label_counts_, truth.toarray().sum(axis=0))


@settings(max_examples=25)
@given(st.data())
def test_small_data_of_any_shape(data):
    n_rows, n_features, n_labels = (data.draw(st.integers(1, 6)) for _ in range(3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = sp.csr_array(rng.integers(-1, 3, (n_rows, n_features)).astype(float))
    truth = sp.csr_array(rng.integers(0, 2, (n_rows, n_labels)))
    parameters = {
        "n_clusters": data.draw(st.sampled_from(["auto", 1, 2, 8])),
        "beam_width": data.draw(st.integers(1, 3)),
        "kappa": data.draw(st.sampled_from(["auto", 1, 2])),
        "shortlist_size": data.draw(st.integers(1, 4)),
    }
    check_answers(quick(**parameters).fit(rows, truth), rows, truth)


def test_clusters_are_never_empty():
    """An empty cluster would take a place in the beam and lead nowhere."""
    for n_labels in range(1, 9):
        model = quick(n_clusters=64, stage2_epochs=0).fit(X, Y[:, :n_labels])
        n_clusters = model.index_.n_clusters
        assert n_clusters <= n_labels
        assert 2 * n_clusters > n_labels, "as many as there may be"
        assert (model.index_.edges.numpy() >= 0).any(axis=1).all()
        assert (model.predict_topk(X, k=1).indices >= 0).all()


def test_one_label_is_always_found():
    model = quick(n_clusters=64, beam_width=1).fit(X, Y[:, :1])
    assert (model.predict_topk(X, k=1).indices == 0).all()


def test_beam_wider_than_the_clusters_is_the_whole_search():
    """20 clusters of 4 are 4; so are 1000."""
    model = quick().fit(X, Y)
    found = model.decision_function(X)
    np.testing.assert_array_equal(model.set_params(beam_width=1000).decision_function(X), found)


def test_empty_rows_of_x_get_the_frequent_labels():
    """Nothing is known of them but how often labels are."""
    rows = sp.vstack([without(X, rows=[0]), sp.csr_array((1, X.shape[1]))], format="csr")
    model = quick(n_clusters=1, stage1_epochs=0, stage2_epochs=0, ranker=None)
    model.fit(rows[:-1], Y)
    top = model.predict_topk(rows, k=10).indices
    counts = Y.toarray().sum(axis=0)
    np.testing.assert_array_equal(top[-1], np.lexsort((np.arange(10), -counts)))
    np.testing.assert_array_equal(top[0], top[-1])


def test_labels_of_empty_rows_alone_do_not_take_over():
    """Their gradients move nothing but the bias, whose steps must not have the row's rate."""
    rows = sp.vstack([sp.csr_array((8, X.shape[1])), X], format="csr")
    own = sp.csr_array(np.ones((8, 1)))
    truth = sp.block_diag([own, Y], format="csr")
    model = quick(stage1_epochs=20, ranker=None).fit(rows, truth)
    assert np.abs(model.model_.head.rows.bias.numpy()).max() < 30
    assert (model.predict_topk(X, k=1).indices[:, 0] == 0).mean() < 0.1


def test_labels_without_positives_are_ranked_last():
    truth = without(Y, columns=[2, 7])
    model = quick(stage1_epochs=20, n_clusters=1).fit(X, truth)
    last = model.predict_topk(X, k=10).indices[:, -2:]
    assert (np.sort(last, axis=1) == [2, 7]).mean() > 0.9


def test_one_class():
    model = quick().fit(X, ["only"] * 60)
    assert model.classes_.tolist() == ["only"]
    assert model.predict(X).tolist() == ["only"] * 60
    assert model.score(X, ["only"] * 60) == 1.0


def test_two_classes_and_a_narrow_search():
    y = np.repeat(["a", "b"], 30)
    for parameters in ({}, {"n_clusters": 2, "beam_width": 1}, {"shortlist_size": 1}):
        model = quick(stage1_epochs=10, **parameters).fit(X, y)
        scores = model.decision_function(X)
        assert scores.shape == (60,)
        assert not np.isnan(scores).any()
        np.testing.assert_array_equal(np.where(scores > 0, "b", "a"), model.predict(X))


@pytest.mark.parametrize("n_rows", [1, 4])
def test_too_few_rows_to_hold_out(n_rows):
    with pytest.raises(ValueError, match=rf"leaves 0 of {n_rows} rows for validation"):
        quick(early_stopping=True).fit(X[:n_rows], Y[:n_rows])
