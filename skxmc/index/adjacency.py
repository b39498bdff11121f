"""The cluster -> label graph: built from a partition or from where a model sends its rows."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

__all__ = [
    "Adjacency",
    "approximate_adjacency",
    "best_parents",
    "partition_adjacency",
    "reachable_fraction",
]

NO_LABEL = -1
# Memberships of rows in clusters that `approximate_adjacency` counts at once.
MEMBERS_AT_ONCE = 2**18


class Adjacency(NamedTuple):
    """Edges from clusters to labels, one padded row a cluster.

    Attributes
    ----------
    edges : ndarray of shape (n_clusters, width), int32
        Label columns; unused places at the end of a row are -1.
    weights : ndarray of shape (n_clusters, width), float32
        Edge weights in (0, 1]; 0 where `edges` is -1.
    """

    edges: np.ndarray
    weights: np.ndarray


def partition_adjacency(assignment: np.ndarray, n_clusters: int) -> Adjacency:
    """Give every label one edge of weight 1, from its cluster.

    Parameters
    ----------
    assignment : ndarray of shape (n_labels,), int
        Cluster of each label.
    n_clusters : int
        Number of clusters; a cluster may be empty.

    Returns
    -------
    adjacency : Adjacency
        Labels ascend within a row.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.index import partition_adjacency
    >>> partition_adjacency(np.array([1, 0, 1]), n_clusters=2).edges
    array([[ 1, -1],
           [ 0,  2]], dtype=int32)
    """
    labels = np.argsort(assignment, kind="stable")
    return _pad(assignment[labels], labels, np.ones(labels.size, np.float32), n_clusters)


def approximate_adjacency(Y, membership, assignment: np.ndarray, kappa: int) -> Adjacency:
    """Keep the kappa heaviest labels of each cluster, counting where a model sends their rows.

    The weight of edge (c, l) is the summed membership in c of the rows that carry l, as a share
    of the label's best cluster: 1 at the cluster that serves the label best. The label's edge from
    the partition is kept whatever its weight, so that every label stays reachable.

    Parameters
    ----------
    Y : sparse array of shape (n_rows, n_labels)
        0/1 indicator.
    membership : sparse array of shape (n_rows, n_clusters)
        Positive cluster scores of each row, its best few.
    assignment : ndarray of shape (n_labels,), int
        Partition of the labels.
    kappa : int
        Edges a cluster, raised to the size of the largest cluster of the partition if smaller.

    Returns
    -------
    adjacency : Adjacency

    References
    ----------
    ELIAS (Gupta et al., NeurIPS 2022), section 4.2 (approximate adjacency matrix).

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from skxmc.index import approximate_adjacency
    >>> Y = sp.csr_array([[1, 0], [0, 1], [1, 1]])
    >>> M = sp.csr_array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> approximate_adjacency(Y, M, np.array([0, 1]), kappa=2).edges
    array([[ 0, -1],
           [ 0,  1]], dtype=int32)
    """
    n_labels = assignment.size
    kappa = max(kappa, int(np.bincount(assignment, minlength=1).max(initial=1)))
    Y, best = sp.csr_array(Y, dtype=np.float32), np.zeros(n_labels, dtype=np.float32)
    rows_of = sp.csr_array(membership).T.tocsr()
    kept = []
    # some clusters at a time: all pairs of a cluster and a label it meets would be many more
    # than the graph keeps
    for first, last in _runs(rows_of, MEMBERS_AT_ONCE):
        mass = (rows_of[first:last] @ Y).tocoo()
        np.maximum.at(best, mass.col, mass.data)
        own = np.flatnonzero((assignment >= first) & (assignment < last))
        kept.append(_heaviest(mass, own, assignment[own] - first, kappa, first))
    clusters, labels, mass_of = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    # a label that no row carries has no mass: its one edge, from the partition, weighs 1
    weights = np.ones_like(mass_of)
    np.divide(mass_of, best[labels], out=weights, where=best[labels] > 0)
    order = np.lexsort((labels, -weights, clusters))
    return _pad(clusters[order], labels[order], weights[order], membership.shape[1])


def _runs(matrix: sp.csr_array, n_entries: int) -> Iterator[tuple[int, int]]:
    """Cut the rows into runs of about so many entries."""
    bounds = np.searchsorted(matrix.indptr, np.arange(0, matrix.nnz, n_entries))
    return itertools.pairwise((*np.unique(np.append(bounds, 0)), matrix.shape[0]))


def _heaviest(mass: sp.coo_array, labels, clusters, kappa: int, first: int):
    """Keep the kappa heaviest edges of each cluster, those of the partition before all others."""
    # the partition's edges join without mass of their own: summing duplicates keeps zeros
    none = np.zeros(labels.size, dtype=mass.dtype)
    places = (np.r_[mass.row, clusters], np.r_[mass.col, labels])
    union = sp.coo_array((np.r_[mass.data, none], places), shape=mass.shape)
    union.sum_duplicates()
    is_own = np.full(mass.shape[1], -1)
    is_own[labels] = clusters
    forced = is_own[union.col] == union.row
    order = np.lexsort((union.col, -union.data, ~forced, union.row))
    order = order[_rank_in_group(union.row[order]) < kappa]
    return union.row[order] + first, union.col[order], union.data[order]


def best_parents(edges: np.ndarray, weights: np.ndarray, n_labels: int) -> np.ndarray:
    """Find the heaviest incoming edge of each label, ties by the smaller cluster.

    Parameters
    ----------
    edges : ndarray of shape (n_clusters, width), int
        Label columns, -1 where unused.
    weights : ndarray of shape (n_clusters, width)
        Weights or their logarithms.
    n_labels : int
        Number of labels.

    Returns
    -------
    parents : ndarray of shape (n_labels,), int64
        Cluster of the heaviest edge; -1 for a label without an edge.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.index import best_parents
    >>> best_parents(np.array([[0, 1], [1, -1]]), np.array([[1.0, 0.2], [0.9, 0.0]]), n_labels=3)
    array([ 0,  1, -1])
    """
    clusters, columns = np.nonzero(edges >= 0)
    labels = edges[clusters, columns]
    order = np.lexsort((clusters, -weights[clusters, columns], labels))
    first = order[_rank_in_group(labels[order]) == 0]
    parents = np.full(n_labels, -1, dtype=np.int64)
    parents[labels[first]] = clusters[first]
    return parents


def reachable_fraction(edges: np.ndarray, n_labels: int) -> float:
    """Share of the labels that some cluster leads to.

    Parameters
    ----------
    edges : ndarray of shape (n_clusters, width), int
        Label columns, -1 where unused.
    n_labels : int
        Number of labels.

    Returns
    -------
    fraction : float

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.index import reachable_fraction
    >>> reachable_fraction(np.array([[0, 1], [1, -1]]), n_labels=4)
    0.5
    """
    return float(np.unique(edges[edges >= 0]).size / n_labels)


def _rank_in_group(groups: np.ndarray) -> np.ndarray:
    """Position of each element within its run of equal values."""
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]][: groups.size])
    lengths = np.diff(np.r_[starts, groups.size])
    return np.arange(groups.size) - np.repeat(starts, lengths)


def _pad(clusters, labels, weights, n_clusters) -> Adjacency:
    """Lay triples sorted by cluster out as padded rows."""
    rank = _rank_in_group(clusters)
    width = int(rank.max(initial=0)) + 1
    edges = np.full((n_clusters, width), NO_LABEL, dtype=np.int32)
    padded = np.zeros((n_clusters, width), dtype=np.float32)
    edges[clusters, rank] = labels
    padded[clusters, rank] = weights
    return Adjacency(edges, padded)
