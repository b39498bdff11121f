"""The two stages of ELIAS: from raw rows to a trained model."""

from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import gen_batches

from skxmc._sparse import as_csr, normalize_rows
from skxmc.encoders import BagOfWords
from skxmc.encoders.base import build_encoder
from skxmc.encoders.size import encoder_size
from skxmc.heads import LabelHead, log_prior
from skxmc.index import (
    ClusterIndex,
    approximate_adjacency,
    balanced_kmeans,
    best_parents,
    label_centroids,
    partition_adjacency,
)
from skxmc.negatives import UniformPool
from skxmc.search.beam import search_topk
from skxmc.search.shortlist import best_columns
from skxmc.topk import TopK
from skxmc.training.checkpoint import Progress
from skxmc.training.elias import EliasModel, EliasObjective, EliasRates, freeze
from skxmc.training.elias_partition import PartitionObjective
from skxmc.training.elias_sizes import (
    MEMBERSHIP_BATCH,
    elias_needs,
    resolve_beta,
    resolve_clusters,
    resolve_kappa,
)
from skxmc.training.fitting import (
    Validation,
    embed_rows,
    hold_out,
    resolve_batch_size,
    resolve_epochs,
    resolve_pool,
    run_stage,
    start_labels,
)
from skxmc.training.loop import Plan, TrainingInterrupted
from skxmc.training.memory import Need
from skxmc.training.snm import SNMRates

__all__ = ["EliasSettings", "EliasTraining"]

# Epochs of each stage under "auto".
STAGE_EPOCHS = {"stage 1": 8, "stage 2": 3}
EXPLORATION = 1.0
# more than half of a shortlist pulls less than this, all of these together a hundredth of the rest
LEAST_PULL = 1e-3


class EliasSettings(Protocol):
    """The parameters that training reads; `EliasClassifier` documents them."""

    encoder: Any
    n_clusters: Any
    max_leaf: int
    alpha: float
    beta: Any
    kappa: Any
    path_power: float
    beam_width: int
    shortlist_size: Any
    train_shortlist_size: int
    pool_size: Any
    n_negatives: Any
    lambda_shortlist: float
    dropout: float
    stage1_epochs: Any
    stage2_epochs: Any
    recluster: bool
    n_jobs: Any
    label_init: str
    batch_size: Any
    lr_labels: float
    lr_clusters: float
    lr_edges: float
    lr_encoder: float
    stage2_factor: float
    weight_decay: float
    warmup: float
    max_grad_norm: Any
    early_stopping: bool
    validation_fraction: float
    validation_metric: str
    patience: int
    precision: str
    verbose: int
    ranker: Any


