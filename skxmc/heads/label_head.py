"""The label head: one vector and one bias a label."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skxmc.ops.row_table import CsrBatch, RowTable

__all__ = ["LabelHead", "log_prior"]


class LabelHead(nn.Module):
    """Scores of labels for embeddings: <weight_l, e> + bias_l, for the labels asked for.

    Parameters
    ----------
    bias : Tensor of shape (n_labels,), float32
        Starting biases, usually `log_prior`.
    embedding_dim : int
        Width of the embeddings.
    lr : float
        Learning rate of the rows (row-wise Adagrad, touched rows only).
    weight_decay : float
        Decoupled decay of touched rows.
    unit_rows : bool
        Keep label vectors at length 1 (they start at random, not at 0); there are no biases.

    Examples
    --------
    >>> import torch
    >>> from skxmc.heads import LabelHead
    >>> LabelHead(torch.zeros(5), embedding_dim=3, lr=0.1).n_labels
    5
    """

    def __init__(
        self,
        bias: Tensor,
        embedding_dim: int,
        *,
        lr: float,
        weight_decay: float = 0.0,
        unit_rows: bool = False,
    ):
        super().__init__()
        shape = (bias.shape[0], embedding_dim)
        weight = F.normalize(torch.randn(shape)) if unit_rows else torch.zeros(shape)
        self.rows = RowTable(
            weight,
            bias=None if unit_rows else bias,
            lr=lr,
            weight_decay=weight_decay,
            unit_rows=unit_rows,
        )

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return self.rows.weight.shape[0]

    def forward(self, embeddings: Tensor, shortlist: CsrBatch) -> Tensor:
        """Logits, one for each entry of a shortlist given as a CSR pattern of label columns."""
        return self.rows.dot(embeddings, shortlist)


def log_prior(label_counts: np.ndarray, n_rows: int) -> np.ndarray:
    """Log-odds of each label's share of the training rows, half a row added for safety.

    Parameters
    ----------
    label_counts : ndarray of shape (n_labels,)
        Training rows of each label.
    n_rows : int
        Training rows.

    Returns
    -------
    bias : ndarray of shape (n_labels,), float32

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.heads import log_prior
    >>> log_prior(np.array([2]), n_rows=4)
    array([0.], dtype=float32)
    """
    share = (np.asarray(label_counts, dtype=np.float64) + 0.5) / (n_rows + 1.0)
    return np.log(share / (1.0 - share)).astype(np.float32)
