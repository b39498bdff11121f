"""The text formats: round trips, a slow oracle, scikit-learn's reader, and every complaint."""

import gzip
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_svmlight_file
from sklearn.preprocessing import MultiLabelBinarizer

from skxmc.datasets import (
    XMCFormatError,
    _files,
    dump_sparse_file,
    dump_xmc_file,
    load_sparse_file,
    load_xmc_file,
)

from .oracles import SUFFIXES, assert_same, matrix_pairs, random_csr, read_slowly, write_text


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(deadline=None, max_examples=40)
@given(pair=matrix_pairs())
def test_round_trip(suffix, pair):
    X, Y = pair
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.txt" + suffix)
        dump_xmc_file(path, X, Y)
        X_read, Y_read = load_xmc_file(path)
        assert os.listdir(folder) == [path.name]
        for read in (X_read.toarray(), read_slowly(path)[0].astype(np.float32)):
            np.testing.assert_array_equal(read, X.toarray())
    assert_same(X_read, X, np.float32)
    assert_same(Y_read, Y, np.int8)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(deadline=None, max_examples=25)
@given(pair=matrix_pairs())
def test_round_trip_of_one_matrix(suffix, pair):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trn_X_Xf.txt" + suffix)
        for matrix, dtype in zip(pair, (np.float32, np.int8), strict=True):
            dump_sparse_file(path, matrix)
            assert_same(load_sparse_file(path, dtype=dtype), matrix, dtype)


