"""Raw text, filter files and the .npz pair."""

import gzip
import json
import os

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from skxmc.datasets import (
    XMCFormatError,
    apply_filter,
    dump_xmc_npz,
    load_filter_pairs,
    load_xmc_json,
    load_xmc_npz,
)
from skxmc.topk import TopK

from .oracles import SUFFIXES, assert_same, random_csr, write_text

RECORDS = [
    {"uid": "a", "title": "Tea", "content": "Hot é", "target_ind": [2, 0], "target_rel": [1.0, 1]},
    {"uid": "b", "title": "", "content": "Alone", "target_ind": [], "target_rel": []},
    {"uid": "c", "title": "Cup", "target_ind": [1, 1, 3], "target_rel": [1.0, 1.0, 0.0]},
    {"uid": "d", "title": ""},
]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_json(tmp_path, suffix):
    lines = "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)
    path = write_text(tmp_path / f"trn.json{suffix}", lines + "\n\n")
    texts, Y = load_xmc_json(path, n_labels=5)
    assert texts == ["Tea Hot é", "Alone", "Cup", ""]
    expected = np.zeros((4, 5))
    expected[[0, 0, 2], [2, 0, 1]] = 1
    assert_same(Y, expected, np.int8)
    assert load_xmc_json(path)[1].shape == (4, 3)
    assert load_xmc_json(path, fields=["title"])[0] == ["Tea", "", "Cup", ""]


def test_json_of_labels_and_of_nothing(tmp_path):
    path = write_text(tmp_path / "lbl.json", '{"uid": "x", "title": "A"}\n{"title": "B"}\n')
    texts, Y = load_xmc_json(path)
    assert texts == ["A", "B"]
    assert Y.shape == (2, 0)
    texts, Y = load_xmc_json(write_text(tmp_path / "none.json", ""), n_labels=3)
    assert texts == []
    assert Y.shape == (0, 3)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"title": ', "not JSON"),
        ("[1, 2]", "an object is needed, got list"),
        ('{"uid": "a"}', "one of the fields title, content is needed, there are: uid"),
        ('{"title": 3}', "must be strings"),
        ('{"title": "", "target_ind": 3}', "list of numbers"),
        ('{"title": "", "target_ind": ["1"]}', "list of numbers"),
        ('{"title": "", "target_ind": [-1]}', "list of numbers"),
        ('{"title": "", "target_ind": [true]}', "list of numbers"),
        ('{"title": "", "target_ind": [1, 7]}', "label id 7 is out of range; it must be below 5"),
        ('{"title": "", "target_ind": [1], "target_rel": []}', "as long as target_ind"),
    ],
)
def test_json_complains(tmp_path, line, reason):
    path = write_text(tmp_path / "trn.json", '{"title": "fine"}\n\n' + line)
    with pytest.raises(XMCFormatError, match="line 3") as caught:
        load_xmc_json(path, n_labels=5)
    assert reason in caught.value.reason


def test_json_complains_about_bytes_and_size(tmp_path):
    path = tmp_path / "trn.json"
    path.write_bytes(b'{"title": "\xff"}')
    with pytest.raises(XMCFormatError, match="line 1: not JSON"):
        load_xmc_json(path)
    write_text(path, '{"title": "", "target_ind": [99999999999999999999]}')
    with pytest.raises(XMCFormatError, match="out of range"):
        load_xmc_json(path)
    with pytest.raises(TypeError, match="n_labels must be an int"):
        load_xmc_json(path, n_labels=2.5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_filter_pairs(tmp_path, suffix):
    path = write_text(tmp_path / f"filter.txt{suffix}", "0 2\n2 0\n\n0 2\n0\t1\n")
    expected = [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert_same(load_filter_pairs(path, (3, 3)), np.array(expected), np.int8)
    assert load_filter_pairs(write_text(path, ""), (3, 4)).shape == (3, 4)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1", "two numbers"),
        ("1 2 3", "two numbers"),
        ("1 -2", "two numbers"),
        ("1 x", "two numbers"),
        ("1 1234567890123456789", "two numbers"),
        ("3 0", "the pair 3 0 is outside the shape 3 x 4"),
        ("0 4", "the pair 0 4 is outside the shape 3 x 4"),
    ],
)
def test_filter_pairs_complains(tmp_path, line, reason):
    path = write_text(tmp_path / "filter.txt", "0 1\n" + line)
    with pytest.raises(XMCFormatError, match="line 2") as caught:
        load_filter_pairs(path, (3, 4))
    assert reason in caught.value.reason


