"""The bag-of-words encoder: feature embeddings summed over a row, and layers on top."""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skxmc._sparse import as_csr, is_bag_of_words, normalize_rows
from skxmc._validation import check_int, check_number, check_option
from skxmc.encoders.base import Encoder, csr_batch
from skxmc.encoders.size import EncoderSize
from skxmc.encoders.start import start_bytes, start_table
from skxmc.ops.embeddings import to_length
from skxmc.ops.row_table import CsrBatch, RowTable, table_bytes

__all__ = ["BagOfWords", "BagOfWordsEncoder"]


class BagOfWords(BaseEstimator):
    """Recipe of the bag-of-words encoder.

    Parameters
    ----------
    embedding_dim : int or "auto", default="auto"
        Width of the embedding; "auto" is 512, less where there are fewer than 256 features.
    n_layers : int, default=0
        Residual layers on top of the sum, each ``e + relu(linear(e))``. With 0 the whole classifier
        is a factorised linear model, which suits TF-IDF text.
    init : {"svd", "random"}, default="svd"
        Start of the embedding table: directions that span about the leading right singular
        ones of the training rows (so that rows which share words start close), or Gaussian noise.
    lr : float, default=0.3
        Learning rate of the embedding table (row-wise Adagrad, touched rows only).
    initial_square : float, default=1.5e-5
        Mean square of an embedding's gradient that every feature is taken to have met already, at
        a feature's average value: keeps rare features from learning their few rows by heart. The
        default, 1 / 256 squared, is one row of a step of 256.
    normalize : {"auto", "rows", "scale", "none"}, default="auto"
        "rows" scales each row to unit length; "scale" divides each feature by its root mean
        square, then all by one number that makes the mean squared row length 1; "auto" takes
        "rows" for non-negative data that is mostly zeros (counts, TF-IDF), "scale" otherwise.
    feature_dropout : float, default=0.0
        Share of a row's features left out at random in training.
    scale : float, default=0.25
        Root mean square of the entries of an embedding: all embeddings have the same length,
        ``scale * sqrt(embedding_dim)``, so that long and short rows count alike.

    References
    ----------
    Dahiya et al., "DeepXML", WSDM 2021 (bag-of-embedding encoders for short text).

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from skxmc.encoders import BagOfWords
    >>> X = sp.csr_array(np.eye(4, dtype=np.float32))
    >>> BagOfWords(embedding_dim=8).build(X, np.random.RandomState(0)).embedding_dim
    8
    """

    def __init__(
        self,
        embedding_dim="auto",
        *,
        n_layers=0,
        init="svd",
        lr=0.3,
        initial_square=1.5e-5,
        normalize="auto",
        feature_dropout=0.0,
        scale=0.25,
    ):
        self.embedding_dim = embedding_dim
        self.n_layers = n_layers
        self.init = init
        self.lr = lr
        self.initial_square = initial_square
        self.normalize = normalize
        self.feature_dropout = feature_dropout
        self.scale = scale

    def build(self, X: Any, random_state: np.random.RandomState) -> "BagOfWordsEncoder":
        """Size and start an encoder for the training rows X.

        Parameters
        ----------
        X : csr_array or ndarray of shape (n_rows, n_features), float32
            Training rows.
        random_state : RandomState
            Source of random numbers.

        Returns
        -------
        encoder : BagOfWordsEncoder
            Ready for training.

        Raises
        ------
        ValueError, TypeError
            If a parameter is out of its range.
        """
        self._check()
        X = as_csr(X)
        mode = self.normalize
        if mode == "auto":
            mode = "rows" if is_bag_of_words(X) else "scale"
        column_scale = _column_scale(X) if mode == "scale" else None
        rows = _normalize(X, mode, column_scale)
        width = self._width(X.shape[1])
        table = start_table(rows, width, self.init, self.scale, random_state)
        return BagOfWordsEncoder(
            torch.from_numpy(table),
            n_layers=self.n_layers,
            lr=self.lr,
            initial_square=self.initial_square * _mean_square(rows),
            scale=self.scale,
            normalize=mode,
            column_scale=column_scale,
            feature_dropout=self.feature_dropout,
        )

    def size(self, X: Any) -> EncoderSize:
        """Foresee the memory that `build`, its encoder and its training take.

        Parameters
        ----------
        X : csr_array or ndarray of shape (n_rows, n_features), float32
            Training rows.

        Returns
        -------
        size : EncoderSize
            In bytes.
        """
        self._check()
        n_rows, n_features = X.shape
        width = self._width(n_features)
        table = table_bytes(n_features, width)
        layers = 16 * self.n_layers * (width * width + width + 1)
        entries = X.nnz if sp.issparse(X) else n_rows * n_features
        # dense rows become sparse ones; of sparse rows the normalised values are a copy
        rows = 4 * entries if sp.issparse(X) else 8 * entries
        start = rows + start_bytes(entries, n_rows, n_features, width, self.init)
        # the table is there from then on
        return EncoderSize(width, table + layers, rows, max(0, start - table))

    def _width(self, n_features: int) -> int:
        return (
            min(512, max(32, 2 * n_features))
            if self.embedding_dim == "auto"
            else self.embedding_dim
        )

    def _check(self):
        if self.embedding_dim != "auto":
            check_int(self, "embedding_dim", self.embedding_dim, minimum=1)
        check_int(self, "n_layers", self.n_layers, minimum=0)
        check_option(self, "init", self.init, ("svd", "random"))
        check_number(self, "lr", self.lr, above=0)
        check_number(self, "initial_square", self.initial_square, minimum=0)
        check_option(self, "normalize", self.normalize, ("auto", "rows", "scale", "none"))
        check_number(self, "feature_dropout", self.feature_dropout, minimum=0, below=1)
        check_number(self, "scale", self.scale, above=0)


