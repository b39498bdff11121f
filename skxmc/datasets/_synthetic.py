"""Synthetic data shaped like extreme classification: long-tailed labels in topics, sparse rows."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from skxmc._sparse import as_csr, normalize_rows
from skxmc._validation import check_int, check_number

_OWNER = "make_xmc_classification"
# How many of a row's further labels come from the topic of its first one.
_COHERENCE = 0.8
# Of the features a label explains, how many are those of its topic.
_TOPIC_SHARE = 0.3
_SIGNATURE_SIZE = 5
_TOPIC_SIZE = 10
_MAX_ROUNDS = 20
_MAX_FEATURES = np.iinfo(np.int32).max


class _Labels(NamedTuple):
    """Frequency and topic of each label, both of shape (n_labels,)."""

    weights: np.ndarray
    topics: np.ndarray
    n_topics: int


def make_xmc_classification(
    n_samples: int = 1000,
    n_features: int = 2000,
    n_labels: int = 500,
    *,
    n_labels_per_row: float = 3.0,
    n_features_per_row: float = 20.0,
    exponent: float = 1.0,
    n_topics: int | None = None,
    noise: float = 0.2,
    random_state=None,
    return_topics: bool = False,
):
    """Make a sparse multi-label problem with long-tailed labels.

    The frequency of the r-th most frequent label falls as ``r ** -exponent``. Each label belongs to
    a topic. A row has a first label; most of its further ones are of the same topic. Each label has
    five features of its own, each topic ten; the features of a row are drawn from those of its
    labels and their topics, and a share `noise` of them from a background that says nothing. Values
    are those of tf-idf. Labels are numbered without regard to frequency or topic.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    n_features : int, default=2000
        Number of features. Labels and topics draw their features from all of them, so that with
        few features they share some and the problem gets harder.
    n_labels : int, default=500
        Number of labels. With few rows the rarest labels have none.
    n_labels_per_row : float, default=3.0
        Mean number of labels of a row, at least 1; each row has at least one. Less where a label
        would have to be in more rows than there are, as happens with few labels and a steep
        `exponent`.
    n_features_per_row : float, default=20.0
        Mean number of features drawn for a row, at least 1; some are drawn twice and count once.
    exponent : float, default=1.0
        Steepness of the label frequencies; 0 makes all labels equally frequent.
    n_topics : int or None, default=None
        Number of topics, of equally many labels each; None takes the square root of `n_labels`.
    noise : float, default=0.2
        Share of the features, from 0 to 1, that do not depend on the labels.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same data in each call.
    return_topics : bool, default=False
        Whether to return the topic of each label too.

    Returns
    -------
    X : csr_array of shape (n_samples, n_features), dtype float32
        Non-negative rows of unit Euclidean length.
    Y : csr_array of shape (n_samples, n_labels), dtype int8
        1 where the row has the label.
    topics : ndarray of shape (n_labels,), dtype int64
        The topic of each label. Only returned if `return_topics` is True.

    Raises
    ------
    TypeError
        If a parameter is not of the type told above.
    ValueError
        If a parameter is out of its bounds.

    See Also
    --------
    load_debian_packages : Real data, bundled with the package.

    Examples
    --------
    >>> from skxmc.datasets import make_xmc_classification
    >>> X, Y = make_xmc_classification(n_samples=200, n_labels=50, random_state=0)
    >>> X.shape, Y.shape
    ((200, 2000), (200, 50))
    >>> int(Y.sum(axis=1).min())
    1
    """
    check_int(_OWNER, "n_samples", n_samples, minimum=1)
    check_int(_OWNER, "n_features", n_features, minimum=1, maximum=_MAX_FEATURES)
    check_int(_OWNER, "n_labels", n_labels, minimum=1)
    check_number(_OWNER, "n_labels_per_row", n_labels_per_row, minimum=1, maximum=n_labels)
    check_number(_OWNER, "n_features_per_row", n_features_per_row, minimum=1)
    check_number(_OWNER, "exponent", exponent, minimum=0)
    check_number(_OWNER, "noise", noise, minimum=0, maximum=1)
    if n_topics is None:
        n_topics = max(1, round(n_labels**0.5))
    check_int(_OWNER, "n_topics", n_topics, minimum=1, maximum=n_labels)
    rng = check_random_state(random_state)
    labels = _draw_labels(rng, n_labels, n_topics, exponent)
    Y = _draw_targets(rng, labels, n_samples, n_labels_per_row - 1)
    counts = _draw_feature_counts(rng, labels, Y, n_features, n_features_per_row, noise)
    X = normalize_rows(_tf_idf(counts))
    return (X, Y, labels.topics) if return_topics else (X, Y)


def _draw_labels(rng, n_labels: int, n_topics: int, exponent: float) -> _Labels:
    weights = rng.permutation(np.arange(1, n_labels + 1, dtype=np.float64) ** -exponent)
    topics = rng.permutation(np.arange(n_labels, dtype=np.int64) % n_topics)
    return _Labels(weights / weights.sum(), topics, n_topics)


def _draw_targets(rng, labels: _Labels, n_samples: int, n_further: float) -> sp.csr_array:
    """Give each row a first label, then deal the further ones out, label by label.

    How often a label is dealt is settled before the rows are drawn. A row that has the label
    already is drawn anew, so frequencies do not suffer from collisions.
    """
    n_labels = len(labels.weights)
    first = rng.choice(n_labels, size=n_samples, p=labels.weights)
    expected = n_samples * n_further * labels.weights
    room = n_samples - np.bincount(first, minlength=n_labels)
    n_dealt = np.minimum(_round_at_random(rng, expected), room)
    dealt = np.repeat(np.arange(n_labels), n_dealt)
    keys = np.arange(n_samples) * n_labels + first
    rows = _draw_rows_by_topic(rng, labels, labels.topics[first], dealt)
    for _ in range(_MAX_ROUNDS):
        n_settled = len(keys)
        keys, where = np.unique(np.append(keys, rows * n_labels + dealt), return_index=True)
        collided = np.ones(len(dealt), dtype=bool)
        collided[where[where >= n_settled] - n_settled] = False
        dealt = dealt[collided]
        if not len(dealt):
            break
        rows = rng.randint(n_samples, size=len(dealt), dtype=np.int64)
    return _binary_csr(keys // n_labels, keys % n_labels, (n_samples, n_labels))


def _round_at_random(rng, values: np.ndarray) -> np.ndarray:
    """Round up or down so that the mean is kept."""
    whole = np.floor(values)
    return (whole + (rng.random_sample(len(values)) < values - whole)).astype(np.int64)


def _draw_rows_by_topic(rng, labels: _Labels, row_topics, dealt) -> np.ndarray:
    """Draw a row for each dealt label: mostly one of the label's topic, else any."""
    by_topic = np.argsort(row_topics, kind="stable")
    sizes = np.bincount(row_topics, minlength=labels.n_topics)
    starts = np.cumsum(sizes) - sizes
    topics = labels.topics[dealt]
    place = (rng.random_sample(len(dealt)) * sizes[topics]).astype(np.int64)
    anywhere = (rng.random_sample(len(dealt)) >= _COHERENCE) | (sizes[topics] == 0)
    rows = rng.randint(len(row_topics), size=len(dealt), dtype=np.int64)
    coherent = ~anywhere
    rows[coherent] = by_topic[(starts[topics] + place)[coherent]]
    return rows