@given(st.integers(0, 2**32 - 1))
def test_apply_filter_matches_a_loop(seed):
    rng = np.random.default_rng(seed)
    n_rows, n_labels, k = rng.integers(0, 5), rng.integers(1, 8), rng.integers(0, 6)
    indices = np.full((n_rows, k), -1)
    scores = np.full((n_rows, k), -np.inf, dtype=np.float32)
    expected = TopK(indices.copy(), scores.copy())
    pairs = random_csr(rng, (n_rows, n_labels), 0.3, np.int8)
    for i in range(n_rows):
        n = rng.integers(0, min(k, n_labels) + 1)
        indices[i, :n] = rng.permutation(n_labels)[:n]
        scores[i, :n] = np.sort(rng.normal(size=n))[::-1]
        left = [j for j in range(n) if not pairs[i, indices[i, j]]]
        expected.indices[i, : len(left)] = indices[i, left]
        expected.scores[i, : len(left)] = scores[i, left]
    before = indices.copy(), scores.copy()
    result = apply_filter(TopK(indices, scores), pairs)
    assert isinstance(result, TopK)
    for part, wanted, old, now in zip(result, expected, before, (indices, scores), strict=True):
        np.testing.assert_array_equal(part, wanted)
        np.testing.assert_array_equal(old, now)
        assert part.dtype == wanted.dtype


def test_apply_filter_ignores_stored_zeros_and_refuses_other_shapes(csr_container):
    top = TopK(np.array([[1, 0]]), np.array([[0.9, 0.1]], dtype=np.float32))
    zero = csr_container((np.array([0]), np.array([1]), np.array([0, 1])), shape=(1, 2))
    np.testing.assert_array_equal(apply_filter(top, zero).indices, top.indices)
    with pytest.raises(ValueError, match="topk has 1 rows and pairs has 2"):
        apply_filter(top, csr_container((2, 2)))
    with pytest.raises(ValueError, match="topk holds label 1, but pairs has 1 columns"):
        apply_filter(top, csr_container((1, 1)))


def test_npz_round_trip(tmp_path, csr_container):
    rng = np.random.default_rng(0)
    X = random_csr(rng, (20, 9), 0.3, np.float32)
    Y = random_csr(rng, (20, 5), 0.3, np.int8)
    paths = tmp_path / "X.npz", tmp_path / "Y.npz"
    dump_xmc_npz(*paths, csr_container(X), csr_container(Y).astype(np.float64))
    assert sorted(os.listdir(tmp_path)) == ["X.npz", "Y.npz"]
    first = [path.read_bytes() for path in paths]
    X_read, Y_read = load_xmc_npz(*paths)
    assert_same(X_read, X, np.float32)
    assert_same(Y_read, Y, np.int8)
    dump_xmc_npz(*paths, X_read, Y_read)
    assert load_xmc_npz(*paths)[0].nnz == X.nnz
    assert len(first[1]) > 0


def test_npz_becomes_canonical(tmp_path):
    paths = tmp_path / "X.npz", tmp_path / "Y.npz"
    X = sp.csr_matrix((np.ones(3), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3))
    sp.save_npz(paths[0], X)
    sp.save_npz(paths[1], sp.coo_array((np.array([0, 1]), ([0, 0], [0, 1])), shape=(1, 2)))
    X_read, Y_read = load_xmc_npz(*paths)
    assert_same(X_read, np.array([[1, 0, 2]]), np.float32)
    assert_same(Y_read, np.array([[0, 1]]), np.int8)
    assert Y_read.nnz == 1


def test_npz_complains(tmp_path):
    X_path, Y_path = tmp_path / "X.npz", tmp_path / "Y.npz"
    dump_xmc_npz(X_path, Y_path, [[1.0]], [[1]])
    whole = X_path.read_bytes()
    arrays = {"format": b"csr", "shape": (1, 2), "data": [1.0], "indptr": [0, 1]}
    np.savez(tmp_path / "outside.npz", **arrays, indices=[7])
    np.savez(tmp_path / "other.npz", a=[1])
    np.save(tmp_path / "array.npy", [1])
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_bytes(gzip.compress(b"text"))
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("outside.npz", "other.npz", "array.npy", "short.npz", "text.npz", "empty.npz"):
        with pytest.raises(XMCFormatError, match="no sparse matrix") as caught:
            load_xmc_npz(tmp_path / name, Y_path)
        assert caught.value.line is None
        assert name in str(caught.value)
    sp.save_npz(Y_path, sp.csr_array([[2.0]]))
    with pytest.raises(ValueError, match=r"X\.npz.*0 and 1 only, got 2\.0"):
        load_xmc_npz(X_path, Y_path)
    with pytest.raises(FileNotFoundError):
        load_xmc_npz(tmp_path / "none.npz", Y_path)
