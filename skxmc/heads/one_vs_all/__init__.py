"""Linear SVMs of all labels on all rows, a block of labels side by side."""

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from skxmc._sparse import as_csr
from skxmc.heads.one_vs_all import _kernels
from skxmc.heads.one_vs_all._kernels import WIDTH
from skxmc.heads.svm import SvmSettings, feature_thresholds

__all__ = ["WIDTH", "block_bytes", "fit_one_vs_all"]

# Gradients of single precision come no nearer to each other.
_FINEST = 1e-6
# Costs that it can work with.
_COSTS = (1e-20, 1e20)


def fit_one_vs_all(
    X: sp.csr_array,
    Y: sp.csr_array,
    settings: SvmSettings,
    seed: int,
    n_threads: int,
    verbose: int = 0,
) -> tuple[sp.csr_array, np.ndarray]:
    """Train each label on every row.

    What `skxmc.heads.svm.fit_svms` does where each label has rows of its own, several times as fast
    and in single precision: all labels visit the same rows in the same order.

    Parameters
    ----------
    X : csr_array of shape (n_rows, n_features), float32
        Rows of unit length.
    Y : csr_array of shape (n_rows, n_labels)
        0/1 indicator.
    settings : SvmSettings
        Costs, and when to stop; a `tol` below 1e-6 counts as 1e-6.
    seed : int
        The order in which rows are visited.
    n_threads : int
        Threads; results do not depend on it.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    weight : csr_array of shape (n_labels, n_features), float32
        Weights of at least `feature_thresholds`; none of a label that no row has.
    bias : ndarray of shape (n_labels,), float32
        Weights of the bias feature.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from skxmc.heads.one_vs_all import fit_one_vs_all
    >>> from skxmc.heads.svm import SvmSettings
    >>> X = sp.csr_array(np.eye(4, dtype=np.float32))
    >>> Y = sp.csr_array([[1, 0], [1, 0], [0, 1], [0, 1]])
    >>> settings = SvmSettings(1.0, np.ones(2), tol=1e-3, max_iter=100, threshold=0.0)
    >>> weight, bias = fit_one_vs_all(X, Y, settings, seed=0, n_threads=1)
    >>> weight.toarray().round(2)
    array([[ 0.67,  0.67, -0.67, -0.67],
           [-0.67, -0.67,  0.67,  0.67]], dtype=float32)
    """
    csr, least = (X.indptr, X.indices, X.data), feature_thresholds(X, settings.threshold)
    squares = (1 + np.bincount(_rows_of(X), np.square(X.data), X.shape[0])).astype(np.float32)
    columns = Y.tocsc()
    blocks = (
        delayed(_fit_block)(
            csr, least, squares, columns[:, first : first + WIDTH],
            settings.cost_positive[first : first + WIDTH], settings, seed,
        )
        for first in range(0, Y.shape[1], WIDTH)
    )  # fmt: skip
    done = Parallel(n_threads, require="sharedmem", return_as="generator")(blocks)
    weights, biases = [sp.csr_array((0, X.shape[1]), dtype=np.float32)], [np.empty(0, np.float32)]
    with tqdm(total=Y.shape[1], desc="ranker", unit="label", disable=not verbose) as bar:
        for weight, bias in done:
            weights.append(weight)
            biases.append(bias)
            bar.update(bias.size)
    return as_csr(sp.vstack(weights, format="csr")), np.concatenate(biases)


def block_bytes(n_rows: int, n_features: int) -> int:
    """Count the bytes that training a block of labels takes.

    Parameters
    ----------
    n_rows : int
        Training rows.
    n_features : int
        Their features.

    Returns
    -------
    n_bytes : int
        Of weights and which of them are kept, dual variables and signs. Each thread has a block of
        its own.

    Examples
    --------
    >>> from skxmc.heads.one_vs_all import block_bytes
    >>> block_bytes(n_rows=10_000, n_features=2_000)
    3840000
    """
    return WIDTH * (5 * n_features + 5 * n_rows)


def _rows_of(X: sp.csr_array) -> np.ndarray:
    """Row of each entry."""
    return np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))


def _fit_block(csr, least, squares, own: sp.csc_array, costs, settings: SvmSettings, seed: int):
    """Train the labels of some columns, in a block whose other places are labels without rows."""
    signs = np.full((squares.size, WIDTH), -1, dtype=np.int8)
    places = np.repeat(np.arange(own.shape[1]), np.diff(own.indptr))
    signs[own.indices[own.data > 0], places[own.data > 0]] = 1
    both = np.full((2, WIDTH), settings.cost_negative)
    both[1, : own.shape[1]] = costs
    both = np.clip(both, *_COSTS).astype(np.float32)
    weights, bias = _kernels.fit_block(
        csr, least, squares, signs, both, max(settings.tol, _FINEST), settings.max_iter,
        np.uint64(seed + 1),
    )  # fmt: skip
    n_own = own.shape[1]
    return as_csr(sp.csr_array(weights.T[:n_own])), bias[:n_own]
