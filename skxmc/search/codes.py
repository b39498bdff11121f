"""Vectors in less memory: rounded to few bits, or seen from a few directions only."""

from itertools import pairwise

import numpy as np
from sklearn.utils import gen_batches

__all__ = ["by_word", "pack_rows", "round_rows", "sign_rows", "sketch_rows"]

# Rows rounded at once: their copies stay small beside the model.
_ROWS = 4096


def round_rows(weight: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Round rows to integers, each with the scale that brings its largest entry to `largest`.

    Parameters
    ----------
    weight : ndarray of shape (n_rows, width), float32
        Finite rows.
    largest : int
        At most 32767.

    Returns
    -------
    rounded : ndarray of shape (n_rows, width), int8, or int16 where `largest` is above 127
    scale : ndarray of shape (n_rows,), float32
        `scale` times `rounded` is off by half a `scale` at most; 0 for rows of zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.search.codes import round_rows
    >>> rounded, scale = round_rows(np.array([[2.54, -1.0], [0.0, 0.0]], dtype=np.float32), 127)
    >>> rounded
    array([[127, -50],
           [  0,   0]], dtype=int8)
    >>> scale
    array([0.02, 0.  ], dtype=float32)
    """
    rounded = np.empty(weight.shape, np.int8 if largest <= 127 else np.int16)
    scale = np.empty(weight.shape[0], np.float32)
    for part in gen_batches(weight.shape[0], _ROWS):
        scale[part] = np.abs(weight[part]).max(axis=1, initial=0.0) / np.float32(largest)
        step = np.maximum(scale[part], np.finfo(np.float32).tiny)[:, None]
        rounded[part] = np.clip(np.rint(weight[part] / step), -largest, largest)
    return rounded, scale


def pack_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round rows to 4 bits: the two halves of a row share its bytes, 8 stands for zero.

    Parameters
    ----------
    weight : ndarray of shape (n_rows, width), float32
        Finite rows.

    Returns
    -------
    codes : ndarray of shape (n_rows, (width + 1) // 2), uint8
        The low four bits are of the first half.
    scale : ndarray of shape (n_rows,), float32
        As `round_rows` returns.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.search.codes import pack_rows
    >>> codes, scale = pack_rows(np.array([[7.0, -1.0]], dtype=np.float32))
    >>> codes & 15, codes >> 4
    (array([[15]], dtype=uint8), array([[7]], dtype=uint8))
    """
    rounded, scale = round_rows(weight, 7)
    half = (weight.shape[1] + 1) // 2
    codes = (rounded[:, :half] + 8).view(np.uint8)
    high = (rounded[:, half:] + 8).view(np.uint8)
    codes[:, : high.shape[1]] |= high << 4
    # where the width is odd the last byte has no high half
    codes[:, high.shape[1] :] |= 8 << 4
    return codes, scale


def sign_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep of each number one bit: whether it is above the mean of its column.

    A row is nearly ``centre + scale * spread * sign``, with the sign of each of its bits; products
    with other vectors are off by about the share 0.75 / sqrt(width) of the two lengths.

    Parameters
    ----------
    weight : ndarray of shape (n_rows, width), float32
        Finite rows.

    Returns
    -------
    bits : ndarray of shape (n_rows, n_words), uint64
        ``n_words = ceil(width / 64)``. Column j is bit ``j // n_words`` of word ``j % n_words``:
        vectors take in neighbouring columns.
    scale : ndarray of shape (n_rows,), float32
        0 for rows that are the mean.
    axes : ndarray of shape (2, width), float32
        The columns' means, the centre, and root mean squares about them, the spread.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.search.codes import sign_rows
    >>> bits, scale, axes = sign_rows(np.array([[1.0, 5.0], [3.0, -5.0]], dtype=np.float32))
    >>> bits.ravel()
    array([2, 1], dtype=uint64)
    >>> axes[0] + scale[:, None] * axes[1] * [[-1, 1], [1, -1]]
    array([[ 1.,  5.],
           [ 3., -5.]])
    """
    n_rows, width = weight.shape
    centre = weight.mean(axis=0, dtype=np.float64).astype(np.float32)
    squares = np.zeros(width)
    for part in gen_batches(n_rows, _ROWS):
        squares += np.square(weight[part] - centre).sum(axis=0, dtype=np.float64)
    spread = np.sqrt(squares / n_rows).astype(np.float32)
    n_words = -(-width // 64)
    octets = np.empty((n_rows, n_words, 8), np.uint8)
    scale = np.empty(n_rows, np.float32)
    for part in gen_batches(n_rows, _ROWS):
        rest = weight[part] - centre
        above = np.zeros((len(rest), 64 * n_words), np.bool_)
        above[:, :width] = rest > 0
        by_word = above.reshape(-1, 64, n_words).swapaxes(1, 2)
        octets[part] = np.packbits(by_word, axis=2, bitorder="little")
        # such that the product of a row with itself comes out right
        along = np.maximum(np.abs(rest) @ spread, np.finfo(np.float32).tiny)
        scale[part] = np.square(rest).sum(axis=1) / along
    bits = octets.view("<u8")[:, :, 0].astype(np.uint64, copy=False)
    return bits, scale, np.stack((centre, spread))


def by_word(bits: np.ndarray, labels: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Copy labels' bits to edges, each cluster's first words in front of its second ones.

    Parameters
    ----------
    bits : ndarray of shape (n_labels, n_words), uint64
        As `sign_rows` returns them.
    labels : ndarray of shape (n_edges,), int32
        The edges' labels.
    indptr : ndarray of shape (n_clusters + 1,), int32
        Where the edges of each cluster start.

    Returns
    -------
    edge_bits : ndarray of shape (n_edges, n_words), uint64
        The rows of a cluster, read as one of shape (n_words, n_own), have a column for each edge.

    Examples
    --------
    Two labels of two words, in a cluster of both and in one of the second alone:

    >>> import numpy as np
    >>> from skxmc.search.codes import by_word
    >>> bits = np.array([[10, 11], [20, 21]], dtype=np.uint64)
    >>> by_word(bits, np.array([0, 1, 1]), np.array([0, 2, 3]))
    array([[10, 20],
           [11, 21],
           [20, 21]], dtype=uint64)
    """
    edge_bits = np.empty((labels.size, bits.shape[1]), np.uint64)
    for start, stop in pairwise(indptr):
        own = edge_bits[start:stop]
        own.reshape(bits.shape[1], stop - start)[:] = bits[labels[start:stop]].T
    return edge_bits


def sketch_rows(weight: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Project rows on the directions in which they are largest.

    Parameters
    ----------
    weight : ndarray of shape (n_rows, n_columns), float32
        Finite rows.
    width : int
        Directions, at most n_columns; with all of them products stay what they are.

    Returns
    -------
    basis : ndarray of shape (width, n_columns), float32
        Orthonormal: eigenvectors of the rows' second moments.
    sketch : ndarray of shape (n_rows, width), float32
        The rows times `basis`; (0, 0) for a width of 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.search.codes import sketch_rows
    >>> basis, sketch = sketch_rows(np.array([[3.0, 0.0], [-3.0, 0.1]], dtype=np.float32), 1)
    >>> np.abs(basis).round(), np.abs(sketch).round()
    (array([[1., 0.]], dtype=float32), array([[3.],
           [3.]], dtype=float32))
    """
    if width == 0:
        return np.zeros((0, weight.shape[1]), np.float32), np.zeros((0, 0), np.float32)
    moments = weight.T @ weight
    _, vectors = np.linalg.eigh(moments.astype(np.float64))
    basis = np.ascontiguousarray(vectors[:, ::-1][:, :width].T, dtype=np.float32)
    return basis, weight @ basis.T
