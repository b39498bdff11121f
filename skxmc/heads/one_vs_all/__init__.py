"""Linear SVMs of all labels on all rows, a block of labels side by side."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from skxmc._sparse import as_csr
from skxmc.heads.one_vs_all import _kernels
from skxmc.heads.svm import SvmSettings, feature_thresholds

__all__ = ["block_bytes", "fit_one_vs_all"]

# Gradients of single precision come no nearer to each other.
_FINEST = 1e-6


def fit_one_vs_all(
    X: sp.csr_array,
    Y: sp.csr_array,
    settings: SvmSettings,
    seed: int,
    n_threads: int,
    verbose: int = 0,
) -> tuple[sp.csr_array, np.ndarray]:
    """Train each label on every row.

    What `skxmc.heads.svm.fit_svms` does where each label has rows of its own, five to ten times as
    fast (and in single precision), since all labels visit the same rows in the same order.

    Parameters
    ----------
    X : csr_array of shape (n_rows, n_features), float32
        Rows of unit length.
    Y : csr_array of shape (n_rows, n_labels)
        0/1 indicator.
    settings : SvmSettings
        Costs, and when to stop; a `tol` below 1e-6 is that.
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
    squares = (1 + X.multiply(X).sum(axis=1)).astype(np.float32)
    blocks = (
        delayed(_fit_block)(csr, least, squares, signs, costs, settings, seed)
        for signs, costs in _blocks(Y, settings)
    )
    done = Parallel(n_threads, require="sharedmem", return_as="generator")(blocks)
    weights, biases = [sp.csr_array((0, X.shape[1]), dtype=np.float32)], [np.empty(0, np.float32)]
    n_labels = Y.shape[1]
    with tqdm(total=n_labels, desc="ranker", unit="label", disable=not verbose) as bar:
        for weight, bias in done:
            weights.append(weight)
            biases.append(bias)
            bar.update(min(_kernels.WIDTH, n_labels - bar.n))
    # the last block's places beyond the last label are cut off
    weight = sp.vstack(weights, format="csr")[:n_labels]
    return as_csr(weight), np.concatenate(biases)[:n_labels]


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
        Of weights, dual variables and signs. Each thread has a block of its own.

    Examples
    --------
    >>> from skxmc.heads.one_vs_all import block_bytes
    >>> block_bytes(n_rows=10_000, n_features=2_000)
    3712000
    """
    return _kernels.WIDTH * (4 * n_features + 5 * n_rows)


def _blocks(Y: sp.csr_array, settings: SvmSettings) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield signs and costs of each block of labels; places beyond the last label have no rows."""
    width, columns = _kernels.WIDTH, Y.tocsc()
    for first in range(0, Y.shape[1], width):
        own = columns[:, first : first + width]
        signs = np.full((Y.shape[0], width), -1, dtype=np.int8)
        signs[:, : own.shape[1]] += (2 * (own.toarray() > 0)).astype(np.int8)
        costs = np.full((2, width), settings.cost_negative, dtype=np.float32)
        costs[1, : own.shape[1]] = settings.cost_positive[first : first + width]
        yield signs, costs


def _fit_block(csr, least, squares, signs, costs, settings: SvmSettings, seed: int):
    """Train a block of labels, and leave out small weights."""
    weights, bias = _kernels.fit_block(
        csr, least.size, squares, signs, costs, max(settings.tol, _FINEST), settings.max_iter,
        np.uint64(seed + 1),
    )  # fmt: skip
    small = np.abs(weights) < least[:, None]
    weights[small] = 0
    return as_csr(sp.csr_array(weights.T)), bias