class EliasTraining:
    """One fit: partition, stage 1, opening of the graph, stage 2.

    Parameters
    ----------
    settings : EliasSettings
        Read, never written.
    random_state : RandomState
        Source of all randomness but torch's, which the caller seeds.
    device : torch.device
        Where to train.
    """

    def __init__(
        self, settings: EliasSettings, random_state: np.random.RandomState, device: torch.device
    ):
        self.settings = settings
        self.rng = random_state
        self.device = device

    def run(
        self,
        X: Any,
        Y: sp.csr_array,
        model: EliasModel | None = None,
        progress: Progress | None = None,
    ) -> tuple[EliasModel, list[dict[str, Any]]]:
        """Train a new model, or an earlier one further (stage 2 only)."""
        s = self.settings
        progress = progress or Progress(None, self.rng, self.device)
        fraction = s.validation_fraction if s.early_stopping else 0.0
        X, Y, X_valid, Y_valid = hold_out(X, Y, fraction, self.rng)
        titles = ["stage 2"]
        anew = model is None and progress.module is None
        if model is None:
            titles = ["stage 1", *(["stage 1"] if s.recluster else []), "stage 2"]
        if progress.module is not None:
            model = self._restart(X, Y, model, progress.module)
        elif model is None:
            model = self._start(X, Y)
        model.to(self.device)
        data = model.encoder.prepare(X)
        if anew:
            start_labels(s.label_init, model, data, Y, self.device)
        validation = None
        if Y_valid is not None:
            validation = self._validation(model, X_valid, Y_valid, Y)
        try:
            for number in range(progress.stage, len(titles)):
                saved = progress.resume(number)
                again = number > 0 and titles[number] == "stage 1"
                if again and saved is None:
                    self._recluster(model, X, data, Y)
                stage = (titles[number], model, data, Y, validation)
                progress.history += self._stage(*stage, saved, progress.keeper(number))
        except TrainingInterrupted as stop:  # any graph will do for the search, open or not
            progress.history += stop.records
            progress.interrupted = True
        return model, progress.history

    def work_of_step(self, X: Any, Y: sp.csr_array) -> float:
        """Estimate the multiply-adds of a training step, to choose the number of threads."""
        s, n_labels = self.settings, Y.shape[1]
        if isinstance(X, list):
            return float("inf")
        batch_size = resolve_batch_size(s.batch_size, Y.shape[0])
        features = X.nnz / X.shape[0] if sp.issparse(X) else X.shape[1]
        pool_size, _ = resolve_pool(s.pool_size, s.n_negatives, n_labels)
        # stage 1 scores a pool for each row, stage 2 a shortlist, both all clusters
        labels = max(pool_size, min(n_labels, s.train_shortlist_size))
        vectors = features + labels + resolve_clusters(s, n_labels)
        return float(batch_size * vectors * min(512, 2 * X.shape[1]))

    def needs(self, X: Any, Y: sp.csr_array) -> list[Need] | None:
        """List the memory that `run` takes; None where the encoder does not say."""
        size = encoder_size(self._recipe(), X)
        return None if size is None else elias_needs(self.settings, X, Y, size, self.device)

    def _recipe(self) -> Any:
        return BagOfWords() if self.settings.encoder is None else self.settings.encoder

    def _start(self, X: Any, Y: sp.csr_array) -> EliasModel:
        """Make encoder, partition and head as they are before the first step."""
        s = self.settings
        encoder = build_encoder(self._recipe(), X, self.rng)
        features = X
        if isinstance(X, list):
            features = embed_rows(encoder, encoder.prepare(X), len(X), torch.device("cpu"))
        centroids = label_centroids(normalize_rows(as_csr(features)), Y)
        counts = np.bincount(Y.indices, minlength=Y.shape[1])
        bias = torch.from_numpy(log_prior(counts, Y.shape[0]))
        index = self._partition(centroids, encoder.embedding_dim)
        head = LabelHead(bias, encoder.embedding_dim, lr=s.lr_labels)
        return EliasModel(encoder, index, head, s.path_power)

    def _restart(self, X: Any, Y: sp.csr_array, model: EliasModel | None, state) -> EliasModel:
        """Make a model of the shapes of a checkpoint's, or bring one to them; the loop fills it."""
        s = self.settings
        if model is None:
            encoder = build_encoder(self._recipe(), X, self.rng)
            head = LabelHead(torch.zeros(Y.shape[1]), encoder.embedding_dim, lr=s.lr_labels)
        else:
            encoder, head = model.encoder, model.head
        index = ClusterIndex.like(state, "index.", alpha=s.alpha)
        if index.edge_logits is not None:
            index.beta = resolve_beta(s, Y.shape[1], index.n_clusters)
        return EliasModel(encoder, index, head, s.path_power)

    def _partition(self, centroids: sp.csr_array, embedding_dim: int) -> ClusterIndex:
        n_clusters = resolve_clusters(self.settings, centroids.shape[0])
        assignment = balanced_kmeans(centroids, n_clusters, random_state=self.rng)
        adjacency = partition_adjacency(assignment, n_clusters)
        return ClusterIndex(embedding_dim, adjacency, alpha=self.settings.alpha)

    def _recluster(self, model: EliasModel, X: Any, data: Any, Y: sp.csr_array) -> None:
        """Put a partition made from features and learned embeddings in the index's place."""
        embeddings = as_csr(embed_rows(model.encoder, data, Y.shape[0], self.device))
        parts = [label_centroids(normalize_rows(embeddings), Y)]
        if not isinstance(X, list):
            parts.append(label_centroids(normalize_rows(as_csr(X)), Y))
        centroids = as_csr(sp.hstack(parts, format="csr"))
        model.index = self._partition(centroids, embeddings.shape[1]).to(self.device)

    def _stage(
        self, title, model, data, Y, validation, saved=None, keep=None
    ) -> list[dict[str, Any]]:
        s = self.settings
        first = title == "stage 1"
        n_rows = Y.shape[0]
        batch_size = resolve_batch_size(s.batch_size, n_rows)
        asked = s.stage1_epochs if first else s.stage2_epochs
        default = STAGE_EPOCHS[title]
        if not first and model.index.n_clusters == 1:
            default = 0  # every label hangs on the one cluster: there is no graph to learn
        n_epochs = resolve_epochs(asked, default, n_rows, batch_size)
        if n_epochs == 0:
            return []
        if not first and model.index.edge_logits is None:
            # only to be trained on: weights that are counts alone search worse than the partition
            self._open_graph(model, data, Y)
        plan = Plan(n_epochs, batch_size, s.warmup, s.max_grad_norm, s.precision)
        rates = self._rates(1.0 if first else s.stage2_factor)
        objective: PartitionObjective | EliasObjective
        if first:
            draws = np.random.default_rng(self.rng.randint(2**31 - 1))
            mining = self._mining(Y.shape[1])
            objective = PartitionObjective(model, data, Y, rates, mining, self.device, draws)
        else:
            objective = EliasObjective(model, data, Y, rates, self.device)
        how = (objective, plan, n_rows, self.rng, validation, s.verbose, saved, keep)
        return run_stage(title, *how)

    def _rates(self, factor: float) -> EliasRates:
        s = self.settings
        return EliasRates(
            lr_encoder=s.lr_encoder * factor,
            lr_clusters=s.lr_clusters * factor,
            lr_edges=s.lr_edges,
            lr_factor_tables=factor,
            weight_decay=s.weight_decay,
            dropout=s.dropout,
            lambda_shortlist=s.lambda_shortlist,
            beam_width=s.beam_width,
            shortlist_size=s.train_shortlist_size,
            # the best by path alone would be the same labels again and again, and an edge that is
            # never tried is never learned
            exploration=EXPLORATION,
            least_pull=LEAST_PULL,
        )

    def _mining(self, n_labels: int) -> SNMRates:
        """Return the settings of the label head's loss in stage 1: one-vs-all, mined negatives."""
        s = self.settings
        pool_size, k = resolve_pool(s.pool_size, s.n_negatives, n_labels)
        return SNMRates(
            weights=torch.ones(k, device=self.device),
            margin="logistic",
            pairwise=False,
            treatment="one_vs_all",
            pool=UniformPool(pool_size),
            anneal_steps=0,
            lr_encoder=s.lr_encoder,
            weight_decay=s.weight_decay,
            dropout=s.dropout,
        )

    def _open_graph(self, model: EliasModel, data: Any, Y: sp.csr_array) -> None:
        """Between the stages: count where the model sends each label's rows, and open the graph."""
        index = model.index
        kappa = resolve_kappa(self.settings, Y.shape[1], index.n_clusters)
        beta = resolve_beta(self.settings, Y.shape[1], index.n_clusters)
        edges = index.edges.cpu().numpy()
        assignment = best_parents(edges, (edges >= 0).astype(np.float32), Y.shape[1])
        membership = self._membership(model, data, Y.shape[0])
        index.learn_edges(approximate_adjacency(Y, membership, assignment, kappa), beta=beta)

    @torch.no_grad()
    def _membership(self, model: EliasModel, data: Any, n_rows: int) -> sp.csr_array:
        """Softmax cluster scores of each row's beam."""
        width = min(self.settings.beam_width, model.index.n_clusters)
        model.eval()
        values, clusters = [], []
        for part in gen_batches(n_rows, MEMBERSHIP_BATCH):
            rows = np.arange(part.start, part.stop)
            embeddings = model.encoder(model.encoder.collate(data, rows, self.device)).float()
            # uncapped: among clusters that are fully on, the softmax still tells the best
            shares = torch.softmax(model.index.logits(embeddings), dim=1)
            best = best_columns(shares, width)
            values.append(best[0].cpu().numpy())
            clusters.append(best[1].cpu().numpy())
        indptr = np.arange(0, n_rows * width + 1, width)
        arrays = (np.concatenate(values).ravel(), np.concatenate(clusters).ravel(), indptr)
        return sp.csr_array(arrays, shape=(n_rows, model.index.n_clusters))

    def _validation(self, model, X, Y, Y_train) -> Validation:
        s = self.settings
        data = model.encoder.prepare(X)

        def predict(k: int) -> TopK:
            embeddings = embed_rows(model.encoder, data, Y.shape[0], self.device)
            sizes = {"beam_width": s.beam_width, "shortlist_size": s.shortlist_size}
            return search_topk(freeze(model), embeddings, k, **sizes)

        return Validation(predict, Y, Y_train, s.validation_metric, s.patience)
