"""EliasClassifier: an index over the labels, learned together with encoder and label head."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import scipy.sparse as sp
from sklearn.base import clone

from skxmc._sparse import as_csr
from skxmc._threads import limited_threads
from skxmc._trained import BaseTrainedClassifier
from skxmc._validation import check_int
from skxmc.heads import SparseRanker
from skxmc.search.beam import ROWS_AT_ONCE, auto_shortlist_size, search_csr, search_topk
from skxmc.search.graph import SearchGraph
from skxmc.search.parts import RankerColumns
from skxmc.topk import TopK
from skxmc.training.elias import EliasModel, freeze
from skxmc.training.elias_sizes import HARD_LABELS, trains_ranker
from skxmc.training.elias_stages import EliasTraining
from skxmc.training.fitting import n_rows_of
from skxmc.training.params import (
    check_count,
    check_elias_params,
    check_n_jobs,
    check_training_params,
)

__all__ = ["EliasClassifier"]

# Score above which `predict` takes a label where a ranker has a share in it.
RANKED_THRESHOLD = 0.25
# Labels scored for a training row, to find those that the ranker learns to tell apart.
_HARD_SHORTLIST = 1000


class EliasClassifier(BaseTrainedClassifier):
    """Extreme multi-label classifier that learns its search graph over the labels (ELIAS).

    Labels are clustered; a row is encoded, its best clusters are found, the weighted edges of
    those clusters lead to a shortlist of labels, and only these are scored. Stage 1 trains on a
    fixed partition of the labels; stage 2 opens the graph, so that a label may hang on several
    clusters, and learns its edge weights together with everything else. At last a sparse ranker
    (ELIAS++) learns to re-order the best labels by the features themselves.

    Parameters
    ----------
    encoder : encoder recipe, Encoder, torch.nn.Module or None, default=None
        How rows become embeddings; None means `skxmc.encoders.BagOfWords()`. A module is copied.
    ranker : SparseRanker, "auto" or None, default="auto"
        What re-orders the best labels of a row, a recipe that is cloned; "auto" is
        `skxmc.heads.SparseRanker()` where features are counts or weights of words (none negative,
        most of them zero), and nothing elsewhere; None leaves it out.
    rerank_size : int or "auto", default="auto"
        Labels re-ordered for each row, at least as many as are asked for; "auto" is 50, or
        6 k if that is more, where k labels are asked for. May be set after `fit`.
    n_clusters : int or "auto", default="auto"
        Clusters C, a power of two; "auto" takes the smallest that leaves `max_leaf` labels each.
    max_leaf : int, default=100
        Labels of a cluster at most, under ``n_clusters="auto"``.
    alpha : float, default=10.0
        Gain of the cluster scores, min(1, alpha softmax).
    beta : float or "auto", default="auto"
        Gain of the edge weights, min(1, beta softmax); "auto" is 1.5 times the mean cluster size.
    kappa : int or "auto", default="auto"
        Edges kept for each cluster in stage 2; "auto" is 4 times the mean cluster size.
    path_power : float, default=0.5
        Exponent of the path score in a label's final score; 1 in the paper. Less trusts the label
        head more: a path score is shared by many labels, and multiplied in full it costs accuracy.
    beam_width : int, default=20
        Clusters followed for each row, in training and prediction. May be set after `fit`.
    shortlist_size : int or "auto", default="auto"
        Labels scored for each row in prediction (K), or paths to labels where embeddings have 256
        dimensions or more. May be set after `fit`. "auto" is 540 + 50 k for the best k labels, and
        790 at least: the first few want less than the first hundred. It is twice that where the
        ranker weighs centroids (``ranker_.blend_``): these find what the network ranks low.
    train_shortlist_size : int, default=256
        Labels scored for each row in stage 2.
    pool_size, n_negatives : int or "auto", default="auto"
        In stage 1 each mini-batch draws a pool of labels, and each row learns from the
        `n_negatives` of them that score highest without being its own, as in `SNMClassifier`;
        "auto" is 4096 and 64.
    lambda_shortlist : float, default=1.0
        Weight of the positives' path cost beside the classification loss.
    dropout : float, default=0.6
        Dropout of the embedding in training.
    stage1_epochs, stage2_epochs : int or "auto", default="auto"
        Passes over the data in each stage; "auto" is 8 and 3, more on small data, and no stage 2
        where there is but one cluster. 0 leaves a stage out.
    recluster : bool, default=False
        After stage 1, cluster the labels anew on features and learned embeddings together, and
        train stage 1 again from there.
    label_init : {"zeros", "centroids"}, default="zeros"
        Where label vectors start: at 0, so that scores begin as the labels' log prior, or along the
        mean embedding of each label's rows.
    batch_size : int or "auto", default="auto"
        Rows of a step; "auto" is 256, less on small data.
    lr_labels : float, default=0.1
        Learning rate of the label vectors (row-wise Adagrad).
    lr_clusters, lr_edges, lr_encoder : float, default=0.02, 0.005, 0.001
        Learning rates of the cluster layer, of the edge weights, and of the encoder's dense layers
        (AdamW). The bag-of-words table has its own rate, ``BagOfWords(lr=...)``.
    stage2_factor : float, default=0.3
        Factor on all rates but `lr_edges` in stage 2.
    weight_decay : float, default=0.01
        Decoupled decay of dense weight matrices.
    warmup : float, default=0.1
        Share of a stage's steps over which the rates rise; they fall linearly afterwards.
    max_grad_norm : float or None, default=None
        Bound on the gradient norm of the dense parameters.
    early_stopping : bool, default=False
        Hold rows out, measure them after each epoch, keep the best epoch of each stage.
    validation_fraction : float, default=0.1
        Share of the rows held out under `early_stopping`.
    validation_metric : str, default="ndcg_at_5"
        A name from `skxmc.metrics.get_scorer_names`.
    patience : int, default=3
        Epochs without a new best that end a stage under `early_stopping`.
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
        Go on from the last fit with stage 2, if features and labels are the same.
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
        The trained encoder, index and head, on the CPU.
    ranker_ : SparseRanker or None
        The trained ranker, a clone of `ranker` with the estimator's `random_state` and `n_jobs`
        where it left them open.
    index_ : ClusterIndex
        The trained index; ``index_.reachable_fraction_`` is the share of labels it leads to.
    graph_ : SearchGraph
        What prediction searches: the trained model as plain arrays, the ranker and `rerank_size`
        included; it can be saved and loaded without the estimator.
    n_epochs_ : int
        Epochs trained, both stages together.
    history_ : list of dict
        One record an epoch: stage, epoch, loss, path_loss, beam_recall (share of the positives'
        best clusters that the beam found by itself), seconds, cpu_seconds, validation metric.

    See Also
    --------
    skxmc.metrics.TopKScorer : Scorers for model selection.

    Notes
    -----
    Scores are p = max_c(s_c a_cl)^path_power sigmoid(z_l), in [0, 1], and with a ranker, whose
    margins are m_l, p^(1 - share) sigmoid(2 m_l)^share. `predict` takes labels with p > 0.5, or
    with a ranker those whose score is above 0.25, about where micro-averaged F1 is best: the mean
    is a cautious one. `skxmc.calibration.CalibratedTopKClassifier` turns scores into probabilities
    and finds the threshold of the data at hand. The rows held out under `early_stopping` are held
    out from the network only.

    References
    ----------
    N. Gupta, P. H. Chen, H.-F. Yu, C.-J. Hsieh, I. S. Dhillon, "ELIAS: End-to-end learning to
    index and search in large output spaces", NeurIPS 2022.

    Examples
    --------
    >>> from skxmc import EliasClassifier
    >>> from skxmc.datasets import make_xmc_classification
    >>> X, Y = make_xmc_classification(n_samples=500, n_labels=50, random_state=0)
    >>> clf = EliasClassifier(random_state=0).fit(X, Y)
    >>> clf.predict_topk(X[:2], k=3).indices.shape
    (2, 3)
    >>> clf.score(X, Y) > 0.9
    True
    """

    ranker_: SparseRanker | None

    def __init__(
        self,
        encoder=None,
        *,
        ranker="auto",
        rerank_size="auto",
        n_clusters="auto",
        max_leaf=100,
        alpha=10.0,
        beta="auto",
        kappa="auto",
        path_power=0.5,
        beam_width=20,
        shortlist_size="auto",
        train_shortlist_size=256,
        pool_size="auto",
        n_negatives="auto",
        lambda_shortlist=1.0,
        dropout=0.6,
        stage1_epochs="auto",
        stage2_epochs="auto",
        recluster=False,
        label_init="zeros",
        batch_size="auto",
        lr_labels=0.1,
        lr_clusters=0.02,
        lr_edges=0.005,
        lr_encoder=0.001,
        stage2_factor=0.3,
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
        self.ranker = ranker
        self.rerank_size = rerank_size
        self.n_clusters = n_clusters
        self.max_leaf = max_leaf
        self.alpha = alpha
        self.beta = beta
        self.kappa = kappa
        self.path_power = path_power
        self.beam_width = beam_width
        self.shortlist_size = shortlist_size
        self.train_shortlist_size = train_shortlist_size
        self.pool_size = pool_size
        self.n_negatives = n_negatives
        self.lambda_shortlist = lambda_shortlist
        self.dropout = dropout
        self.stage1_epochs = stage1_epochs
        self.stage2_epochs = stage2_epochs
        self.recluster = recluster
        self.label_init = label_init
        self.batch_size = batch_size
        self.lr_labels = lr_labels
        self.lr_clusters = lr_clusters
        self.lr_edges = lr_edges
        self.lr_encoder = lr_encoder
        self.stage2_factor = stage2_factor
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

    def _training(self, rng, device) -> EliasTraining:
        return EliasTraining(self, rng, device)

    def _train(self, X, Y, model: Any, history: Sequence[dict] = ()) -> None:
        self._check_params()
        self._check_ranker(X)
        self.ranker_ = None  # that of an earlier fit takes no part
        super()._train(X, Y, model, history)

    def _finish(self, X: Any, Y: sp.csr_array) -> None:
        if trains_ranker(self.ranker, X):
            recipe = SparseRanker() if isinstance(self.ranker, str) else clone(self.ranker)
            self.ranker_ = self._fit_ranker(recipe, X, Y)
            self._frozen = self._with_ranker(self._frozen)

    def _check_ranker(self, X: Any) -> None:
        if isinstance(self.ranker, SparseRanker):
            self.ranker.check_parameters()
            if isinstance(X, list):
                raise ValueError(
                    f"{type(self).__name__}: a SparseRanker reads feature matrices, but X is text; "
                    "set ranker=None, or 'auto', which leaves it out for text."
                )
        elif self.ranker is not None and self.ranker != "auto":
            raise ValueError(
                f"{type(self).__name__}: ranker must be a skxmc.heads.SparseRanker, 'auto' or "
                f"None, got {self.ranker!r}."
            )

    def _fit_ranker(self, ranker: SparseRanker, X: Any, Y: sp.csr_array) -> SparseRanker:
        """Train the ranker on the labels that the search, without it, finds for the rows."""
        # what the recipe leaves open is the estimator's
        for name in ("random_state", "n_jobs"):
            if getattr(ranker, name) is None:
                ranker.set_params(**{name: getattr(self, name)})
        ranker.set_params(verbose=max(ranker.verbose, self.verbose))
        k = min(HARD_LABELS, self.n_labels_)
        found = self._search_with(X, k, self.beam_width, _HARD_SHORTLIST, "auto")
        return ranker.fit(as_csr(X), Y, found)

    def _freeze(self, model: EliasModel) -> SearchGraph:
        return self._with_ranker(freeze(model))

    def _with_ranker(self, graph: SearchGraph) -> SearchGraph:
        if self.ranker_ is None:
            return graph
        weight, bias, share = self.ranker_.weight_, self.ranker_.bias_, self.ranker_.share_
        order = graph.labels_by_cluster()
        # the size may be set at any time: searches are told, and so is `graph_`
        far = self.ranker_.blend_ is not None  # centroids find labels that the network ranks low
        ranker = RankerColumns.from_rows(weight, bias, share=share, size=0, far=far, order=order)
        return replace(graph, ranker=ranker)

    @property
    def graph_(self) -> SearchGraph:
        """What prediction searches: the trained model as plain arrays, the ranker included."""
        graph, size = self._frozen, self._rerank_size(self.rerank_size)
        if graph.ranker is None or isinstance(size, str):
            return graph
        return replace(graph, ranker=replace(graph.ranker, size=size))

    @property
    def index_(self):
        """The trained index of the model."""
        return self.model_.index

    def predict_topk(
        self, X, k=5, *, beam_width=None, shortlist_size=None, rerank_size=None
    ) -> TopK:
        """Find the best k labels of each row.

        Parameters
        ----------
        X : {sparse, dense} array of shape (n_rows, n_features)
            Features; a list of str if the encoder takes text. One row as a canonical float32 CSR
            with int32 indices is checked fastest.
        k : int, default=5
            Labels a row, at most `n_labels_`.
        beam_width : int or None, default=None
            Clusters followed for each row, in this call only; None means the estimator's parameter.
        shortlist_size : int, "auto" or None, default=None
            Labels scored for each row, in the same way; with embeddings of 256 dimensions or more,
            paths followed to them at least, as `skxmc.search.beam.search_topk` explains.
        rerank_size : int, "auto" or None, default=None
            Labels that the ranker re-orders for each row, in the same way.

        Returns
        -------
        topk : TopK
            ``topk.indices`` (n_rows, k) int64, label columns best first, ties by the smaller
            column; ``topk.scores`` (n_rows, k) float32. Where the search reached fewer than k
            labels the rest is -1 and -inf. `classes_[indices]` gives the labels of a 1-d y.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is malformed, k is not between 1 and `n_labels_`, or a size is less than 1.
        """
        k = self._check_k(k)
        X = self._check_X(X, reset=False)
        beam_width = self.beam_width if beam_width is None else beam_width
        shortlist_size = self.shortlist_size if shortlist_size is None else shortlist_size
        rerank_size = self.rerank_size if rerank_size is None else rerank_size
        return self._search_with(X, k, beam_width, shortlist_size, rerank_size)

    def _topk(self, X: Any, k: int) -> TopK:
        return self._search_with(X, k, self.beam_width, self.shortlist_size, self.rerank_size)

    def _search_with(
        self, X: Any, k: int, beam_width: int, shortlist_size: int | str, rerank_size: int | str
    ) -> TopK:
        check_int(self, "beam_width", beam_width, minimum=1)
        shortlist_size = self._shortlist_size(shortlist_size, k)
        sizes: dict[str, Any] = {
            "beam_width": beam_width,
            "shortlist_size": shortlist_size,
            "rerank_size": self._rerank_size(rerank_size),
        }
        check_n_jobs(self)
        graph, n_rows = self._frozen, n_rows_of(X)
        if graph.encoder is not None and n_rows <= ROWS_AT_ONCE:
            return search_csr(graph, X if sp.issparse(X) else as_csr(X), k, **sizes)
        work = n_rows * min(shortlist_size, self.n_labels_) * self.model_.encoder.embedding_dim
        with limited_threads(self.n_jobs, work):
            if graph.encoder is not None:
                return search_csr(graph, X if sp.issparse(X) else as_csr(X), k, **sizes)
            features = None if graph.ranker is None else as_csr(X)
            return search_topk(graph, self._embed(X), k, features=features, **sizes)

    def _threshold(self) -> float:
        return 0.5 if self.ranker_ is None else RANKED_THRESHOLD

    def _shortlist_size(self, size: int | str, k: int) -> int:
        if size == "auto":
            return auto_shortlist_size(k, self._frozen.ranker)
        check_int(self, "shortlist_size", size, minimum=1)
        return int(size)

    def _rerank_size(self, size: int | str) -> int | str:
        if size == "auto":
            return size
        check_int(self, "rerank_size", size, minimum=1)
        return int(size)

    def _n_predictable(self) -> int:
        return min(self.n_labels_, self._shortlist_size(self.shortlist_size, k=100))

    def _check_search_params(self):
        check_int(self, "beam_width", self.beam_width, minimum=1)
        check_count(self, "shortlist_size", minimum=1)
        check_count(self, "rerank_size", minimum=1)
        check_n_jobs(self)

    def _check_params(self):
        check_training_params(self)
        self._check_search_params()
        check_elias_params(self)
