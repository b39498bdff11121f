"""SNMClassifier: ordered weighted losses over mined negatives, and an exhaustive search."""

from typing import Any

import numpy as np

from skxmc._threads import limited_threads
from skxmc._trained import BaseTrainedClassifier
from skxmc._validation import blaming, check_bool, check_int, check_number, check_option
from skxmc.losses import MARGINS, TREATMENTS, ordered_weights
from skxmc.search.exhaustive import exhaustive_topk
from skxmc.topk import TopK
from skxmc.training.fitting import n_rows_of
from skxmc.training.params import check_count, check_n_jobs, check_training_params
from skxmc.training.snm import SNMModel
from skxmc.training.snm_training import SAMPLERS, SNMTraining

__all__ = ["SNMClassifier"]


class SNMClassifier(BaseTrainedClassifier):
    """Extreme multi-label classifier trained by stochastic negative mining (SNM).

    A row is encoded, and a label's score is the product of the embedding with the label's vector.
    In training each mini-batch draws a pool of B labels; of these, each row keeps the k that score
    highest without being its own, and only the row's positives and those k take part in the loss.
    On average that is a loss over *all* negatives, sorted by score, whose weights fall with the
    rank: it aims at about the k L / B hardest (`skxmc.losses.effective_hardness` has the number).
    Prediction scores every label.

    Parameters
    ----------
    encoder : encoder recipe, Encoder, torch.nn.Module or None, default=None
        How rows become embeddings; None means `skxmc.encoders.BagOfWords()`. A module is copied.
    pool_size : int or "auto", default="auto"
        Labels drawn for a mini-batch (B); "auto" is 4096, or all labels where there are fewer. Not
        read by "in_batch", whose pool is as large as the batch makes it.
    n_negatives : int or "auto", default="auto"
        Negatives kept for a row (k); "auto" is 64, at most the pool.
    sampler : {"uniform", "in_batch", "frequency", "mixed"} or Pool, default="uniform"
        How the pool is drawn: uniformly, as the positives of the batch, in proportion to the root
        of the frequency, or half uniform and half in-batch. Any object with the `draw` method of
        `skxmc.negatives.Pool` will do.
    loss : {"binary", "pairwise"}, default="binary"
        BOWL, phi(s_y) + sum_i theta_i phi(-s_i), or POWL, sum_i theta_i phi(s_y - s_i).
    margin : {"logistic", "squared_hinge", "hinge"}, default="logistic"
        Margin loss phi.
    weights : {"topk", "geometric", "linear"} or array-like, default="topk"
        Weights theta of the kept negatives, hardest first: all 1, powers of one half, falling
        linearly, or an array of length `n_negatives` that does not increase.
    multilabel : {"one_vs_all", "pick_all", "pick_one"} or "auto", default="auto"
        What becomes of several positives: each adds its cost and the negatives count once; the loss
        is averaged over positives; one positive is drawn. "auto" is "one_vs_all" for the binary
        loss (with everything kept it is exactly one-vs-all, so that scores are log-odds), and
        "pick_all" for the pairwise one, which knows no other way to use every positive.
    anneal : float, default=0.0
        Share of the steps over which the number of kept negatives falls from the pool to k, where
        hard negatives make the start unstable.
    hardness_cap : int or None, default=None
        Mine no harder than the top `hardness_cap` labels on average, by drawing a pool of at most
        k L / hardness_cap (not under "in_batch"). Where truth is incomplete, the very hardest
        negatives are often missing positives.
    normalize : bool, default=False
        Score by the cosine, times `cosine_scale`.
    cosine_scale : float, default=20.0
        Length that embeddings are brought to under `normalize`; label vectors have length 1.
    dropout : float, default=0.5
        Dropout of the embedding in training.
    max_epochs : int or "auto", default="auto"
        Passes over the data; "auto" is 10, more on small data.
    label_init : {"zeros", "centroids"}, default="zeros"
        Where label vectors start: at 0, so that scores begin as the labels' log prior (at random
        under `normalize`, since 0 has no direction), or along the mean embedding of each label's
        rows.
    batch_size : int or "auto", default="auto"
        Rows of a step; "auto" is 256, less on small data.
    lr_labels : float, default=0.1
        Learning rate of the label vectors (row-wise Adagrad).
    lr_encoder : float, default=0.001
        Learning rate of the encoder's dense layers (AdamW). The bag-of-words table has its own
        rate, ``BagOfWords(lr=...)``.
    weight_decay : float, default=0.01
        Decoupled decay of dense weight matrices.
    warmup : float, default=0.1
        Share of the steps over which the rates rise; they fall linearly afterwards.
    max_grad_norm : float or None, default=None
        Bound on the gradient norm of the dense parameters.
    early_stopping : bool, default=False
        Hold rows out, measure them after each epoch, keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out under `early_stopping`.
    validation_metric : str, default="ndcg_at_5"
        A name from `skxmc.metrics.get_scorer_names`.
    patience : int, default=3
        Epochs without a new best that end training under `early_stopping`.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic of the dense layers in training.
    device : str, default="auto"
        "auto" trains on CUDA where there is some, else on the CPU.
    memory_limit : float, "auto" or None, default="auto"
        GiB that `fit` may take on top of its input. It estimates its need before it starts, shows
        it under `verbose`, and raises a MemoryError that says what to lower where that is too much.
        "auto" refuses only what clearly exceeds the memory available; None refuses nothing.
    checkpoint_dir : path or None, default=None
        Folder in which `fit` writes its state after each epoch, one file for one fit at a time. A
        fit that was killed goes on from there when it is called again with the same parameters and
        data, to the same model (bit for bit on one thread). A finished fit removes the file; one of
        other parameters or data is refused.
    warm_start : bool, default=False
        Train the model of the last fit further, if features and labels are the same.
    n_jobs : int or None, default=None
        Threads; None leaves Numba's and torch's settings alone, but takes one for small work.
    random_state : int, RandomState or None, default=None
        Source of all randomness.
    verbose : int, default=0
        1 shows the memory that `fit` needs, and progress bars.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Label values of a 1-d y, column numbers of an indicator.
    n_labels_ : int
        Number of labels.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Column names of X, if it had any.
    label_counts_ : ndarray of shape (n_labels,), int64
        Training rows of each label.
    n_samples_fit_ : int
        Training rows.
    model_ : torch.nn.Module
        The trained encoder and head, on the CPU.
    threshold_ : float
        Score above which `predict` takes a label: 0, where phi changes sides, for the binary loss.
        Pairwise scores have no such point, so there it is the score that predicts as many labels a
        training row as it has.
    n_epochs_ : int
        Epochs trained.
    history_ : list of dict
        One record an epoch: stage, epoch, loss, seconds, cpu_seconds, validation metric.

    See Also
    --------
    skxmc.EliasClassifier : Finds labels through a learned index instead of scoring all.

    References
    ----------
    S. J. Reddi, S. Kale, F. Yu, D. Holtmann-Rice, J. Chen, S. Kumar, "Stochastic negative mining
    for learning with large output spaces", AISTATS 2019.

    Examples
    --------
    >>> from skxmc import SNMClassifier
    >>> from skxmc.datasets import make_xmc_classification
    >>> X, Y = make_xmc_classification(n_samples=500, n_labels=50, random_state=0)
    >>> clf = SNMClassifier(random_state=0).fit(X, Y)
    >>> clf.predict_topk(X[:2], k=3).indices.shape
    (2, 3)
    >>> clf.score(X, Y) > 0.9
    True
    """

    def __init__(
        self,
        encoder=None,
        *,
        pool_size="auto",
        n_negatives="auto",
        sampler="uniform",
        loss="binary",
        margin="logistic",
        weights="topk",
        multilabel="auto",
        anneal=0.0,
        hardness_cap=None,
        normalize=False,
        cosine_scale=20.0,
        dropout=0.5,
        max_epochs="auto",
        label_init="zeros",
        batch_size="auto",
        lr_labels=0.1,
        lr_encoder=0.001,
        weight_decay=0.01,
        warmup=0.1,
        max_grad_norm=None,
        early_stopping=False,
        validation_fraction=0.1,
        validation_metric="ndcg_at_5",
        patience=3,
        precision="float32",
        device="auto",
        memory_limit="auto",
        checkpoint_dir=None,
        warm_start=False,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.encoder = encoder
        self.pool_size = pool_size
        self.n_negatives = n_negatives
        self.sampler = sampler
        self.loss = loss
        self.margin = margin
        self.weights = weights
        self.multilabel = multilabel
        self.anneal = anneal
        self.hardness_cap = hardness_cap
        self.normalize = normalize
        self.cosine_scale = cosine_scale
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.label_init = label_init
        self.batch_size = batch_size
        self.lr_labels = lr_labels
        self.lr_encoder = lr_encoder
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.validation_metric = validation_metric
        self.patience = patience
        self.precision = precision
        self.device = device
        self.memory_limit = memory_limit
        self.checkpoint_dir = checkpoint_dir
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _training(self, rng, device) -> SNMTraining:
        return SNMTraining(self, rng, device)

    def _fit(self, X: Any, Y) -> None:
        super()._fit(X, Y)
        self.threshold_ = 0.0 if self.loss == "binary" else self._matching_threshold(X, Y)

    def _matching_threshold(self, X: Any, Y) -> float:
        """Score above which as many labels are predicted as the training rows have."""
        n_rows = min(Y.shape[0], 2000)
        wanted = Y[:n_rows].nnz
        k = min(self.n_labels_, 2 * -(-wanted // n_rows) + 10)
        scores = np.sort(self._topk(X[:n_rows], k).scores.ravel())[::-1]
        # between the last score that counts and the first that does not
        return float(scores[max(0, wanted - 1) :][:2].mean())

    def _freeze(self, model: SNMModel) -> tuple[np.ndarray, np.ndarray]:
        rows = model.head.rows
        return rows.weight.detach().cpu().numpy(), rows.bias.detach().cpu().numpy()

    def _topk(self, X: Any, k: int) -> TopK:
        check_n_jobs(self)
        work = n_rows_of(X) * self.n_labels_ * self.model_.encoder.embedding_dim
        weight, bias = self._frozen
        with limited_threads(self.n_jobs, work):
            queries = self.model_.embed(self._embed(X))
            return exhaustive_topk(queries, weight, bias, k)

    def _threshold(self) -> float:
        return self.threshold_

    def _check_params(self):
        check_training_params(self)
        for name in ("pool_size", "n_negatives"):
            check_count(self, name, minimum=1)
        if not hasattr(self.sampler, "draw"):
            check_option(self, "sampler", self.sampler, SAMPLERS)
        check_option(self, "loss", self.loss, ("binary", "pairwise"))
        check_option(self, "margin", self.margin, MARGINS)
        check_option(self, "multilabel", self.multilabel, ("auto", *TREATMENTS))
        if self.loss == "pairwise" and self.multilabel == "one_vs_all":
            raise ValueError(
                f"{type(self).__name__}: multilabel='one_vs_all' counts the negatives of a row "
                "once and has no pairs; use loss='binary', or multilabel='pick_all' or 'pick_one'."
            )
        with blaming(self, "weights", self.weights):
            size = np.size(self.weights) if not isinstance(self.weights, str) else 1
            ordered_weights(self.weights, size)
        check_number(self, "anneal", self.anneal, minimum=0, maximum=1)
        if self.hardness_cap is not None:
            check_int(self, "hardness_cap", self.hardness_cap, minimum=1)
        check_bool(self, "normalize", self.normalize)
        check_number(self, "cosine_scale", self.cosine_scale, above=0)
        check_count(self, "max_epochs")
