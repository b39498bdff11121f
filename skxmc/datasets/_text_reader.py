"""Read sparse text: the format of the Extreme Classification Repository and its relatives."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skxmc.datasets._files import XMCFormatError, read_blocks

_MAX_SIZE = np.iinfo(np.int32).max
# Longer numbers than 18 digits do not fit int64; they are out of range anyway.
_PAIRS = rb"((?:\s*+\d{1,18}+:[^\s:,_]++)*+)\s*+"
_LABELS = rb"(?:(\d{1,18}+(?:,\d{1,18}+)*+)(?![\d:,]))?+"


class _Layout(NamedTuple):
    """A text format: the names in its header, and its rows as (labels)(pairs)."""

    header: tuple[str, ...]
    row: re.Pattern[bytes]


_XMC = _Layout(("n_rows", "n_features", "n_labels"), re.compile(_LABELS + _PAIRS))
_SPARSE = _Layout(("n_rows", "n_columns"), re.compile(rb"()" + _PAIRS))


class _Part(NamedTuple):
    """The entries of some rows: their number in each row, columns, and values of the pairs."""

    label_lengths: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def load_xmc_file(path) -> tuple[sp.csr_array, sp.csr_array]:
    r"""Read a data set in the text format of the Extreme Classification Repository [1]_.

    The first line is ``n_rows n_features n_labels``. Each further line is one row:
    ``label,label feature:value feature:value``, counted from 0. A row without labels starts with a
    blank; a row may have no features. The file is read once, in blocks.

    Parameters
    ----------
    path : str or path-like
        The file; one whose name ends in .gz or .bz2 is unpacked on the way.

    Returns
    -------
    X : csr_array of shape (n_rows, n_features), dtype float32
        The features, indices sorted within a row; explicit zeros of the file stay stored.
    Y : csr_array of shape (n_rows, n_labels), dtype int8
        1 where the row has the label. A label named twice in a row counts once.

    Raises
    ------
    XMCFormatError
        If the file does not follow the format; the message tells file, line and reason. This
        includes indices out of the header's range, a feature named twice in a row, values that
        are not finite in float32, and another number of rows than the header's.
    OSError
        If the file cannot be read.

    See Also
    --------
    dump_xmc_file : The inverse.
    load_sparse_file : One matrix, without labels.

    References
    ----------
    .. [1] K. Bhatia, K. Dahiya, H. Jain, P. Kar, A. Mittal, Y. Prabhu, M. Varma, "The extreme
       classification repository: Multi-label datasets and code", 2016.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skxmc.datasets import load_xmc_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "train.txt")
    ...     _ = path.write_text("2 4 3\n0,2 1:0.5 3:2\n 0:1\n")
    ...     X, Y = load_xmc_file(path)
    >>> X.toarray()
    array([[0. , 0.5, 0. , 2. ],
           [1. , 0. , 0. , 0. ]], dtype=float32)
    >>> Y.toarray()
    array([[1, 0, 1],
           [0, 0, 0]], dtype=int8)
    """
    return _load(path, _XMC, np.dtype(np.float32))


def load_sparse_file(path, *, dtype=np.float32) -> sp.csr_array:
    r"""Read one sparse matrix from text, such as ``trn_X_Xf.txt`` or ``trn_X_Y.txt``.

    The first line is ``n_rows n_columns``. Each further line is one row,
    ``column:value column:value``, counted from 0; it may be empty. The sets with label features of
    the Extreme Classification Repository come in such files.

    Parameters
    ----------
    path : str or path-like
        The file; one whose name ends in .gz or .bz2 is unpacked on the way.
    dtype : dtype, default=numpy.float32
        Kind of the values: a float or an integer type. Take ``numpy.int8`` for labels.

    Returns
    -------
    matrix : csr_array of shape (n_rows, n_columns), dtype `dtype`
        Indices sorted within a row; explicit zeros of the file stay stored.

    Raises
    ------
    XMCFormatError
        If the file does not follow the format; the message tells file, line and reason. This
        includes values that `dtype` cannot hold.
    OSError
        If the file cannot be read.
    ValueError
        If `dtype` is neither a float nor an integer type.

    See Also
    --------
    dump_sparse_file : The inverse.
    load_xmc_file : Features and labels in one file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skxmc.datasets import load_sparse_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "trn_X_Y.txt")
    ...     _ = path.write_text("2 3\n0:1 2:1\n1:1\n")
    ...     Y = load_sparse_file(path, dtype=np.int8)
    >>> Y.toarray()
    array([[1, 0, 1],
           [0, 1, 0]], dtype=int8)
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "fiu":
        raise ValueError(
            f"load_sparse_file: dtype must be a float or an integer type, got {dtype}."
        )
    return _load(path, _SPARSE, dtype)[0]


