"""What ELIAS trains: encoder, cluster index and label head, and the settings of a stage."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from skxmc.encoders.base import Encoder
from skxmc.heads.label_head import LabelHead
from skxmc.index import ClusterIndex
from skxmc.training.mining import Pattern

__all__ = ["EliasBatch", "EliasModel", "EliasRates", "rows_taught"]

# Cluster scores of a step at most that clusters learn from: the products of all of a batch with
# 8192 clusters would take longer than all the rest of the step.
_CLUSTER_SCORES = 2**20


def rows_taught(n_rows: int, n_clusters: int) -> int:
    """Count the rows of a mini-batch that the cluster layer learns from.

    Rows are in random order, so that the first ones are a fair sample.

    Parameters
    ----------
    n_rows : int
        Rows of the mini-batch.
    n_clusters : int
        Number of clusters.

    Returns
    -------
    n_taught : int
        All rows up to 4096 clusters and 256 rows, at least one beyond.

    Examples
    --------
    >>> from skxmc.training.elias_model import rows_taught
    >>> rows_taught(256, 512), rows_taught(256, 8192)
    (256, 128)
    """
    return max(1, min(n_rows, _CLUSTER_SCORES // n_clusters))


class EliasModel(nn.Module):
    """The three parts data flows through, held together as one module.

    Parameters
    ----------
    encoder : Encoder
        Rows to embeddings.
    index : ClusterIndex
        Embeddings to clusters, clusters to labels.
    head : LabelHead
        Embeddings to label logits.
    path_power : float, default=1.0
        Exponent of the path score in the final score p = r^path_power sigmoid(z).
    """

    def __init__(
        self, encoder: Encoder, index: ClusterIndex, head: LabelHead, path_power: float = 1.0
    ):
        super().__init__()
        self.path_power = path_power
        self.encoder = encoder
        self.index = index
        self.head = head


@dataclass(frozen=True)
class EliasRates:
    """Rates and weights of one stage.

    Attributes
    ----------
    lr_encoder, lr_clusters, lr_edges : float
        Learning rates of the encoder's dense layers, the cluster layer and the edge logits.
    lr_factor_tables : float
        Factor on the rates of the feature and label tables.
    weight_decay : float
        Decoupled decay of dense weight matrices.
    dropout : float
        Dropout of the embedding.
    lambda_shortlist : float
        Weight of the positives' path cost in the loss.
    beam_width, shortlist_size : int
        Clusters followed and labels scored for each training row.
    exploration : float
        1 draws the shortlist in proportion to the path scores, 0 takes the best.
    least_pull : float
        On the CPU, gradients in label logits that are smaller than this (of at most 1) are rounded
        at random, most of them to 0, which costs nothing.
    """

    lr_encoder: float
    lr_clusters: float
    lr_edges: float
    lr_factor_tables: float
    weight_decay: float
    dropout: float
    lambda_shortlist: float
    beam_width: int
    shortlist_size: int
    exploration: float
    least_pull: float = 0.0


class EliasBatch(NamedTuple):
    """What an engine finds the losses of.

    Attributes
    ----------
    embeddings : Tensor of shape (n_rows, embedding_dim)
        Of a mini-batch.
    pattern : Pattern
        Its positives.
    parents : Tensor of shape (n_labels,), int64
        Cluster of each label's heaviest edge.
    seed : int
        Of the draw of shortlists.
    """

    embeddings: Tensor
    pattern: Pattern
    parents: Tensor
    seed: int