class BagOfWordsEncoder(Encoder):
    """Weighted sum of feature embeddings, brought to one length, then residual layers.

    Made by `BagOfWords.build`.

    Parameters
    ----------
    table : Tensor of shape (n_features, embedding_dim), float32
        Starting feature embeddings.
    n_layers : int
        Residual layers.
    lr : float
        Learning rate of the table.
    initial_square : float
        Start of the table's accumulated squares.
    scale : float
        Root mean square of an embedding's entries.
    normalize : {"rows", "scale", "none"}
        What `prepare` does to rows.
    column_scale : ndarray of shape (n_features,), float32, or None
        Factor of each feature under "scale".
    feature_dropout : float
        Share of features left out in training.
    """

    def __init__(
        self,
        table,
        *,
        n_layers,
        lr,
        initial_square,
        scale,
        normalize,
        column_scale,
        feature_dropout,
    ):
        super().__init__()
        self.embedding_dim = table.shape[1]
        self.table = RowTable(table, lr=lr, initial_square=initial_square)
        self.length = scale * self.embedding_dim**0.5
        self.layers = nn.ModuleList(_Residual(self.embedding_dim) for _ in range(n_layers))
        self.normalize = normalize
        self.column_scale = column_scale
        self.feature_dropout = feature_dropout

    def prepare(self, X: Any) -> sp.csr_array:
        """Convert to CSR and normalise rows."""
        return _normalize(as_csr(X), self.normalize, self.column_scale)

    def collate(self, data: sp.csr_array, rows: np.ndarray, device) -> CsrBatch:
        """Cut rows out as a CSR pattern of tensors."""
        return csr_batch(data, rows, device)

    def forward(self, inputs: CsrBatch) -> Tensor:
        """Embed a batch of rows."""
        if self.training and self.feature_dropout > 0:
            assert inputs.data is not None
            kept = nn.functional.dropout(inputs.data, self.feature_dropout)
            inputs = inputs._replace(data=kept)
        embedding = to_length(self.table.bag(inputs).float(), self.length)
        for layer in self.layers:
            embedding = layer(embedding)
        return embedding


class _Residual(nn.Module):
    """e + relu(linear(e)), an identity at the start."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, embedding: Tensor) -> Tensor:
        return embedding + self.gain * torch.relu(self.linear(embedding))


def _column_scale(X: sp.csr_array) -> np.ndarray:
    """Factor of each feature: equal root mean squares, and a mean squared row length of 1."""
    squares = X.astype(np.float64)
    squares.data **= 2
    mean_square = np.asarray(squares.sum(axis=0)).ravel() / X.shape[0]
    n_used = max(1, np.count_nonzero(mean_square))
    scale = np.zeros(X.shape[1])
    np.divide(1.0, np.sqrt(mean_square * n_used), out=scale, where=mean_square > 0)
    return scale.astype(np.float32)


def _mean_square(X: sp.csr_array) -> float:
    """Mean square of the entries that are not zero."""
    n_entries = np.count_nonzero(X.data)
    return float(np.square(X.data, dtype=np.float64).sum() / n_entries) if n_entries else 0.0


def _normalize(X: sp.csr_array, mode: str, column_scale: np.ndarray | None) -> sp.csr_array:
    if mode == "rows":
        return normalize_rows(X)
    if mode == "scale":
        assert column_scale is not None
        return sp.csr_array((X.data * column_scale[X.indices], X.indices, X.indptr), shape=X.shape)
    return X