def _load(path, layout: _Layout, dtype: np.dtype) -> tuple[sp.csr_array, sp.csr_array]:
    sizes: list[int] = []
    # The empty part gives the arrays their dtypes if there are no rows.
    parts = [_parse(path, 0, [], layout, [0, 0], dtype)]
    n_read = 0
    for first, lines in read_blocks(path):
        if not sizes:
            sizes = _parse_header(path, lines[0], layout)
            first, lines = first + 1, lines[1:]
        lines = _cut_blank_end(path, first, lines, sizes[0] - n_read)
        parts.append(_parse(path, first, lines, layout, sizes[1:], dtype))
        n_read += len(lines)
    if not sizes:
        raise XMCFormatError(path, 1, f"the file is empty; {_header_rule(layout)}")
    if n_read < sizes[0]:
        reason = f"the file ends after {n_read} rows, its header promises {sizes[0]}"
        raise XMCFormatError(path, n_read + 1, reason)
    return _join(parts, sizes)


def _parse_header(path, line: bytes, layout: _Layout) -> list[int]:
    words = line.split()
    if len(words) != len(layout.header) or not all(re.fullmatch(rb"\d{1,18}", w) for w in words):
        raise XMCFormatError(path, 1, f"bad header {_show(line)}; {_header_rule(layout)}")
    sizes = [int(word) for word in words]
    if max(sizes) > _MAX_SIZE:
        raise XMCFormatError(path, 1, f"{max(sizes)} is too large, at most {_MAX_SIZE} is allowed")
    return sizes


def _header_rule(layout: _Layout) -> str:
    return f"`{' '.join(layout.header)}` is needed, numbers from 0"


def _cut_blank_end(path, first: int, lines: list[bytes], n_left: int) -> list[bytes]:
    """Drop blank lines after the last row; any other line there is one row too many."""
    for offset, line in enumerate(lines[n_left:], start=n_left):
        if line.strip():
            raise XMCFormatError(path, first + offset, "more rows than the header promises")
    return lines[:n_left]