def _binary_csr(rows, columns, shape) -> sp.csr_array:
    """Build 0/1 CSR of pairs sorted by row and column, without repeats."""
    lengths = np.bincount(rows, minlength=shape[0])
    # As everywhere in the package, index arrays are int32 where they fit.
    index = np.int32 if max(len(columns), *shape) <= np.iinfo(np.int32).max else np.int64
    indptr = np.concatenate(([0], np.cumsum(lengths))).astype(index)
    data = np.ones(len(columns), dtype=np.int8)
    return sp.csr_array((data, columns.astype(index), indptr), shape=shape)


def _draw_feature_counts(rng, labels: _Labels, Y, n_features, n_per_row, noise) -> sp.csr_array:
    """Draw the features of each row with their counts, as float32."""
    n_labels = len(labels.weights)
    signatures = rng.randint(n_features, size=(n_labels, _SIGNATURE_SIZE), dtype=np.int32)
    vocabularies = rng.randint(n_features, size=(labels.n_topics, _TOPIC_SIZE), dtype=np.int32)
    lengths = 1 + rng.poisson(n_per_row - 1, size=Y.shape[0])
    rows = np.repeat(np.arange(Y.shape[0]), lengths)
    n = len(rows)
    place = (rng.random_sample(n) * np.diff(Y.indptr)[rows]).astype(np.int64)
    label = Y.indices[Y.indptr[rows] + place]
    own = signatures[label, rng.randint(_SIGNATURE_SIZE, size=n)]
    shared = vocabularies[labels.topics[label], rng.randint(_TOPIC_SIZE, size=n)]
    features = np.where(rng.random_sample(n) < _TOPIC_SHARE, shared, own)
    # Cubing makes the background long-tailed, as words are.
    background = (rng.random_sample(n) ** 3 * n_features).astype(np.int32)
    features = np.where(rng.random_sample(n) < noise, background, features)
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    ones = np.ones(n, dtype=np.float32)
    return as_csr(sp.csr_array((ones, features, indptr), shape=(Y.shape[0], n_features)))


def _tf_idf(counts: sp.csr_array) -> sp.csr_array:
    """Weigh counts as a `TfidfVectorizer` with sublinear tf does, but for the norm."""
    n_rows, n_features = counts.shape
    frequency = np.bincount(counts.indices, minlength=n_features)
    idf = (np.log((1 + n_rows) / (1 + frequency)) + 1).astype(np.float32)
    data = (1 + np.log(counts.data)) * idf[counts.indices]
    return sp.csr_array((data, counts.indices, counts.indptr), shape=counts.shape)
