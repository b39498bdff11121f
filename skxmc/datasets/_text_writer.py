"""Write sparse text: the format of the Extreme Classification Repository and its relatives."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from skxmc._sparse import as_csr
from skxmc.datasets._checks import check_features, check_pair
from skxmc.datasets._files import replace_file

_BLOCK_ROWS = 10_000


def dump_xmc_file(path, X, Y) -> None:
    r"""Write a data set in the text format of the Extreme Classification Repository.

    The file appears only when all is written; a file of that name is replaced then. Values are
    written with as many digits as float32 needs, so reading gives the same numbers.

    Parameters
    ----------
    path : str or path-like
        The file; one whose name ends in .gz or .bz2 is packed.
    X : sparse matrix or array-like of shape (n_rows, n_features)
        The features, written as float32; stored zeros are written too.
    Y : sparse matrix or array-like of shape (n_rows, n_labels)
        The labels, 0 or 1.

    Raises
    ------
    ValueError
        If X holds NaN or infinity, Y holds anything but 0 and 1, or their numbers of rows differ.
    OSError
        If the file cannot be written.

    See Also
    --------
    load_xmc_file : The inverse, with a description of the format.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skxmc.datasets import dump_xmc_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "train.txt")
    ...     dump_xmc_file(path, [[0, 0.5], [1, 0]], [[1, 0, 1], [0, 0, 0]])
    ...     path.read_text()
    '2 2 3\n0,2 1:0.5\n 0:1.0\n'
    """
    X, Y = check_pair("dump_xmc_file", X, Y)
    labels = (b",".join(map(b"%d".__mod__, row)) for row in _rows(Y.indices, Y.indptr))
    with replace_file(path) as file:
        file.write(b"%d %d %d\n" % (*X.shape, Y.shape[1]))
        file.writelines(
            # A row without labels starts with a blank, one without features ends at its labels.
            names + (b" " + pairs if pairs else b"") + b"\n"
            for names, pairs in zip(labels, _pair_lines(X), strict=True)
        )


def dump_sparse_file(path, matrix) -> None:
    r"""Write one sparse matrix as text, such as ``trn_X_Xf.txt``.

    The file appears only when all is written; a file of that name is replaced then. Floats are
    written as float32.

    Parameters
    ----------
    path : str or path-like
        The file; one whose name ends in .gz or .bz2 is packed.
    matrix : sparse matrix or array-like of shape (n_rows, n_columns)
        Integers, bools or floats; stored zeros are written too.

    Raises
    ------
    ValueError
        If the matrix holds NaN or infinity.
    OSError
        If the file cannot be written.

    See Also
    --------
    load_sparse_file : The inverse, with a description of the format.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skxmc.datasets import dump_sparse_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "trn_X_Y.txt")
    ...     dump_sparse_file(path, [[1, 0, 1], [0, 0, 0]])
    ...     path.read_text()
    '2 3\n0:1 2:1\n\n'
    """
    csr = as_csr(matrix, dtype=None)
    csr = as_csr(csr, dtype=np.int8) if csr.dtype == bool else csr
    csr = csr if csr.dtype.kind in "iu" else check_features("dump_sparse_file", csr)
    with replace_file(path) as file:
        file.write(b"%d %d\n" % csr.shape)
        file.writelines(line + b"\n" for line in _pair_lines(csr))


def _pair_lines(csr: sp.csr_array) -> Iterator[bytes]:
    """Yield ``index:value index:value`` for each row; a block at a time is turned into text."""
    for start in range(0, csr.shape[0], _BLOCK_ROWS):
        indptr = csr.indptr[start : start + _BLOCK_ROWS + 1]
        entries = slice(indptr[0], indptr[-1])
        # NumPy writes the shortest text that gives the same number again.
        values = csr.data[entries].astype("S").tolist()
        pairs = list(map(b"%d:%s".__mod__, zip(csr.indices[entries].tolist(), values, strict=True)))
        yield from (b" ".join(row) for row in _rows(pairs, indptr - indptr[0]))


def _rows(entries, indptr) -> Iterator:
    bounds = indptr.tolist()
    return (entries[a:b] for a, b in pairwise(bounds))
