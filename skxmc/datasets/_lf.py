"""What comes with the repository's sets that have label features: raw text and filter files."""

import json
import re
from array import array
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from skxmc._sparse import as_csr
from skxmc._validation import check_int
from skxmc.datasets._files import XMCFormatError, iterate_lines
from skxmc.topk import PAD_LABEL, PAD_SCORE, TopK

_MAX_SIZE = np.iinfo(np.int32).max
_PAIR = re.compile(rb"\s*(\d{1,18})\s+(\d{1,18})\s*")


def load_xmc_json(
    path, *, n_labels: int | None = None, fields: Sequence[str] = ("title", "content")
) -> tuple[list[str], sp.csr_array]:
    """Read raw text and labels from JSON lines, such as ``trn.json.gz`` or ``lbl.json.gz``.

    Each line is an object, ``{"uid": ..., "title": ..., "content": ..., "target_ind": [...],
    "target_rel": [...]}``. Blank lines are skipped.

    Parameters
    ----------
    path : str or path-like
        The file; one whose name ends in .gz or .bz2 is unpacked on the way.
    n_labels : int or None, default=None
        Number of label columns, which is the number of lines of ``lbl.json.gz``. None takes the
        largest id of the file plus one, so that train and test may get different numbers.
    fields : sequence of str, default=("title", "content")
        The fields whose texts are joined by a blank; absent and empty ones are skipped.

    Returns
    -------
    texts : list of str
        One text for each object.
    Y : csr_array of shape (n_rows, n_labels), dtype int8
        1 where ``target_ind`` names the label and its ``target_rel``, if there is one, is not 0.
        Rows without ``target_ind``, as all are in ``lbl.json.gz``, are empty.

    Raises
    ------
    XMCFormatError
        If a line is not such an object; the message tells file, line and reason.
    OSError
        If the file cannot be read.
    TypeError, ValueError
        If `n_labels` is neither None nor an int >= 0.

    See Also
    --------
    load_sparse_file : The bag-of-words features of the same sets.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skxmc.datasets import load_xmc_json
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "trn.json")
    ...     _ = path.write_text('{"uid": "a", "title": "Tea", "target_ind": [1, 2]}')
    ...     texts, Y = load_xmc_json(path, n_labels=4)
    >>> texts
    ['Tea']
    >>> Y.toarray()
    array([[0, 1, 1, 0]], dtype=int8)
    """
    if n_labels is not None:
        check_int("load_xmc_json", "n_labels", n_labels, minimum=0)
    texts: list[str] = []
    rows, labels = array("q"), array("q")
    for number, line in iterate_lines(path):
        if line.strip():
            try:
                record = _parse_object(line)
                found = _parse_targets(record, _MAX_SIZE if n_labels is None else n_labels)
                rows.extend([len(texts)] * len(found))
                labels.extend(found)
                texts.append(_join_fields(record, fields))
            except ValueError as error:
                raise XMCFormatError(path, number, str(error)) from error
    if n_labels is None:
        n_labels = 1 + max(labels, default=-1)
    return texts, _binary_matrix(rows, labels, (len(texts), n_labels))


def load_filter_pairs(path, shape: tuple[int, int]) -> sp.csr_array:
    r"""Read the pairs that are left out of scoring, such as ``filter_labels_test.txt``.

    Each line is ``row label``, counted from 0. In sets where a row may be a label too, these pairs
    keep it from being its own label. Blank lines are skipped.

    Parameters
    ----------
    path : str or path-like
        The file; one whose name ends in .gz or .bz2 is unpacked on the way. It may be empty.
    shape : tuple of (n_rows, n_labels)
        Shape of the label matrix that the pairs are about.

    Returns
    -------
    pairs : csr_array of shape (n_rows, n_labels), dtype int8
        1 at each pair.

    Raises
    ------
    XMCFormatError
        If a line is not two numbers inside `shape`; the message tells file, line and reason.
    OSError
        If the file cannot be read.

    See Also
    --------
    apply_filter : Drops the pairs from predictions.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skxmc.datasets import load_filter_pairs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "filter_labels_test.txt")
    ...     _ = path.write_text("0 2\n1 0\n")
    ...     load_filter_pairs(path, (2, 3)).toarray()
    array([[0, 0, 1],
           [1, 0, 0]], dtype=int8)
    """
    n_rows, n_labels = shape
    rows, labels = array("q"), array("q")
    for number, line in iterate_lines(path):
        if not line.strip():
            continue
        match = _PAIR.fullmatch(line)
        if match is None:
            raise XMCFormatError(path, number, "`row label` is needed, two numbers from 0")
        row, label = int(match[1]), int(match[2])
        if row >= n_rows or label >= n_labels:
            reason = f"the pair {row} {label} is outside the shape {n_rows} x {n_labels}"
            raise XMCFormatError(path, number, reason)
        rows.append(row)
        labels.append(label)
    return _binary_matrix(rows, labels, (n_rows, n_labels))


