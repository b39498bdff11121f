"""What goes in: containers, index dtypes, padding, k beyond the width, and every refusal."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from skxmc.metrics import evaluate_topk, ndcg_at_k, precision_at_k, psp_at_k, recall_at_k
from skxmc.topk import TopK, topk_from_csr

Y = np.array([[1, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]])
SCORES = np.array(
    [[0.1, 0.9, 0.8, 0.0, -1.0], [0.5, 0.5, 0.0, 0.0, 0.7], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]]
)
TOP = np.array([[1, 2, 0, 3, 4], [4, 0, 1, 2, 3], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]])


def all_stored(scores, kind=sp.csr_array, index=np.int32):
    """A sparse matrix that stores every cell, zeros among them, in falling column order."""
    n, width = scores.shape
    columns = np.tile(np.arange(width)[::-1], n)
    out = kind((scores[:, ::-1].ravel(), columns, np.arange(n + 1) * width), shape=scores.shape)
    out.indices, out.indptr = out.indices.astype(index), out.indptr.astype(index)
    return out


def values(y_true, y_score):
    return list(evaluate_topk(y_true, y_score, (1, 3, 5)).values())


EXPECTED = values(Y, TOP)


def test_expected_by_hand():
    assert precision_at_k(Y, TOP, 1) == 1 / 4
    assert precision_at_k(Y, TOP, 3) == pytest.approx((2 / 3 + 2 / 3) / 4)
    assert recall_at_k(Y, TOP, 5) == pytest.approx(3 / 4)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32, np.float64, bool])
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array])
def test_truth_unsorted_with_explicit_zeros(kind, dtype, index):
    truth = all_stored(Y.astype(dtype), kind, index)
    before = [a.copy() for a in (truth.data, truth.indices, truth.indptr)]
    assert values(truth, TOP) == EXPECTED
    after = (truth.data, truth.indices, truth.indptr)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_matrix, sp.coo_array, sp.lil_matrix])
def test_truth_in_any_format(kind):
    assert values(kind(Y), TOP) == EXPECTED


@pytest.mark.parametrize("truth", [Y, Y.astype(bool), Y.astype(float), Y.tolist()])
def test_dense_truth(truth):
    assert values(truth, TOP) == EXPECTED


@pytest.mark.parametrize(
    "y_score",
    [
        TopK(TOP, -np.arange(5) * np.ones((4, 1))),
        TOP.astype(np.int32),
        TOP.astype(np.uint8),
        TOP.tolist(),
        SCORES,
        SCORES.astype(np.float32),
        topk_from_csr(all_stored(SCORES), 5),
    ],
)
def test_forms_of_predictions(y_score):
    assert values(Y, y_score) == EXPECTED


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array, sp.coo_array, sp.csc_array])
def test_sparse_predictions_keep_explicit_zeros_as_scores(kind, index):
    stored = all_stored(SCORES, sp.csr_array, index)
    assert values(Y, kind(stored)) == EXPECTED
    # An absent entry is not a score: row 3 has no prediction, so nothing is found there.
    assert recall_at_k(Y, sp.csr_array(SCORES), 5) == pytest.approx(2 / 4)


def test_integer_and_minus_inf_sparse_scores():
    scores = sp.csr_array(np.array([[3, 1], [0, 2]], dtype=np.uint8))
    assert precision_at_k([[1, 0], [0, 1]], scores, 1) == 1.0
    stored = sp.csr_array(np.array([[-np.inf, -np.inf]]))
    assert recall_at_k([[1, 1]], stored, 2) == 0.0


def test_padding_misses():
    padded = np.where(np.arange(5) < 2, TOP, -1)
    assert precision_at_k(Y, padded, 5) == pytest.approx(precision_at_k(Y, TOP, 2) * 2 / 5)
    assert recall_at_k(Y, padded, 5) == recall_at_k(Y, TOP, 2)


def test_k_beyond_what_was_predicted():
    with pytest.raises(
        ValueError, match=r"2 labels a row, too few for k=3\. Predict with a larger"
    ):
        precision_at_k(Y, TOP[:, :2], 3)
    with pytest.raises(ValueError, match="too few for k=5"):
        precision_at_k(Y, TopK(TOP[:, :2], SCORES[:, :2]), [1, 9])


def test_k_beyond_the_number_of_labels_only_adds_misses():
    for y_score in (TOP, SCORES, all_stored(SCORES)):
        assert precision_at_k(Y, y_score, 10**9) == pytest.approx(3 / 4 * 5 / 3 / 10**9)
        assert recall_at_k(Y, y_score, [5, 50]).tolist() == [0.75, 0.75]
        assert ndcg_at_k(Y, y_score, 50) == ndcg_at_k(Y, y_score, 5)


def test_one_row_one_label():
    assert (
        values([[1]], [[0]]) == values([[1]], [[0.5]]) == pytest.approx([1, 1 / 3, 1 / 5] + [1] * 6)
    )


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ([[0, 1], [2, 0]], r"only 0 and 1, got .*2.*MultiLabelBinarizer"),
        ([[0.5, 1.0]], r"only 0 and 1, got .*0\.5"),
        ([[np.nan, 1.0]], "only 0 and 1, got .*nan"),
        ([[-1, 1]], "only 0 and 1"),
        (sp.csr_array(np.array([[0, 3]])), "only 0 and 1"),
        ([[1, 2], [0]], "list of shape.*MultiLabelBinarizer"),
        ([["a", "b"]], "MultiLabelBinarizer"),
        ([0, 1, 1], "0/1 indicator"),
        (np.zeros((0, 3)), "at least one row"),
        (np.zeros((3, 0)), "at least one row and one label"),
    ],
)
def test_refused_truth(truth, message):
    with pytest.raises(ValueError, match=message):
        precision_at_k(truth, TOP, 1)


@pytest.mark.parametrize(
    ("y_score", "message"),
    [
        (TOP[:3], r"4 rows.*\(3, 5\).*TopK"),
        (TOP[0], "4 rows"),
        (np.where(TOP == 4, 5, TOP), "from 0 to 5, allowed are 0 to 4"),
        (np.where(TOP == 4, -2, TOP), "from -2"),
        (np.zeros((4, 5), dtype=int), r"row 0 holds a label more than once.*scores as floats"),
        (SCORES[:, :4], r"shape \(4, 5\), got \(4, 4\).*TopK"),
        (np.where(SCORES == 5, np.nan, SCORES), "NaN"),
        (sp.csr_array(SCORES[:, :4]), "shape"),
        (sp.csr_array(np.where(SCORES == 5, np.nan, SCORES)), "NaN"),
        ([[0, 1], [0], [1], [2]], "different lengths.*TopK"),
    ],
)
def test_refused_predictions(y_score, message):
    with pytest.raises(ValueError, match=message):
        precision_at_k(Y, y_score, 1)


def test_refused_prediction_types():
    for y_score in (Y.astype(bool), np.array([["a"] * 5] * 4), None):
        with pytest.raises(TypeError, match="TopK"):
            precision_at_k(Y, y_score, 1)


@pytest.mark.parametrize(
    ("k", "error"),
    [(0, ValueError), (-1, ValueError), ([], ValueError), ([1, 0], ValueError)]
    + [
        (1.0, TypeError),
        (True, TypeError),
        ("5", TypeError),
        (None, TypeError),
        ([[1]], TypeError),
    ],
)
def test_refused_k(k, error):
    with pytest.raises(error, match="k must be an int"):
        precision_at_k(Y, TOP, k)


@pytest.mark.parametrize(
    "weights", [[1, 1, 1], [[1], [1], [1], [1]], [0] * 4, [1, 1, 1, -1], [1, 1, 1, np.nan]]
)
def test_refused_weights(weights):
    with pytest.raises(ValueError, match="sample_weight must"):
        precision_at_k(Y, TOP, 1, sample_weight=weights)


@pytest.mark.parametrize(
    ("propensities", "message"),
    [
        (np.ones(4), r"shape \(5,\), got \(4,\)"),
        (np.zeros(5), r"lie in \(0, 1\]"),
        (np.full(5, 3.0), "If these are inverse propensities"),
        (np.full(5, np.nan), "lie in"),
        (None, "need propensities"),
    ],
)
def test_refused_propensities(propensities, message):
    with pytest.raises(ValueError, match=message):
        psp_at_k(Y, TOP, 1, propensities=propensities)


def test_memory_stays_far_below_dense():
    n, n_labels = 20_000, 100_000  # 16 GB as a dense float64 matrix
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, n_labels // 5, (n, 5)) * 5 + np.arange(5), axis=1)
    truth = sp.csr_array(
        (np.ones(n * 5, np.int8), labels.ravel(), np.arange(n + 1) * 5), shape=(n, n_labels)
    )
    top = np.concatenate([labels[:, :2], labels[:, :1] // 5 * 5 + np.arange(5, 103)], axis=1)
    top[:, 2:] = (top[:, 2:] + 500) % n_labels
    top = np.where((np.sort(top, 1)[:, 1:] == np.sort(top, 1)[:, :-1]).any(1)[:, None], -1, top)
    everything = ["precision", "recall", "ndcg", "psp", "psndcg", "mrr", "map"]
    everything += ["coverage", "macro_precision", "macro_recall", "macro_f1"]
    tracemalloc.start()
    evaluate_topk(truth, top, (1, 5, 100), everything, propensities=np.full(n_labels, 0.5))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6


def test_import_loads_neither_torch_nor_numba():
    code = "import sys, skxmc.metrics; assert not {'torch', 'numba'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
