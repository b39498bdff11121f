"""Vectors in less memory: rounded to few bits."""

from itertools import pairwise

import numpy as np
from sklearn.utils import gen_batches

from skxmc.search.numeric._vectors import BYTES, CLUSTERS, EDGES

__all__ = ["by_word", "byte_rows", "half_width", "pack_rows", "round_rows", "sign_rows"]

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


def byte_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round rows to 8 bits, 128 stands for zero; sixteen rows to a block, side by side.

    Four columns of sixteen rows are one vector: with four numbers repeated in all of its places, an
    instruction multiplies and adds them for sixteen rows at once.

    Parameters
    ----------
    weight : ndarray of shape (n_rows, width), float32
        Finite rows.

    Returns
    -------
    codes : ndarray of shape (ceil(n_rows / 16), ceil(width / 4), 16, 4), uint8
        Column j of row i is ``codes[i // 16, j // 4, i % 16, j % 4]``; what is left over is 128.
    scale : ndarray of shape (n_rows,), float32
        As `round_rows` returns.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.search.codes import byte_rows
    >>> codes, scale = byte_rows(np.array([[127.0, -1.0], [0.0, -127.0]], dtype=np.float32))
    >>> codes[0, 0, :3]
    array([[255, 127, 128, 128],
           [128,   1, 128, 128],
           [128, 128, 128, 128]], dtype=uint8)
    """
    rounded, scale = round_rows(weight, 127)
    n_blocks, n_fours = -(-weight.shape[0] // CLUSTERS), -(-weight.shape[1] // 4)
    rows = np.full((CLUSTERS * n_blocks, 4 * n_fours), 128, np.uint8)
    rows[: weight.shape[0], : weight.shape[1]] ^= rounded.view(np.uint8)  # 128 more
    codes = rows.reshape(n_blocks, CLUSTERS, n_fours, 4).swapaxes(1, 2)
    return np.ascontiguousarray(codes), scale


def pack_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round rows to 4 bits: the two halves of a row share its bytes, 8 stands for zero.

    Parameters
    ----------
    weight : ndarray of shape (n_rows, width), float32
        Finite rows.

    Returns
    -------
    codes : ndarray of shape (n_rows, half_width), uint8
        The low four bits are of the first columns, as many as `half_width(width)`.
    scale : ndarray of shape (n_rows,), float32
        As `round_rows` returns.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.search.codes import pack_rows
    >>> row = np.zeros((1, 40), dtype=np.float32)
    >>> row[0, [0, 33]] = 7.0, -1.0
    >>> codes, scale = pack_rows(row)
    >>> codes[0, :3] & 15, codes[0, :3] >> 4
    (array([15,  8,  8], dtype=uint8), array([8, 7, 8], dtype=uint8))
    """
    rounded, scale = round_rows(weight, 7)
    half = half_width(weight.shape[1])
    codes = np.full((len(weight), half), 8 + (8 << 4), np.uint8)
    low, high = rounded[:, :half], rounded[:, half:]
    codes[:, : low.shape[1]] += low.view(np.uint8)
    codes[:, : high.shape[1]] += high.view(np.uint8) << 4
    return codes, scale


def half_width(width: int) -> int:
    """Return half of a width, rounded up to what a vector of bytes takes in.

    Parameters
    ----------
    width : int
        Of an embedding.

    Returns
    -------
    half : int
        A multiple of 32.

    Examples
    --------
    >>> from skxmc.search.codes import half_width
    >>> half_width(100), half_width(512)
    (64, 256)
    """
    return -(-width // (2 * BYTES)) * BYTES


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
    """Copy labels' bits to edges: of eight edges of a cluster first the first words, and so on.

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
        The rows of eight edges, read as (n_words, 8), have a column for each edge; the last edges
        of a cluster, fewer than eight, likewise.

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
    n_words = bits.shape[1]
    edge_bits = np.empty((labels.size, n_words), np.uint64)
    for start, stop in pairwise(indptr):
        n_eights = (stop - start) // EDGES
        rest = start + n_eights * EDGES
        eights = bits[labels[start:rest]].reshape(n_eights, EDGES, n_words).swapaxes(1, 2)
        edge_bits[start:rest].reshape(n_eights, n_words, EDGES)[:] = eights
        edge_bits[rest:stop].reshape(n_words, stop - rest)[:] = bits[labels[rest:stop]].T
    return edge_bits
