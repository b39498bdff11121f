"""Where the bag-of-words table starts: singular directions of the training rows, or noise."""

import numpy as np
import scipy.sparse as sp
from sklearn.utils import gen_batches

from skxmc._sparse import as_csr
from skxmc.ops._kernels import bag

__all__ = ["leading_directions", "start_bytes", "start_table"]

# Rows that the SVD of the start looks at: more change nothing but the bill.
_SVD_ROWS = 100_000
# Passes over the rows. More would sharpen the last of the directions, which training moves anyway.
_PASSES = 2
# Rows whose Gram matrix is summed up at once, in float64.
_GRAM_ROWS = 4096
# A squared length below this share of the largest is rounding of float32.
_NEGLIGIBLE = 1e-12


def start_table(
    X: sp.csr_array, width: int, init: str, scale: float, random_state: np.random.RandomState
) -> np.ndarray:
    """Make feature embeddings under which rows have entries of root mean square `scale`.

    Parameters
    ----------
    X : csr_array of shape (n_rows, n_features), float32
        Normalised training rows.
    width : int
        Width of the embeddings.
    init : {"svd", "random"}
        Singular directions of the rows, or Gaussian noise.
    scale : float
        Root mean square wanted.
    random_state : RandomState
        Source of random numbers.

    Returns
    -------
    table : ndarray of shape (n_features, width), float32
    """
    n_features = X.shape[1]
    unused = np.bincount(X.indices, X.data != 0, minlength=n_features) == 0
    if X.shape[0] > _SVD_ROWS:
        X = X[random_state.permutation(X.shape[0])[:_SVD_ROWS]]
    rank = min(width, *X.shape)
    if init == "random" or rank < 1 or X.nnz == 0:
        table = random_state.standard_normal((n_features, width)).astype(np.float32)
    else:
        table = leading_directions(X, rank, random_state)
        if rank < width:  # spread evenly over all columns
            rotation, _ = np.linalg.qr(random_state.standard_normal((width, width)))
            table = table @ rotation[:rank].astype(np.float32)
    table[unused] = 0  # what no row has says nothing, now and after training
    embeddings = _product(X, table)
    size = float(np.sqrt(np.mean(np.square(embeddings, dtype=np.float64)))) if X.nnz else 1.0
    table *= np.float32(scale / (size or 1.0))
    return table


def leading_directions(
    X: sp.csr_array, rank: int, random_state: np.random.RandomState
) -> np.ndarray:
    """Find directions that span about the leading right singular vectors of a sparse matrix.

    Block power iteration. Which directions of the span these are is left to chance, so that only a
    Gram matrix as small as the rank is ever decomposed: several times cheaper than
    `sklearn.utils.extmath.randomized_svd`, which takes a QR and an SVD of tall matrices.

    Parameters
    ----------
    X : csr_array of shape (n_rows, n_features), float32
        The matrix.
    rank : int
        Directions wanted, at most the smaller side of X.
    random_state : RandomState
        Source of the start.

    Returns
    -------
    directions : ndarray of shape (n_features, rank), float32
        Columns are orthonormal where X has that rank. ``directions @ directions.T`` is a projection
        in any case.

    References
    ----------
    Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 2011.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from skxmc.encoders.start import leading_directions
    >>> X = sp.csr_array(np.diag(np.float32([0, 3, 2])))
    >>> V = leading_directions(X, 2, np.random.RandomState(0))
    >>> abs(V @ V.T).round(3).diagonal().tolist()
    [0.0, 1.0, 1.0]
    """
    transposed = as_csr(X.T)
    rng = np.random.default_rng(random_state.randint(2**31 - 1))  # draws float32, unlike the other
    basis = rng.standard_normal((X.shape[1], rank), dtype=np.float32)
    for _ in range(_PASSES):
        basis = _product(transposed, _product(X, basis))
        basis = basis @ _whitening(basis)
    return basis


def _whitening(A: np.ndarray) -> np.ndarray:
    """Inverse root of the Gram matrix of a tall matrix: turns its columns as little as may be."""
    gram = np.zeros((A.shape[1], A.shape[1]))
    for part in gen_batches(A.shape[0], _GRAM_ROWS):
        block = A[part].astype(np.float64)
        gram += block.T @ block
    squares, axes = np.linalg.eigh(gram)
    kept = squares > _NEGLIGIBLE * squares[-1]
    axes, squares = axes[:, kept], squares[kept]
    return ((axes / np.sqrt(squares)) @ axes.T).astype(np.float32)


def _product(X: sp.csr_array, dense: np.ndarray) -> np.ndarray:
    """X @ dense, on all threads and with wide instructions."""
    out = np.empty((X.shape[0], dense.shape[1]), dtype=np.float32)
    bag(X.indptr, X.indices, X.data, dense, out)
    return out


def start_bytes(entries: int, n_rows: int, n_features: int, width: int, init: str) -> int:
    """Count what `start_table` takes at its largest, the table among it.

    Parameters
    ----------
    entries, n_rows, n_features : int
        Entries that are not zero, and the shape, of the training rows.
    width : int
        Width of the embeddings.
    init : {"svd", "random"}
        The start.

    Returns
    -------
    n_bytes : int

    Examples
    --------
    >>> from skxmc.encoders.start import start_bytes
    >>> start_bytes(1000, 100, 1000, 1, "random")
    12000
    """
    looked_at = min(n_rows, _SVD_ROWS)
    counting = 9 * entries
    sample = 8 * entries * looked_at // n_rows if n_rows > looked_at else 0
    scaling = (4 * n_features + 12 * looked_at) * width
    if init == "random":  # drawn in float64
        return max(counting, sample + max(12 * n_features * width, scaling))
    rank = min(width, looked_at, n_features)
    # a product with the rows, the Gram matrix of a basis, or a basis before and after its whitening
    product = 4 * (looked_at + n_features)
    gram = 4 * n_features + 8 * min(n_features, _GRAM_ROWS)
    power = 8 * entries + max(product, gram, 8 * n_features) * rank + 24 * rank**2
    rotation = 4 * n_features * (rank + width) + 24 * width**2
    return max(counting, sample + max(power, rotation, scaling))
