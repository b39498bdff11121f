"""Pools of negatives: which labels a mini-batch is shown, before the hardest are kept."""

from typing import Protocol

import numpy as np

from skxmc._validation import check_int, check_number

__all__ = ["FrequencyPool", "InBatchPool", "MixedPool", "Pool", "UniformPool"]


class Pool(Protocol):
    """Draws the labels that one mini-batch shares as candidates for negatives.

    Each row of the batch takes out its own positives afterwards.

    Examples
    --------
    A pool that is always the most frequent labels:

    >>> import numpy as np
    >>> class Head:
    ...     def draw(self, positives, label_counts, rng):
    ...         return np.sort(np.argsort(-label_counts)[:2])
    >>> Head().draw(np.array([0]), np.array([1, 7, 9]), np.random.default_rng(0))
    array([1, 2])
    """

    def draw(
        self, positives: np.ndarray, label_counts: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw the pool of a mini-batch.

        Parameters
        ----------
        positives : ndarray of shape (n_positives,), int
            Positives of all rows of the batch, with repetitions.
        label_counts : ndarray of shape (n_labels,)
            Training rows of each label.
        rng : Generator
            Source of random numbers.

        Returns
        -------
        labels : ndarray of shape (n_drawn,), int64
            Distinct label columns, ascending.
        """
        ...


class UniformPool:
    """Labels drawn uniformly without replacement.

    Parameters
    ----------
    size : int
        Labels drawn (B); all labels where there are fewer.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.negatives import UniformPool
    >>> UniformPool(3).draw(np.array([0]), np.ones(3), np.random.default_rng(0))
    array([0, 1, 2])
    """

    def __init__(self, size: int):
        check_int(self, "size", size, minimum=1)
        self.size = size

    def draw(self, positives, label_counts, rng):
        """Draw the pool of a mini-batch.

        Parameters
        ----------
        positives : ndarray of shape (n_positives,), int
            Positives of all rows of the batch, with repetitions.
        label_counts : ndarray of shape (n_labels,)
            Training rows of each label.
        rng : Generator
            Source of random numbers.

        Returns
        -------
        labels : ndarray of shape (n_drawn,), int64
            Distinct label columns, ascending.
        """
        n_labels = label_counts.size
        if self.size >= n_labels:
            return np.arange(n_labels)
        return np.sort(rng.choice(n_labels, self.size, replace=False, shuffle=False))


class InBatchPool:
    """The positives of the other rows of the batch: popular labels, met as often as they occur.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.negatives import InBatchPool
    >>> InBatchPool().draw(np.array([4, 1, 4]), np.ones(5), np.random.default_rng(0))
    array([1, 4])
    """

    def draw(self, positives, label_counts, rng):
        """Draw the pool of a mini-batch.

        Parameters
        ----------
        positives : ndarray of shape (n_positives,), int
            Positives of all rows of the batch, with repetitions.
        label_counts : ndarray of shape (n_labels,)
            Training rows of each label.
        rng : Generator
            Source of random numbers.

        Returns
        -------
        labels : ndarray of shape (n_drawn,), int64
            Distinct label columns, ascending.
        """
        return np.unique(positives).astype(np.int64)


class FrequencyPool:
    """Labels drawn without replacement in proportion to a power of their frequency.

    Parameters
    ----------
    size : int
        Labels drawn; all labels where there are fewer.
    power : float, default=0.5
        0 is uniform, 1 proportional to the frequency. A label without rows counts as half a row.

    References
    ----------
    Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.negatives import FrequencyPool
    >>> FrequencyPool(2).draw(np.array([0]), np.array([0, 9, 9000]), np.random.default_rng(0)).size
    2
    """

    def __init__(self, size: int, power: float = 0.5):
        check_int(self, "size", size, minimum=1)
        check_number(self, "power", power, minimum=0)
        self.size = size
        self.power = power

    def draw(self, positives, label_counts, rng):
        """Draw the pool of a mini-batch.

        Parameters
        ----------
        positives : ndarray of shape (n_positives,), int
            Positives of all rows of the batch, with repetitions.
        label_counts : ndarray of shape (n_labels,)
            Training rows of each label.
        rng : Generator
            Source of random numbers.

        Returns
        -------
        labels : ndarray of shape (n_drawn,), int64
            Distinct label columns, ascending.
        """
        n_labels = label_counts.size
        if self.size >= n_labels:
            return np.arange(n_labels)
        weights = np.maximum(label_counts, 0.5) ** self.power
        # the smallest of exponential clocks that run at these speeds
        clocks = rng.standard_exponential(n_labels) / weights
        return np.sort(np.argpartition(clocks, self.size)[: self.size])


class MixedPool:
    """The union of several pools.

    Parameters
    ----------
    *pools : Pool
        Each draws for itself.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.negatives import InBatchPool, MixedPool, UniformPool
    >>> pool = MixedPool(InBatchPool(), UniformPool(2))
    >>> 4 in pool.draw(np.array([4]), np.ones(9), np.random.default_rng(0))
    True
    """

    def __init__(self, *pools: Pool):
        if not pools:
            raise ValueError("MixedPool needs at least one pool, got none.")
        self.pools = pools

    def draw(self, positives, label_counts, rng):
        """Draw the pool of a mini-batch.

        Parameters
        ----------
        positives : ndarray of shape (n_positives,), int
            Positives of all rows of the batch, with repetitions.
        label_counts : ndarray of shape (n_labels,)
            Training rows of each label.
        rng : Generator
            Source of random numbers.

        Returns
        -------
        labels : ndarray of shape (n_drawn,), int64
            Distinct label columns, ascending.
        """
        drawn = [pool.draw(positives, label_counts, rng) for pool in self.pools]
        return np.unique(np.concatenate(drawn))
