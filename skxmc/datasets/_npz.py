"""Features and labels as a pair of SciPy's .npz files."""

import zipfile
import zlib

import scipy.sparse as sp

from skxmc.datasets._checks import check_pair
from skxmc.datasets._files import XMCFormatError, replace_file


def load_xmc_npz(X_path, Y_path) -> tuple[sp.csr_array, sp.csr_array]:
    """Read features and labels from two files that `scipy.sparse.save_npz` has written.

    Unlike `scipy.sparse.load_npz`, it gives both in the one form that travels through the package,
    and checks that they belong together.

    Parameters
    ----------
    X_path, Y_path : str or path-like
        The files of the features and of the labels, in any sparse format.

    Returns
    -------
    X : csr_array of shape (n_rows, n_features), dtype float32
        Indices sorted within a row, no duplicates.
    Y : csr_array of shape (n_rows, n_labels), dtype int8
        1 where the row has the label; no stored zeros.

    Raises
    ------
    XMCFormatError
        If a file is damaged or holds no sparse matrix.
    ValueError
        If X holds NaN or infinity, Y holds anything but 0 and 1, or their numbers of rows differ.
    OSError
        If a file cannot be read.

    See Also
    --------
    dump_xmc_npz : The inverse.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skxmc.datasets import dump_xmc_npz, load_xmc_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = Path(folder, "X.npz"), Path(folder, "Y.npz")
    ...     dump_xmc_npz(*paths, [[0, 0.5]], [[1, 0, 1]])
    ...     X, Y = load_xmc_npz(*paths)
    >>> Y.toarray()
    array([[1, 0, 1]], dtype=int8)
    """
    return check_pair(f"load_xmc_npz({X_path}, {Y_path})", _load(X_path), _load(Y_path))


def dump_xmc_npz(X_path, Y_path, X, Y) -> None:
    """Write features and labels as two compressed .npz files.

    Each file appears only when all of it is written.

    Parameters
    ----------
    X_path, Y_path : str or path-like
        The files; nothing is appended to the names.
    X : sparse matrix or array-like of shape (n_rows, n_features)
        The features, written as float32.
    Y : sparse matrix or array-like of shape (n_rows, n_labels)
        The labels, 0 or 1, written as int8.

    Raises
    ------
    ValueError
        If X holds NaN or infinity, Y holds anything but 0 and 1, or their numbers of rows differ.
    OSError
        If a file cannot be written.

    See Also
    --------
    load_xmc_npz : The inverse.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skxmc.datasets import dump_xmc_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dump_xmc_npz(Path(folder, "X.npz"), Path(folder, "Y.npz"), [[0, 0.5]], [[1, 0, 1]])
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['X.npz', 'Y.npz']
    """
    X, Y = check_pair("dump_xmc_npz", X, Y)
    for path, matrix in ((X_path, X), (Y_path, Y)):
        with replace_file(path, compress=False) as file:
            sp.save_npz(file, matrix)


def _load(path) -> sp.sparray:
    try:
        matrix = sp.load_npz(path)
        if matrix.format in ("csr", "csc", "bsr"):
            # SciPy does not look at the indices, and those out of range would crash it later.
            matrix.check_format(full_check=True)
        return matrix
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError) as error:
        reason = f"this is no sparse matrix written by scipy.sparse.save_npz ({error})"
        raise XMCFormatError(path, None, reason) from error
