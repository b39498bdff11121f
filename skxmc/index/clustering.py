"""Balanced hierarchical k-means over label centroids: the starting partition of the labels."""

import numba
import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from skxmc._sparse import as_csr, normalize_rows
from skxmc.index._kernels import balanced_splits

__all__ = ["balanced_kmeans", "label_centroids", "n_clusters_for"]


def n_clusters_for(n_labels: int, max_leaf: int) -> int:
    """Return the smallest power of two that leaves at most `max_leaf` labels a cluster.

    Parameters
    ----------
    n_labels : int
        Number of labels.
    max_leaf : int
        Largest allowed cluster size.

    Returns
    -------
    n_clusters : int
        Power of two, at most `n_labels` rounded up to one.

    References
    ----------
    ELIAS (Gupta et al., NeurIPS 2022), section 4: C is the number of leaves of the balanced
    hierarchy.

    Examples
    --------
    >>> from skxmc.index.clustering import n_clusters_for
    >>> n_clusters_for(670_091, max_leaf=100)
    8192
    """
    n_clusters = 1
    while n_labels > n_clusters * max_leaf:
        n_clusters *= 2
    return n_clusters


def label_centroids(X, Y) -> sp.csr_array:
    """Sum the features of each label's rows and scale the sum to unit length (PIFA).

    Parameters
    ----------
    X : sparse array of shape (n_rows, n_features)
        Features; rows are usually of unit length, so that each row has one vote.
    Y : sparse array of shape (n_rows, n_labels)
        0/1 indicator.

    Returns
    -------
    centroids : csr_array of shape (n_labels, n_features), dtype float32
        A label without rows has an empty centroid.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from skxmc.index.clustering import label_centroids
    >>> label_centroids(sp.csr_array([[3.0, 0.0], [0.0, 4.0]]), sp.csr_array([[1], [1]])).toarray()
    array([[0.6, 0.8]], dtype=float32)
    """
    sums = sp.csr_array(Y, dtype=np.float32).T.tocsr() @ sp.csr_array(X)
    sums.sort_indices()  # in place: this is the largest array of a fit that has many labels
    return normalize_rows(as_csr(sums))


def balanced_kmeans(
    centroids, n_clusters: int, *, n_iterations: int = 8, random_state=None
) -> np.ndarray:
    """Partition labels into clusters of equal size by recursive balanced 2-means.

    Parameters
    ----------
    centroids : sparse array of shape (n_labels, n_features)
        One vector a label; cosine similarity is used.
    n_clusters : int
        A power of two.
    n_iterations : int, default=8
        2-means rounds in a node; a node that no longer changes stops earlier.
    random_state : int, RandomState or None, default=None
        Chooses the two seed labels of every node.

    Returns
    -------
    assignment : ndarray of shape (n_labels,), dtype int64
        Cluster of each label; cluster sizes differ by at most one a level of the hierarchy.

    Raises
    ------
    ValueError
        If `n_clusters` is not a power of two.

    References
    ----------
    Prabhu et al., "Parabel", WWW 2018, section 3 (balanced spherical 2-means).

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from skxmc.index.clustering import balanced_kmeans
    >>> points = sp.csr_array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
    >>> a = balanced_kmeans(points, 2, random_state=0)
    >>> bool(a[0] == a[2]), bool(a[1] == a[3]), bool(a[0] == a[1])
    (True, True, False)
    """
    if n_clusters < 1 or n_clusters & (n_clusters - 1):
        raise ValueError(f"balanced_kmeans: n_clusters must be a power of two, got {n_clusters}.")
    rng = check_random_state(random_state)
    centroids = as_csr(centroids)
    csr = (centroids.indptr, centroids.indices, centroids.data, centroids.shape[1])
    # labels by node, and where the nodes start
    rows, bounds = np.arange(centroids.shape[0]), np.array([0, centroids.shape[0]])
    while bounds.size <= n_clusters:
        seeds = np.array([_seeds(size, rng) for size in np.diff(bounds)])
        turns = (np.zeros(1, dtype=np.int64), numba.get_num_threads())
        balanced_splits(csr, rows, bounds, seeds, n_iterations, *turns)
        middles = (bounds[:-1] + bounds[1:] + 1) // 2
        bounds = np.append(np.column_stack((bounds[:-1], middles)), bounds[-1])
    assignment = np.empty(centroids.shape[0], dtype=np.int64)
    assignment[rows] = np.repeat(np.arange(n_clusters), np.diff(bounds))
    return assignment


def _seeds(size: int, rng: np.random.RandomState) -> np.ndarray:
    """Draw two places in a node; of one that is not to be split, none is looked at."""
    return np.zeros(2, np.int64) if size < 2 else rng.choice(size, size=2, replace=False)
