"""A stage-2 step of ELIAS as one writes it in plain torch: the baseline of bench_elias_step.py.

The same maths as `skxmc.training.elias.EliasObjective`, started from the same model, but every
parameter is dense and differentiated by autograd: the rows of a batch's shortlists are gathered as
an array of batch x K x d, gradients of label matrix and feature table have the size of these
matrices, and the optimiser passes over all of them.
"""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skxmc.index.cluster_index import cap_log
from skxmc.losses import log1mexp
from skxmc.training.elias import EliasModel, EliasRates

_EPS = 1e-8


class DenseElias(nn.Module):
    """Copy of an `EliasModel` with a bag-of-words encoder, as ordinary parameters.

    Parameters
    ----------
    model : EliasModel
        Where to start; not changed.
    parents : Tensor of shape (n_labels,), int64
        Cluster of each label's heaviest edge.
    rates : EliasRates
        Settings of the stage.
    """

    def __init__(self, model: EliasModel, parents: Tensor, rates: EliasRates):
        super().__init__()
        index = model.index
        self.rates, self.parents, self.path_power = rates, parents, model.path_power
        self.length, self.alpha, self.beta = model.encoder.length, index.alpha, index.beta
        self.table = nn.Parameter(model.encoder.table.weight.clone())
        self.label_weight = nn.Parameter(model.head.rows.weight.clone())
        self.label_bias = nn.Parameter(model.head.rows.bias.clone())
        self.cluster_weight = nn.Parameter(index.clusters.weight.detach().clone())
        self.cluster_bias = nn.Parameter(index.clusters.bias.detach().clone())
        self.edge_logits = nn.Parameter(index.edge_logits.detach().clone())
        self.edges = index.edges.long()

    def loss(self, X: sp.csr_array, Y: sp.csr_array) -> Tensor:
        """Loss of a mini-batch, summed over shortlists, averaged over rows."""
        embeddings = F.dropout(self.embed(X), self.rates.dropout)
        truth = torch.from_numpy(Y.toarray()).bool()
        log_shares = F.log_softmax(F.linear(embeddings, self.cluster_weight, self.cluster_bias), 1)
        log_weights = self.log_weights()
        beam, used = self.beam(log_shares.detach(), truth)
        scores = cap_log(log_shares.gather(1, beam), self.alpha).masked_fill(~used, -torch.inf)
        paths = (scores[:, :, None] + log_weights[beam]).flatten(1)
        labels, winners, found = self.shortlist(beam, paths.detach(), truth)
        # the gather of batch x K x d
        logits = torch.einsum("bd,bkd->bk", embeddings, self.label_weight[labels])
        logits = logits + self.label_bias[labels]
        log_path = paths.gather(1, winners).masked_fill(~found, 0.0)
        positive = truth.gather(1, labels) & found
        log_p = self.path_power * log_path + F.logsigmoid(logits)
        costs = -torch.where(positive, log_p, log1mexp(log_p)).masked_fill(~found, 0.0)
        share = positive / positive.sum(1, keepdim=True).clamp(min=1)
        path_cost = -(share * log_path).sum()
        return (costs.sum() + self.rates.lambda_shortlist * path_cost) / X.shape[0]

    def embed(self, X: sp.csr_array) -> Tensor:
        """Sum the table's rows by a dense embedding bag."""
        indices, offsets = (torch.from_numpy(a.astype(np.int64)) for a in (X.indices, X.indptr))
        bags = F.embedding_bag(
            indices,
            self.table,
            offsets,
            mode="sum",
            per_sample_weights=torch.from_numpy(X.data),
            include_last_offset=True,
        )
        return self.length * F.normalize(bags)

    def log_weights(self) -> Tensor:
        """Log edge weights of the whole graph."""
        padding = self.edges < 0
        shares = F.log_softmax(self.edge_logits.masked_fill(padding, -1e9), dim=1)
        return cap_log(shares, self.beta).masked_fill(padding, -torch.inf)

    def beam(self, log_shares: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Best clusters of each row and its positives' parents, and which places are used."""
        width = min(self.rates.beam_width, log_shares.shape[1])
        chosen = torch.zeros_like(log_shares, dtype=torch.bool)
        chosen.scatter_(1, log_shares.topk(width, dim=1).indices, True)
        rows, positives = truth.nonzero(as_tuple=True)
        chosen[rows, self.parents[positives]] = True
        used, beam = chosen.float().sort(dim=1, descending=True, stable=True)
        longest = int(chosen.sum(1).max())
        return beam[:, :longest], used[:, :longest].bool()

    @torch.no_grad()
    def shortlist(self, beam: Tensor, paths: Tensor, truth: Tensor):
        """Draw K labels a row by path score: labels, places of their best paths, which count."""
        labels = self.edges[beam].flatten(1).clamp(min=0)
        best = torch.full(truth.shape, -torch.inf).scatter_reduce(1, labels, paths, "amax")
        keys = best
        if self.rates.exploration > 0:
            uniform = torch.rand_like(best).clamp(1e-20, 1 - 1e-7)
            keys = best - self.rates.exploration * torch.log(-torch.log(uniform))
        keys = keys.masked_fill(truth, torch.inf).masked_fill(best == -torch.inf, -torch.inf)
        top = keys.topk(min(self.rates.shortlist_size, truth.shape[1]), dim=1)
        # the last path written among those that reach the best score of their label
        at_best = paths == best.gather(1, labels)
        places = torch.arange(paths.shape[1]).expand_as(paths)
        place_of = torch.zeros(truth.shape, dtype=torch.int64)
        place_of = place_of.scatter_reduce(1, labels, places.where(at_best, -1), "amax")
        return top.indices, place_of.gather(1, top.indices), top.values > -torch.inf


class RowAdagrad(torch.optim.Optimizer):
    """Row-wise Adagrad over whole matrices, a bias moving at the rate of its row.

    Parameters
    ----------
    groups : list of dict
        "params": a matrix and, maybe, a vector of biases; "lr"; "squares": what each row has
        accumulated so far.
    """

    def __init__(self, groups: list[dict]):
        super().__init__(groups, {"lr": 0.1, "squares": None})

    @torch.no_grad()
    def step(self, closure=None):
        """Update every row of every matrix."""
        for group in self.param_groups:
            weight, *biases = group["params"]
            group["squares"] += weight.grad.square().mean(dim=1)
            rate = group["lr"] / (group["squares"].sqrt() + _EPS)
            weight -= rate[:, None] * weight.grad
            for bias in biases:
                bias -= rate * bias.grad


def optimizers(dense: DenseElias, model: EliasModel, tables: str) -> list[torch.optim.Optimizer]:
    """Optimisers at the rates of our objective; `tables` is "row-wise Adagrad" or "AdamW"."""
    rates, factor = dense.rates, dense.rates.lr_factor_tables
    tables_of_ours = (model.encoder.table, model.head.rows)
    decay = {"weight_decay": rates.weight_decay}
    groups = [
        {"params": [dense.cluster_weight], "lr": rates.lr_clusters, **decay},
        {"params": [dense.cluster_bias], "lr": rates.lr_clusters, "weight_decay": 0.0},
        {"params": [dense.edge_logits], "lr": rates.lr_edges, "weight_decay": 0.0},
    ]
    matrices = [
        {"params": parameters, "lr": factor * table.lr}
        for parameters, table in zip(
            ([dense.table], [dense.label_weight, dense.label_bias]), tables_of_ours, strict=True
        )
    ]
    if tables == "AdamW":
        # Adam moves every entry by its rate, so rates of Adagrad would be far too high
        matrices = [{**group, "lr": 0.01 * group["lr"], "weight_decay": 0.0} for group in matrices]
        return [torch.optim.AdamW(groups + matrices)]
    for group, table in zip(matrices, tables_of_ours, strict=True):
        group["squares"] = table.state("squares", table.weight.shape[0]).clone()
    return [torch.optim.AdamW(groups), RowAdagrad(matrices)]