@pytest.mark.parametrize("block_bytes", [1, 200, 2**22])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_matches_the_oracle_across_blocks(tmp_path, monkeypatch, suffix, block_bytes):
    monkeypatch.setattr(_files, "_BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(0)
    X = random_csr(rng, (300, 40), 0.1, np.float32)
    Y = random_csr(rng, (300, 25), 0.05, np.int8)
    path = tmp_path / f"data.txt{suffix}"
    dump_xmc_file(path, X, Y)
    X_slow, Y_slow = read_slowly(path)
    X_read, Y_read = load_xmc_file(path)
    assert_same(X_read, X_slow, np.float32)
    assert_same(Y_read, Y_slow, np.int8)
    assert_same(X_read, X, np.float32)


def test_matches_scikit_learn(tmp_path):
    rng = np.random.default_rng(1)
    X = random_csr(rng, (50, 30), 0.2, np.float32)
    Y = random_csr(rng, (50, 12), 0.2, np.int8)
    path = tmp_path / "data.txt"
    dump_xmc_file(path, X, Y)
    body = write_text(tmp_path / "body.txt", path.read_text().split("\n", 1)[1])
    kept = np.flatnonzero(np.diff(X.indptr) + np.diff(Y.indptr))  # it skips empty lines
    X_other, labels = load_svmlight_file(
        str(body), n_features=30, dtype=np.float32, multilabel=True, zero_based=True
    )
    X_read, Y_read = load_xmc_file(path)
    np.testing.assert_array_equal(X_read[kept].toarray(), X_other.toarray())
    binarizer = MultiLabelBinarizer(classes=range(12))
    np.testing.assert_array_equal(Y_read[kept].toarray(), binarizer.fit_transform(labels))


@pytest.mark.parametrize(
    ("text", "X", "Y"),
    [
        ("1 2 3\n0 1:2\n", [[0, 2]], [[1, 0, 0]]),
        ("1 2 3\n0 1:2", [[0, 2]], [[1, 0, 0]]),
        ("1 2 3\r\n0,2 1:2 \r\n", [[0, 2]], [[1, 0, 1]]),
        ("1 2 3\n2,0,2 1:2e-1  0:+3.\t\n", [[3, 0.2]], [[1, 0, 1]]),
        ("1 2 3\n 1:2\n", [[0, 2]], [[0, 0, 0]]),
        ("1 2 3\n1:2\n", [[0, 2]], [[0, 0, 0]]),
        ("2 2 3\n2\n\n\n \n", [[0, 0], [0, 0]], [[0, 0, 1], [0, 0, 0]]),
        ("0 2 3\n", np.zeros((0, 2)), np.zeros((0, 3))),
        ("1 2 3\n0 1:0\n", [[0, 0]], [[1, 0, 0]]),
    ],
)
def test_accepts(tmp_path, text, X, Y):
    path = tmp_path / "data.txt"
    path.write_bytes(text.encode())
    X_read, Y_read = load_xmc_file(path)
    assert_same(X_read, np.array(X), np.float32)
    assert_same(Y_read, np.array(Y), np.int8)


MALFORMED = {
    "": (1, "empty"),
    "2 3\n": (1, "bad header '2 3'; `n_rows n_features n_labels`"),
    "2 x 3\n": (1, "bad header"),
    "-1 2 3\n": (1, "bad header"),
    "1 99999999999 3\n": (1, "too large"),
    "2 5 3\n0 1:1\n": (2, "ends after 1 rows, its header promises 2"),
    "1 5 3\n0 1:1\n0 1:1\n": (3, "more rows"),
    "2 5 3\n0 1:1\n1,3 1:1\n": (3, "label id 3 is out of range; the header says 3"),
    "2 5 3\n0 1:1\n1 1:1 5:1\n": (3, "feature index 5 is out of range"),
    "1 5 0\n0 1:1\n": (2, "label id 0"),
    "1 5 3\n1234567890123456789 1:1\n": (2, "out of range"),
    "1 5 3\n0 1234567890123456789:1\n": (2, "out of range"),
    "2 5 3\n0 1:1\nx 1:1\n": (3, "label id 'x' is not a number"),
    "1 5 3\n1,-2 1:1\n": (2, "label id '-2' is negative"),
    "1 5 3\n1, 2 1:1\n": (2, "label id '' is not a number"),
    "1 5 3\n1.5 1:1\n": (2, "label id '1.5' is not a number"),
    "2 5 3\n0 1:1\n0 -1:1\n": (3, "index '-1' is negative"),
    "1 5 3\n0 1.5:1\n": (2, "index '1.5' is not a number"),
    "1 5 3\n0 1:1 2\n": (2, "'2' has no colon"),
    "1 5 3\n 2\n": (2, "'2' has no colon"),
    "1 5 3\n0 1:x\n": (2, "value 'x' is not a number, in '1:x'"),
    "1 5 3\n0 1:\n": (2, "value '' is not a number"),
    "1 5 3\n0 1: 2\n": (2, "value '' is not a number"),
    "1 5 3\n0 1:1:2\n": (2, "value '1:2' is not a number"),
    "1 5 3\n0 1:1_0\n": (2, "not a finite number"),
    "2 5 3\n0 1:1\n0 1:nan\n": (3, "value nan is not finite"),
    "2 5 3\n0 1:1\n0 1:-inf\n": (3, "value -inf is not finite"),
    "1 5 3\n0 1:1e60\n": (2, "value 1e+60 is not finite in float32"),
    "2 5 3\n0 1:1\n0 2:1 1:1 2:3\n": (3, "feature index 2 is there twice"),
    "1 5 3\n0 1:1é\n": (2, "is not a number"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("text", MALFORMED)
def test_complains(tmp_path, text, suffix):
    line, reason = MALFORMED[text]
    path = write_text(tmp_path / f"data.txt{suffix}", text)
    with pytest.raises(XMCFormatError) as caught:
        load_xmc_file(path)
    assert caught.value.line == line
    assert reason in caught.value.reason
    assert str(caught.value) == f"{path}, line {line}: {caught.value.reason}"


@pytest.mark.parametrize(
    ("text", "dtype", "line", "reason"),
    [
        ("1 2 3\n0:1\n", np.float32, 1, "`n_rows n_columns` is needed"),
        ("2 5\n0:1\n4\n", np.float32, 3, "'4' has no colon"),
        ("2 5\n0:1\n5:1\n", np.float32, 3, "column 5 is out of range; the header says 5"),
        ("1 5\n0:1 0:1\n", np.float32, 2, "column 0 is there twice"),
        ("2 5\n0:1\n1:0.5\n", np.int8, 3, "value 0.5 is not a whole number in int8"),
        ("1 5\n0:300\n", np.int8, 2, "value 300"),
        ("1 5\n0:nan\n", np.int8, 2, "value nan"),
    ],
)
def test_complains_about_one_matrix(tmp_path, text, dtype, line, reason):
    path = write_text(tmp_path / "data.txt", text)
    with pytest.raises(XMCFormatError) as caught:
        load_sparse_file(path, dtype=dtype)
    assert caught.value.line == line
    assert reason in caught.value.reason


def test_line_numbers_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_BLOCK_BYTES", 64)
    lines = ["0 1:1\n"] * 1000
    lines[700] = "0 1:1 9:1\n"
    path = write_text(tmp_path / "data.txt", "1000 5 3\n" + "".join(lines))
    with pytest.raises(XMCFormatError, match="line 702: feature index 9"):
        load_xmc_file(path)


@settings(deadline=None, max_examples=300)
@given(body=st.text(alphabet="01:,.-+e_nx \t\x0c\x1c\xa0٣\n", max_size=30))
def test_any_text_is_read_or_refused_with_a_reason(body):
    with tempfile.TemporaryDirectory() as folder:
        path = write_text(Path(folder, "data.txt"), "2 2 2\n" + body)
        X = Y = error = None
        try:
            X, Y = load_xmc_file(path)
        except XMCFormatError as caught:
            error = caught
    if error:
        assert error.reason.strip()
        assert error.line >= 2 - (not body)
    else:
        assert X.has_canonical_format
        assert Y.has_canonical_format
        assert np.isfinite(X.data).all()


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_truncated_and_damaged_archives(tmp_path, suffix):
    rng = np.random.default_rng(0)
    X, Y = random_csr(rng, (500, 30), 0.3, np.float32), random_csr(rng, (500, 9), 0.2, np.int8)
    path = tmp_path / f"data.txt{suffix}"
    dump_xmc_file(path, X, Y)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(XMCFormatError, match="ends too early"):
        load_xmc_file(path)
    path.write_bytes(b"2 3 4\n0 1:1\n")
    with pytest.raises(XMCFormatError, match="damaged"):
        load_xmc_file(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(255 - b for b in whole[middle:]))
    with pytest.raises(XMCFormatError):
        load_xmc_file(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_xmc_file(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError):
        dump_xmc_file(tmp_path / "none" / "data.txt", [[1.0]], [[1]])


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        ([[np.nan]], [[1]], "NaN"),
        ([[1e60]], [[1]], "infinite in float32"),
        ([[1.0]], [[0.5]], "0 and 1 only, got 0.5"),
        ([[1.0]], [[1], [0]], "1 rows and Y has 2"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_dump_refuses_and_keeps_the_old_file(tmp_path, X, Y, message):
    path = write_text(tmp_path / "data.txt", "old")
    with pytest.raises(ValueError, match=message):
        dump_xmc_file(path, X, Y)
    assert path.read_text() == "old"


def test_failing_writer_leaves_nothing(tmp_path):
    path = write_text(tmp_path / "data.txt.gz", "old")

    def fail_halfway():
        with _files.replace_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert os.listdir(tmp_path) == ["data.txt.gz"]
    assert gzip.decompress(path.read_bytes()) == b"old"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_data_gives_equal_bytes(tmp_path, suffix):
    X, Y = sp.csr_array([[0.1, 0], [0, 2]]), sp.csr_array([[1, 0, 1], [0, 0, 0]])
    paths = [tmp_path / f"{name}.txt{suffix}" for name in "ab"]
    for path in paths:
        dump_xmc_file(path, X, Y)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_dump_takes_any_container_and_changes_none(tmp_path):
    X = np.array([[0.5, 0, 1]])
    coo = sp.coo_matrix((np.array([1, 0]), ([0, 0], [2, 1])), shape=(1, 3))
    path = tmp_path / "data.txt"
    for Y in (coo, coo.tocsr(), coo.tocsc(), sp.csr_array(coo), coo.toarray(), coo.astype(bool)):
        before = Y.copy()
        dump_xmc_file(path, sp.csc_matrix(X), Y)
        assert path.read_text() == "1 3 3\n2 0:0.5 2:1.0\n"
        assert getattr(Y, "nnz", 1) == getattr(before, "nnz", 1)


def test_unknown_dtype(tmp_path):
    with pytest.raises(ValueError, match="dtype must be"):
        load_sparse_file(tmp_path / "x", dtype=str)
