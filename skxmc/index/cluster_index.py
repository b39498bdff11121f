"""The learned index: scores of clusters and weights of the edges that lead on to labels."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from skxmc.index.adjacency import Adjacency, reachable_fraction
from skxmc.ops.half import linear

__all__ = ["ClusterIndex"]


class ClusterIndex(nn.Module):
    """Cluster scores s_c = min(1, alpha softmax_c) and edge weights a_cl, in log space.

    Parameters
    ----------
    embedding_dim : int
        Width of the embeddings.
    adjacency : Adjacency
        Edges that start with their weights fixed (stage 1).
    alpha : float
        Gain of the cluster softmax: about how many clusters can be fully on.

    References
    ----------
    ELIAS (Gupta et al., NeurIPS 2022), section 4.1.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skxmc.index import ClusterIndex, partition_adjacency
    >>> index = ClusterIndex(3, partition_adjacency(np.array([0, 1, 1]), 2), alpha=1.0)
    >>> index.log_scores(torch.zeros(1, 3)).exp()
    tensor([[0.5000, 0.5000]], grad_fn=<ExpBackward0>)
    """

    edges: Tensor
    fixed_log_weights: Tensor

    def __init__(self, embedding_dim: int, adjacency: Adjacency, *, alpha: float):
        super().__init__()
        self.alpha = alpha
        self.n_labels = int(adjacency.edges.max(initial=-1)) + 1
        self.clusters = nn.Linear(embedding_dim, adjacency.edges.shape[0])
        nn.init.zeros_(self.clusters.weight)
        nn.init.zeros_(self.clusters.bias)
        self.edge_logits: nn.Parameter | None = None
        self.beta: float | None = None
        self.register_buffer("edges", torch.empty(0))
        self.register_buffer("fixed_log_weights", torch.empty(0))
        self.fix_edges(adjacency)

    @classmethod
    def like(cls, state: dict[str, Tensor], prefix: str, *, alpha: float) -> "ClusterIndex":
        """Make an index of the shapes of a saved one, ready for `load_state_dict`.

        `prefix` is what its names in `state` begin with. `beta` is left to the caller.
        """
        edges = state[f"{prefix}edges"].cpu().numpy()
        weights = np.ones(edges.shape, dtype=np.float32)
        width = state[f"{prefix}clusters.weight"].shape[1]
        index = cls(width, Adjacency(edges.copy(), weights), alpha=alpha)
        index.fixed_log_weights = torch.zeros_like(state[f"{prefix}fixed_log_weights"])
        if f"{prefix}edge_logits" in state:
            index.edge_logits = nn.Parameter(torch.zeros_like(state[f"{prefix}edge_logits"]))
        return index

    @property
    def reachable_fraction_(self) -> float:
        """Share of the labels that some cluster leads to; 1.0 by construction."""
        return reachable_fraction(self.edges.cpu().numpy(), self.n_labels)

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return self.edges.shape[0]

    def fix_edges(self, adjacency: Adjacency) -> None:
        """Take over a graph whose weights stay as they are."""
        self.edges, log_weights = self._tensors(adjacency)
        self.fixed_log_weights = log_weights
        self.edge_logits = None

    def learn_edges(self, adjacency: Adjacency, *, beta: float) -> None:
        """Take over a graph and learn its weights: a = min(1, beta softmax over the row's edges).

        The logits start so that the weights equal those given, scaled up where a row's sum is
        less than beta and down where it is more.
        """
        self.edges, log_weights = self._tensors(adjacency)
        self.edge_logits = nn.Parameter(log_weights.masked_fill(self.edges < 0, 0.0))
        self.beta = beta

    def log_scores(self, embeddings: Tensor) -> Tensor:
        """Log cluster scores, shape (n_rows, n_clusters), at most 0."""
        return cap_log(self.log_shares(embeddings), self.alpha)

    def log_shares(self, embeddings: Tensor) -> Tensor:
        """Log cluster softmax: ranks clusters as `log_scores` does, and those fully on as well."""
        return torch.log_softmax(self.logits(embeddings), dim=1)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return what the cluster softmax is taken of."""
        return linear(embeddings, self.clusters.weight, self.clusters.bias).float()

    def log_weights(self, rows: Tensor | None = None) -> Tensor:
        """Log edge weights of some clusters' rows (all if None); -inf at padding."""
        if self.edge_logits is None:
            return self.fixed_log_weights if rows is None else self.fixed_log_weights[rows]
        assert self.beta is not None
        edges = self.edges if rows is None else self.edges[rows]
        logits = self.edge_logits if rows is None else self.edge_logits[rows]
        padding = edges < 0
        # -1e9 instead of -inf: an empty row must not turn its gradient into NaN
        shares = torch.log_softmax(logits.masked_fill(padding, -1e9), dim=1)
        return cap_log(shares, self.beta).masked_fill(padding, -torch.inf)

    def _tensors(self, adjacency: Adjacency) -> tuple[Tensor, Tensor]:
        device = self.clusters.weight.device
        with np.errstate(divide="ignore"):
            log_weights = np.log(adjacency.weights)
        lowest = np.float32(math.log(1e-4))  # an edge that no row supports can still be learned
        log_weights = np.where(adjacency.edges >= 0, np.maximum(log_weights, lowest), -np.inf)
        edges = torch.from_numpy(adjacency.edges).to(device)
        return edges, torch.from_numpy(log_weights.astype(np.float32)).to(device)


def cap_log(log_share: Tensor, gain: float) -> Tensor:
    """Log min(1, gain * share)."""
    return torch.clamp(log_share + math.log(gain), max=0.0)
