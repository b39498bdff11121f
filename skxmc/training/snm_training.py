"""The fit of stochastic negative mining: from raw rows to a trained model."""

from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch

from skxmc.encoders import BagOfWords
from skxmc.encoders.base import build_encoder
from skxmc.encoders.size import encoder_size
from skxmc.heads import LabelHead, log_prior
from skxmc.losses import ordered_weights
from skxmc.negatives import FrequencyPool, InBatchPool, MixedPool, Pool, UniformPool
from skxmc.search.exhaustive import exhaustive_topk
from skxmc.topk import TopK
from skxmc.training.checkpoint import Progress
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
from skxmc.training.memory import Need, label_start_need, mining_need, shared_needs
from skxmc.training.snm import SNMModel, SNMObjective, SNMRates

__all__ = ["SAMPLERS", "SNMSettings", "SNMTraining"]

SAMPLERS = ("uniform", "in_batch", "frequency", "mixed")
# What "auto" stands for.
EPOCHS = 10


class SNMSettings(Protocol):
    """The parameters that training reads; `SNMClassifier` documents them."""

    encoder: Any
    pool_size: Any
    n_negatives: Any
    sampler: Any
    loss: str
    margin: str
    weights: Any
    multilabel: str
    anneal: float
    hardness_cap: Any
    normalize: bool
    cosine_scale: float
    dropout: float
    max_epochs: Any
    label_init: str
    batch_size: Any
    lr_labels: float
    lr_encoder: float
    weight_decay: float
    warmup: float
    max_grad_norm: Any
    early_stopping: bool
    validation_fraction: float
    validation_metric: str
    patience: int
    precision: str
    verbose: int


class SNMTraining:
    """One fit.

    Parameters
    ----------
    settings : SNMSettings
        Read, never written.
    random_state : RandomState
        Source of all randomness but torch's, which the caller seeds.
    device : torch.device
        Where to train.
    """

    def __init__(
        self, settings: SNMSettings, random_state: np.random.RandomState, device: torch.device
    ):
        self.settings = settings
        self.rng = random_state
        self.device = device

    def run(
        self,
        X: Any,
        Y: sp.csr_array,
        model: SNMModel | None = None,
        progress: Progress | None = None,
    ) -> tuple[SNMModel, list[dict[str, Any]]]:
        """Train a new model, or an earlier one further."""
        s = self.settings
        progress = progress or Progress(None, self.rng, self.device)
        fraction = s.validation_fraction if s.early_stopping else 0.0
        X, Y, X_valid, Y_valid = hold_out(X, Y, fraction, self.rng)
        anew = model is None and progress.module is None
        if model is None:
            model = self._start(X, Y)
        model.to(self.device)
        data = model.encoder.prepare(X)
        if anew:
            start_labels(s.label_init, model, data, Y, self.device)
        validation = None
        if Y_valid is not None:
            validation = self._validation(model, X_valid, Y_valid, Y)
        n_rows = Y.shape[0]
        batch_size = resolve_batch_size(s.batch_size, n_rows)
        n_epochs = resolve_epochs(s.max_epochs, EPOCHS, n_rows, batch_size)
        if n_epochs == 0:
            return model, []
        plan = Plan(n_epochs, batch_size, s.warmup, s.max_grad_norm, s.precision)
        n_steps = n_epochs * -(-n_rows // batch_size)
        rates = self._rates(Y.shape[1], round(s.anneal * n_steps))
        draws = np.random.default_rng(self.rng.randint(2**31 - 1))
        objective = SNMObjective(model, data, Y, rates, self.device, draws)
        how = (objective, plan, n_rows, self.rng, validation, s.verbose)
        try:
            records = run_stage("SNM", *how, progress.resume(0), progress.keeper(0))
        except TrainingInterrupted as stop:
            records = stop.records
            progress.interrupted = True
        return model, records

    def work_of_step(self, X: Any, Y: sp.csr_array) -> float:
        """Estimate the multiply-adds of a step, to choose the number of threads."""
        if isinstance(X, list):
            return float("inf")
        batch_size = resolve_batch_size(self.settings.batch_size, Y.shape[0])
        features = X.nnz / X.shape[0] if sp.issparse(X) else X.shape[1]
        pool_size, _ = resolve_pool(self.settings.pool_size, self.settings.n_negatives, Y.shape[1])
        return float(batch_size * (features + pool_size) * min(512, X.shape[1]))

    def needs(self, X: Any, Y: sp.csr_array) -> list[Need] | None:
        """List the memory that `run` takes; None where the encoder does not say."""
        s = self.settings
        size = encoder_size(self._recipe(), X)
        if size is None:
            return None
        batch_size = resolve_batch_size(s.batch_size, Y.shape[0])
        held_out = s.validation_fraction if s.early_stopping else 0.0
        return [
            *shared_needs(X, Y, size, held_out),
            label_start_need(s.label_init, Y, size.embedding_dim),
            mining_need(s, Y, batch_size, size.embedding_dim),
        ]

    def _recipe(self) -> Any:
        return BagOfWords() if self.settings.encoder is None else self.settings.encoder

    def _start(self, X: Any, Y: sp.csr_array) -> SNMModel:
        s = self.settings
        encoder = build_encoder(self._recipe(), X, self.rng)
        counts = np.bincount(Y.indices, minlength=Y.shape[1])
        bias = torch.from_numpy(log_prior(counts, Y.shape[0]))
        head = LabelHead(bias, encoder.embedding_dim, lr=s.lr_labels, unit_rows=s.normalize)
        return SNMModel(encoder, head, s.cosine_scale if s.normalize else None)

    def _rates(self, n_labels: int, anneal_steps: int) -> SNMRates:
        s = self.settings
        pool_size, k = resolve_pool(s.pool_size, s.n_negatives, n_labels)
        if s.hardness_cap is not None:
            pool_size = min(pool_size, max(k, k * n_labels // s.hardness_cap))
        treatment = s.multilabel
        if treatment == "auto":
            treatment = "one_vs_all" if s.loss == "binary" else "pick_all"
        weights = torch.from_numpy(ordered_weights(s.weights, k)).to(self.device)
        return SNMRates(
            weights=weights,
            margin=s.margin,
            pairwise=s.loss == "pairwise",
            treatment=treatment,
            pool=make_pool(s.sampler, pool_size),
            anneal_steps=anneal_steps,
            lr_encoder=s.lr_encoder,
            weight_decay=s.weight_decay,
            dropout=s.dropout,
        )

    def _validation(self, model, X, Y, Y_train) -> Validation:
        data = model.encoder.prepare(X)

        def predict(k: int) -> TopK:
            embeddings = model.embed(embed_rows(model.encoder, data, Y.shape[0], self.device))
            rows = model.head.rows
            return exhaustive_topk(
                embeddings, rows.weight.cpu().numpy(), rows.bias.cpu().numpy(), k
            )

        s = self.settings
        return Validation(predict, Y, Y_train, s.validation_metric, s.patience)


def make_pool(sampler: Any, size: int) -> Pool:
    """Make the pool that a sampler's name stands for; objects with a `draw` method pass through."""
    if hasattr(sampler, "draw"):
        return sampler
    if sampler == "in_batch":
        return InBatchPool()
    if sampler == "frequency":
        return FrequencyPool(size)
    if sampler == "mixed":
        return MixedPool(InBatchPool(), UniformPool(max(1, size // 2)))
    return UniformPool(size)
