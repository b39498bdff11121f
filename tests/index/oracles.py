"""Random graphs, and what the index does with them spelt out in loops."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def adjacencies(draw, max_clusters=5, max_labels=8):
    """Draw (edges, n_labels): padded rows of distinct labels; rows may be empty."""
    n_labels = draw(st.integers(1, max_labels))
    row = st.lists(st.integers(0, n_labels - 1), unique=True, max_size=n_labels)
    rows = draw(st.lists(row, min_size=1, max_size=max_clusters))
    width = max(1, *map(len, rows), draw(st.integers(1, 4)))
    return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int32), n_labels


def best_parents_slowly(edges, weights, n_labels):
    parents = []
    for label in range(n_labels):
        incoming = [(-weights[c, e], c) for c, e in np.argwhere(edges == label)]
        parents.append(min(incoming)[1] if incoming else -1)
    return parents


def approximate_slowly(Y, membership, assignment, kappa):
    """Edges and weights of each cluster as lists of (label, weight), from dense matrices."""
    n_clusters = membership.shape[1]
    mass = membership.T.astype(np.float64) @ Y
    kappa = max(kappa, np.bincount(assignment).max(initial=0))
    rows = []
    for c in range(n_clusters):
        own = [label for label, cluster in enumerate(assignment) if cluster == c]
        others = [label for label in np.flatnonzero(mass[c] > 0) if label not in own]
        others.sort(key=lambda label: (-mass[c, label], label))
        row = []
        for label in own + others[: kappa - len(own)]:
            best = mass[:, label].max()
            row.append((label, mass[c, label] / best if best > 0 else 1.0))
        rows.append(sorted(row, key=lambda edge: (-np.float32(edge[1]), edge[0])))
    return rows
