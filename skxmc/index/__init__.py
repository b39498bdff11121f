"""The label index: clusters of labels, and the weighted graph from clusters to labels."""

from skxmc.index.adjacency import (
    Adjacency,
    approximate_adjacency,
    best_parents,
    partition_adjacency,
    reachable_fraction,
)
from skxmc.index.cluster_index import ClusterIndex
from skxmc.index.clustering import balanced_kmeans, label_centroids, n_clusters_for

__all__ = [
    "Adjacency",
    "ClusterIndex",
    "approximate_adjacency",
    "balanced_kmeans",
    "best_parents",
    "label_centroids",
    "n_clusters_for",
    "partition_adjacency",
    "reachable_fraction",
]
