"""Exhaustive search: score every label, a chunk of rows at a time."""

import numpy as np
from sklearn.utils import gen_batches

from skxmc.search import _kernels
from skxmc.topk import TopK, empty_topk

__all__ = ["exhaustive_topk"]

# Scores held at once: 64 MiB of float32, whatever the number of rows and labels.
_SCORES = 16 * 1024**2
# Candidates beyond k that are scored again, so that rounding cannot push one of the best k out.
_SPARE = 16


def exhaustive_topk(
    embeddings: np.ndarray, label_weight: np.ndarray, label_bias: np.ndarray, k: int
) -> TopK:
    """Find the k labels with the largest <w_l, e> + b_l.

    Parameters
    ----------
    embeddings : ndarray of shape (n_rows, embedding_dim), float32
        Queries.
    label_weight : ndarray of shape (n_labels, embedding_dim), float32
        Label vectors.
    label_bias : ndarray of shape (n_labels,), float32
        Label biases.
    k : int
        Labels a row, at most n_labels.

    Returns
    -------
    topk : TopK
        Best first, ties by the smaller label.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.search.exhaustive import exhaustive_topk
    >>> eye = np.eye(3, dtype=np.float32)
    >>> exhaustive_topk(eye[:1], eye, np.zeros(3, dtype=np.float32), k=2).indices
    array([[0, 1]])
    """
    n_rows, n_labels = embeddings.shape[0], label_weight.shape[0]
    out = empty_topk(n_rows, k)
    for part in gen_batches(n_rows, max(1, _SCORES // n_labels)):
        scores = embeddings[part] @ label_weight.T
        scores += label_bias
        candidates, _ = _kernels.top_columns(scores, min(n_labels, k + _SPARE))
        # a matrix product rounds by a label's place in it; what is returned must not depend on that
        out.indices[part], out.scores[part] = _kernels.rank_candidates(
            embeddings[part], candidates, label_weight, label_bias, k
        )
    return out