def _parse(path, first: int, lines: list[bytes], layout: _Layout, widths, dtype) -> _Part:
    """Parse rows; `widths` are the numbers of columns and of labels, the latter if there are any.

    Lines are only matched and counted one by one; the numbers of all are converted together.
    """
    matches = [layout.row.fullmatch(line) for line in lines]
    groups = [match.groups(b"") for match in matches if match]
    if len(groups) < len(lines):
        row = matches.index(None)
        raise XMCFormatError(path, first + row, _explain(lines[row], layout))
    label_texts, pair_texts = [group[0] for group in groups], [group[1] for group in groups]
    label_lengths = np.array([text.count(b",") + bool(text) for text in label_texts], dtype=int)
    lengths = np.array([text.count(b":") for text in pair_texts], dtype=int)
    labels = _integers(b" ".join(label_texts).replace(b",", b" ").split())
    words = b" ".join(pair_texts).replace(b":", b" ").split()
    try:
        values = np.fromiter(map(float, words[1::2]), np.float64, len(words) // 2)
    except ValueError:
        row = next(i for i, line in enumerate(lines) if _explain(line, layout))
        raise XMCFormatError(path, first + row, _explain(lines[row], layout)) from None
    part = _Part(label_lengths, labels, lengths, _integers(words[::2]), values)
    return _check_part(path, first, part, layout, widths, dtype)


def _integers(words: list[bytes]) -> np.ndarray:
    return np.fromiter(map(int, words), np.int64, len(words))


def _check_part(path, first: int, part: _Part, layout: _Layout, widths, dtype) -> _Part:
    """Raise at the first entry that breaks a rule; return the part sorted, in its final dtypes."""
    name = "feature index" if layout is _XMC else "column"

    def refuse_first(bad: np.ndarray, lengths: np.ndarray, describe: Callable[[int], str]):
        if bad.any():
            entry = int(np.argmax(bad))
            row = int(np.searchsorted(np.cumsum(lengths), entry, side="right"))
            raise XMCFormatError(path, first + row, describe(entry))

    def outside(kind, ids, width) -> Callable[[int], str]:
        return lambda e: f"{kind} {ids[e]} is out of range; the header says {width}, from 0 on"

    label_lengths, labels, lengths, columns, values = part
    if layout is _XMC:
        complaint = outside("label id", labels, widths[1])
        refuse_first(labels >= widths[1], label_lengths, complaint)
    refuse_first(columns >= widths[0], lengths, outside(name, columns, widths[0]))
    kind = f"{'finite' if dtype.kind == 'f' else 'a whole number'} in {dtype.name}"
    cast, misfit = _cast(values, dtype)
    refuse_first(misfit, lengths, lambda e: f"value {values[e]:g} is not {kind}")
    keys = np.repeat(np.arange(len(lengths)), lengths) * widths[0] + columns
    if (np.diff(keys) <= 0).any():
        order = np.argsort(keys, kind="stable")
        keys, columns, cast = keys[order], columns[order], cast[order]
        twice = np.append(keys[1:] == keys[:-1], False)
        refuse_first(twice, lengths, lambda e: f"{name} {columns[e]} is there twice")
    return _Part(label_lengths, labels.astype(np.int32), lengths, columns.astype(np.int32), cast)


def _cast(values: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Convert values, and tell which did not survive: fractions, overflows and NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(dtype)
        return cast, ~np.isfinite(cast) if dtype.kind == "f" else cast != values


def _join(parts: list[_Part], sizes: list[int]) -> tuple[sp.csr_array, sp.csr_array]:
    label_lengths, labels, lengths, columns, values = (
        np.concatenate(arrays) for arrays in zip(*parts, strict=True)
    )
    X = _csr(values, columns, lengths, (sizes[0], sizes[1]))
    ones = np.ones(len(labels), dtype=np.int8)
    Y = _csr(ones, labels, label_lengths, (sizes[0], sizes[2] if len(sizes) > 2 else 0))
    Y.sum_duplicates()
    Y.data[:] = 1
    return X, Y


def _csr(data, indices, lengths, shape) -> sp.csr_array:
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    index = np.int32 if len(indices) <= _MAX_SIZE else np.int64
    return sp.csr_array((data, indices.astype(index), indptr.astype(index)), shape=shape)


def _explain(line: bytes, layout: _Layout) -> str:
    """Say what is wrong with a row; empty if nothing is, ranges and repeats aside."""
    words = line.split()
    # A row that does not begin with a blank begins with its labels, or it has none.
    if layout is _XMC and words and not line[:1].isspace() and b":" not in words[0]:
        for label in words.pop(0).split(b","):
            if problem := _explain_index("label id", label):
                return problem
    for word in words:
        index, colon, value = word.partition(b":")
        if not colon:
            return f"{_show(word)} has no colon; `index:value` is needed"
        problem = _explain_index("index", index) or _explain_value(value)
        if problem:
            return f"{problem}, in {_show(word)}"
    return ""


def _explain_index(kind: str, word: bytes) -> str:
    if re.fullmatch(rb"-\d+", word):
        return f"{kind} {_show(word)} is negative; numbers from 0 are needed"
    if not re.fullmatch(rb"\d+", word):
        return f"{kind} {_show(word)} is not a number from 0"
    return f"{kind} {_show(word)} is out of range" if len(word) > 18 else ""


def _explain_value(word: bytes) -> str:
    try:
        # Python takes 1_000 for a number, other readers do not.
        value = math.nan if b"_" in word else float(word)
    except ValueError:
        return f"value {_show(word)} is not a number"
    return "" if math.isfinite(value) else f"value {_show(word)} is not a finite number"


def _show(word: bytes) -> str:
    text = word.decode("ascii", errors="backslashreplace").rstrip("\r\n")
    return repr(text if len(text) <= 60 else text[:60] + "…")
