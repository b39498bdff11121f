"""Signals for candidates, scores as log p, and the order of candidates."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.preprocessing import normalize

from skxmc.heads import candidate_dots, log_scores, sort_candidates
from skxmc.topk import TopK


@pytest.mark.parametrize("with_bias", [False, True])
def test_candidate_dots_against_dense(csr_container, with_bias):
    rng = np.random.default_rng(0)
    X = np.where(rng.random((20, 9)) < 0.4, rng.normal(size=(20, 9)), 0)
    X[3] = 0
    rows = np.where(rng.random((6, 9)) < 0.5, rng.normal(size=(6, 9)), 0)
    bias = rng.normal(size=6) if with_bias else None
    top = TopK(rng.integers(-1, 6, size=(20, 4)), np.zeros((20, 4)))
    dense = normalize(X) @ rows.T + (bias if with_bias else 0)
    expected = np.where(top.indices >= 0, np.take_along_axis(dense, top.indices, axis=1), -np.inf)
    dots = candidate_dots(csr_container(X), csr_container(rows), top, bias=bias)
    assert dots.dtype == np.float32
    np.testing.assert_allclose(dots, expected, rtol=1e-5, atol=1e-6)


def test_ties_go_to_the_smaller_label_and_padding_comes_last():
    indices = np.array([[5, -1, 2, 9, 4], [-1, -1, 3, 1, 0]])
    scores = np.array([[1.0, 7.0, 1.0, -np.inf, 2.0], [np.nan, np.inf, 0.0, 0.0, 0.0]])
    out = sort_candidates(indices, scores)
    np.testing.assert_array_equal(out.indices, [[4, 2, 5, 9, -1], [0, 1, 3, -1, -1]])
    np.testing.assert_array_equal(
        out.scores, np.array([[2, 1, 1, -np.inf, -np.inf], [0, 0, 0, -np.inf, -np.inf]])
    )


def test_log_scores_of_extreme_values():
    top = TopK(np.array([[0, 1, 2, -1]]), np.array([[500.0, -500.0, 0.0, np.nan]]))
    np.testing.assert_allclose(
        log_scores(top, form="logit"), [[0.0, -500.0, -np.log(2), -np.inf]], rtol=1e-6
    )
    top = TopK(np.array([[0, 1, -1]]), np.array([[1.0, 0.0, -np.inf]]))
    np.testing.assert_array_equal(log_scores(top), [[0.0, -np.inf, -np.inf]])


def test_scores_that_do_not_fit_are_refused():
    logits = TopK(np.array([[0, 1]]), np.array([[1.0, -0.5]]))
    with pytest.raises(ValueError, match=r"probability values, got -0\.5; form may be one of"):
        log_scores(logits)
    with pytest.raises(ValueError, match="logit values, got nan"):
        log_scores(TopK(np.array([[0]]), np.array([[np.nan]])), form="logit")
    with pytest.raises(ValueError, match=r"shape of topk.indices, \(1, 1\), got \(1, 2\)"):
        log_scores(TopK(np.array([[0]]), np.array([[0.5, 0.5]])))
    with pytest.raises(ValueError, match=r"bias must have shape \(7,\), got \(6,\)"):
        candidate_dots(
            np.ones((1, 2)), sp.csr_array((7, 2)), TopK(np.array([[0]]), [[1]]), bias=np.zeros(6)
        )