def apply_filter(topk: TopK, pairs) -> TopK:
    """Drop filtered labels from predictions.

    The labels below move up, and the end of the row is padded. To have k labels left, predict more
    of them than k.

    Parameters
    ----------
    topk : TopK
        Label columns and scores, each of shape (n_rows, k), best first. Not changed.
    pairs : sparse matrix or array of shape (n_rows, n_labels)
        Each stored entry other than 0 is dropped, as `load_filter_pairs` gives them.

    Returns
    -------
    topk : TopK
        The same shape; padded with -1 and -inf.

    Raises
    ------
    ValueError
        If the numbers of rows differ, or a label is outside the columns of `pairs`.

    See Also
    --------
    load_filter_pairs : Reads the pairs.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from skxmc.datasets import apply_filter
    >>> from skxmc.topk import TopK
    >>> top = TopK(np.array([[2, 0, 1]]), np.array([[0.9, 0.5, 0.1]], dtype=np.float32))
    >>> apply_filter(top, sp.csr_array([[0, 0, 1]])).indices
    array([[ 0,  1, -1]])
    """
    indices, scores = np.asarray(topk.indices), np.asarray(topk.scores)
    coo = as_csr(pairs, dtype=None).tocoo()
    n_rows, n_labels = coo.shape
    if indices.shape[0] != n_rows:
        raise ValueError(
            f"apply_filter: topk has {indices.shape[0]} rows and pairs has {n_rows}; the numbers "
            "must be equal. Pass the pairs of the same rows."
        )
    if indices.size and indices.max() >= n_labels:
        raise ValueError(
            f"apply_filter: topk holds label {indices.max()}, but pairs has {n_labels} columns. "
            "Pass pairs of shape (n_rows, n_labels)."
        )
    stored = coo.data != 0
    filtered = coo.row[stored].astype(np.int64) * n_labels + coo.col[stored]
    keys = np.arange(n_rows)[:, None] * n_labels + indices
    gone = np.isin(keys, filtered) | (indices < 0)
    # Sorting by the flag alone keeps the others in their order.
    order = np.argsort(gone, axis=1, kind="stable")
    gone = np.take_along_axis(gone, order, axis=1)
    return TopK(
        np.where(gone, PAD_LABEL, np.take_along_axis(indices, order, axis=1)),
        np.where(gone, scores.dtype.type(PAD_SCORE), np.take_along_axis(scores, order, axis=1)),
    )


def _parse_object(line: bytes) -> dict:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"an object is needed, got {type(record).__name__}")
    return record


def _join_fields(record: dict, fields: Sequence[str]) -> str:
    found = [record[field] for field in fields if record.get(field) is not None]
    if not found:
        known, needed = ", ".join(sorted(record)), ", ".join(fields)
        raise ValueError(f"one of the fields {needed} is needed, there are: {known}")
    if not all(isinstance(text, str) for text in found):
        raise ValueError(f"the fields {', '.join(fields)} must be strings")
    return " ".join(text for text in found if text)


def _parse_targets(record: dict, n_labels: int) -> list[int]:
    ids = record.get("target_ind", [])
    weights = record.get("target_rel", [1] * len(ids) if isinstance(ids, list) else [])
    if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
        raise ValueError("target_ind must be a list of numbers from 0")
    if any(i >= n_labels for i in ids):
        raise ValueError(f"label id {max(ids)} is out of range; it must be below {n_labels}")
    if not isinstance(weights, list) or len(weights) != len(ids):
        raise ValueError("target_rel must be a list as long as target_ind")
    return [label for label, weight in zip(ids, weights, strict=True) if weight]


def _binary_matrix(rows: array, labels: array, shape: tuple[int, int]) -> sp.csr_array:
    """Build 0/1 CSR of pairs of row and label; repeated ones count once."""
    ones = np.ones(len(rows), dtype=np.int8)
    coordinates = np.asarray(rows), np.asarray(labels)
    out = as_csr(sp.coo_array((ones, coordinates), shape=shape), dtype=np.int8)
    out.data[:] = 1
    return out
