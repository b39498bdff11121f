"""Where label vectors start: at zero, or along the centroids of their rows' embeddings."""

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import gen_batches

from skxmc.heads.label_head import LabelHead

__all__ = ["LABEL_STARTS", "start_at_centroids", "start_bytes"]

LABEL_STARTS = ("zeros", "centroids")
# Score above its prior of a row whose embedding points exactly where its label's centroid does.
GAIN = 4.0
# A mean of unit vectors that is shorter is rounding of float32.
_NEGLIGIBLE = 1e-5
# Labels whose centroids are found at once.
_LABELS_AT_ONCE = 2**12


@torch.no_grad()
def start_at_centroids(head: LabelHead, embeddings: np.ndarray, Y: sp.csr_array) -> None:
    """Point each label's vector where the embeddings of its training rows point.

    Each row has one vote, however long its embedding. Biases stay as they are; so does a label
    that has no rows, or whose rows say nothing in the sum.

    Parameters
    ----------
    head : LabelHead
        Its vectors are overwritten. Under `unit_rows` they get length 1, else one that makes the
        score of a row of average length differ from the label's bias by `GAIN` times the cosine.
    embeddings : ndarray of shape (n_rows, embedding_dim), float32
        Of the training rows.
    Y : csr_array of shape (n_rows, n_labels)
        Canonical 0/1 indicator.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp, torch
    >>> from skxmc.heads import LabelHead
    >>> from skxmc.heads.start import start_at_centroids
    >>> head = LabelHead(torch.zeros(2), embedding_dim=2, lr=0.1)
    >>> rows = np.float32([[2, 0], [0, 2], [0, 2]])
    >>> start_at_centroids(head, rows, sp.csr_array(np.float32([[1, 0], [1, 1], [0, 1]])))
    >>> head.rows.weight.numpy().round(2)
    array([[1.41, 1.41],
           [0.  , 2.  ]], dtype=float32)
    """
    squares = np.einsum("ij,ij->i", embeddings, embeddings, dtype=np.float64)
    votes = np.divide(1.0, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)
    by_label = sp.csr_array(Y.T)
    by_label.data = votes.astype(np.float32)[by_label.indices]
    weight = head.rows.weight
    length = 1.0 if head.rows.unit_rows else GAIN / max(np.sqrt(squares.mean()), 1e-12)
    for part in gen_batches(head.n_labels, _LABELS_AT_ONCE):
        sums = by_label[part] @ embeddings
        sizes = np.linalg.norm(sums, axis=1)
        votes_of = np.diff(by_label.indptr[part.start : part.stop + 1])
        known = np.flatnonzero(sizes > _NEGLIGIBLE * votes_of)
        rows = sums[known] * (length / sizes[known, None]).astype(np.float32)
        where = torch.from_numpy(known + part.start).to(weight.device)
        weight[where] = torch.from_numpy(rows).to(weight.device)


def start_bytes(n_rows: int, n_labels: int, n_entries: int, width: int) -> int:
    """Count what `start_at_centroids` takes at its largest, the embeddings among it.

    Parameters
    ----------
    n_rows, n_labels, n_entries : int
        Shape of the truth, and its entries.
    width : int
        Width of the embeddings.

    Returns
    -------
    n_bytes : int

    Examples
    --------
    >>> from skxmc.heads.start import start_bytes
    >>> start_bytes(1000, 1, 0, 64) - start_bytes(0, 1, 0, 64)
    272000
    """
    at_once = min(n_labels, _LABELS_AT_ONCE)
    # embeddings with their lengths, the transposed truth, a part's sums and three copies of them
    return n_rows * (4 * width + 16) + 12 * n_entries + 4 * n_labels + 16 * at_once * width
