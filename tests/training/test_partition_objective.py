"""Stage 1 of ELIAS against the loss written out on dense float64 matrices."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skxmc._sparse import as_csr
from skxmc.negatives import UniformPool
from skxmc.training import elias_model, elias_partition
from skxmc.training.elias_partition import PartitionObjective
from skxmc.training.mining import pattern_of
from skxmc.training.snm import SNMRates

from .test_elias_objective import ASSIGNMENT, DEVICES, RATES, make_objective


def make_partition(seed, device="cpu", **changes):
    """Stage 1 on the small model of the ELIAS objective's tests; every label is in the pool."""
    whole = make_objective(seed, learn=False, device=device, **changes)
    mining = SNMRates(
        weights=torch.ones(7, device=whole.device),
        margin="logistic",
        pairwise=False,
        treatment="one_vs_all",
        pool=UniformPool(7),
        anneal_steps=0,
        lr_encoder=0.1,
        weight_decay=0.0,
        dropout=0.0,
    )
    parts = (whole.module, whole.data, whole.Y, whole.rates, mining, whole.device)
    return PartitionObjective(*parts, np.random.default_rng(seed))


def loss_slowly(objective, rows):
    """One-vs-all over all labels, and the cost of the positives' clusters, row by row."""
    model = objective.module
    table, labels, bias, clusters, cluster_bias = (
        tensor.detach().cpu().double().requires_grad_()
        for tensor in (
            model.encoder.table.weight,
            model.head.rows.weight,
            model.head.rows.bias,
            model.index.clusters.weight,
            model.index.clusters.bias,
        )
    )
    X, Y = objective.data.toarray(), objective.Y.toarray() > 0
    total = torch.zeros((), dtype=torch.float64)
    paths = torch.zeros((), dtype=torch.float64)
    for row in rows:
        embedding = torch.tensor(X[row], dtype=torch.float64) @ table
        z = labels @ embedding + bias
        scores = torch.clamp(
            model.index.alpha * torch.softmax(clusters @ embedding + cluster_bias, 0), max=1
        )
        own = np.flatnonzero(Y[row])
        for label in range(7):
            total = total + F.softplus(-z[label] if label in own else z[label])
        for label in own:
            paths = paths - torch.log(scores[ASSIGNMENT[label]]) / len(own)
    n_rows = len(rows)
    total, paths = total / n_rows, paths / n_rows
    loss = total + objective.rates.lambda_shortlist * paths
    loss.backward()
    return loss, paths, {"clusters": clusters.grad, "bias": cluster_bias.grad}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(4))
def test_loss_and_gradients_against_the_formula(device, seed):
    objective = make_partition(seed, device)
    rows = np.arange(6)
    loss, scalars = objective.loss(rows)
    loss.backward()
    expected, paths, gradients = loss_slowly(objective, rows)
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-5)
    np.testing.assert_allclose(scalars["path_loss"].item(), paths.item(), rtol=1e-5, atol=1e-6)
    clusters = objective.module.index.clusters
    np.testing.assert_allclose(clusters.weight.grad.cpu(), gradients["clusters"], atol=1e-5)
    np.testing.assert_allclose(clusters.bias.grad.cpu(), gradients["bias"], atol=1e-5)


def test_beam_recall_counts_the_clusters_of_the_positives():
    objective = make_partition(3, beam_width=2)
    with torch.no_grad():
        inputs = objective.module.encoder.collate(objective.data, np.arange(6), objective.device)
        shares = objective.module.index.log_shares(objective.module.encoder(inputs)).numpy()
    hits = []
    for row, own in enumerate(objective.Y.toarray() > 0):
        beam = np.argsort(-shares[row])[:2]
        hits += [ASSIGNMENT[label] in beam for label in np.flatnonzero(own)]
    assert 0 < np.mean(hits) < 1
    _, scalars = objective.loss(np.arange(6))
    assert scalars["beam_recall"].item() == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("n_rows", [1, 3])
def test_paths_of_some_rows_where_clusters_are_many(n_rows, monkeypatch):
    """Four clusters; the labels still learn from all rows."""
    monkeypatch.setattr(elias_model, "_CLUSTER_SCORES", 4 * n_rows + 3)
    objective = make_partition(0)
    rows = np.argsort(-objective.Y.toarray().sum(axis=1))  # the first have labels
    loss, scalars = objective.loss(rows)
    loss.backward()
    _, paths, gradients = loss_slowly(objective, rows[:n_rows])
    whole, all_paths, _ = loss_slowly(objective, rows)
    weight = objective.rates.lambda_shortlist
    np.testing.assert_allclose(scalars["path_loss"].item(), paths.item(), rtol=1e-5)
    np.testing.assert_allclose(
        loss.item(), (whole + weight * (paths - all_paths)).item(), rtol=1e-5
    )
    clusters = objective.module.index.clusters
    np.testing.assert_allclose(clusters.weight.grad, gradients["clusters"], atol=1e-5)


def test_recall_looks_at_some_rows(monkeypatch):
    found = []
    for n_seen in (64, 2):
        monkeypatch.setattr(elias_partition, "_RECALL_ROWS", n_seen)
        objective = make_partition(3, beam_width=2)
        rows = np.arange(6 if n_seen == 2 else 2)
        found.append(objective.loss(rows)[1]["beam_recall"].item())
    assert found[0] == found[1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_paths_in_one_sweep_against_torch_operations(seed, alpha):
    """Many clusters, rows without labels, shares that are cut at 1."""
    generator = np.random.default_rng(seed)
    objective = make_partition(seed, beam_width=5)
    objective.module.index.alpha = alpha
    objective.parents = torch.from_numpy(generator.integers(0, 40, 7))
    pattern = pattern_of(objective.Y, np.arange(6))
    start = torch.from_numpy(generator.normal(0, 3, (6, 40)).astype(np.float32))
    answers = []
    for find in (objective._paths, objective._paths_in_one_sweep):
        logits = start.clone().requires_grad_()
        path, recall = find(logits, pattern)
        (3 * path).backward()
        answers.append((path.detach(), recall, logits.grad))
    for got, expected in zip(*answers, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_rows_without_labels_cost_nothing_on_paths():
    objective = make_partition(0)
    objective.mining.Y = objective.Y = as_csr(np.zeros((6, 7)))
    loss, scalars = objective.loss(np.arange(6))
    assert scalars["path_loss"].item() == 0
    assert scalars["beam_recall"].item() == 1
    assert torch.isfinite(loss)


def test_rates_and_factor_are_those_of_the_stage():
    objective = make_partition(0)
    assert objective.table_factor == RATES.lr_factor_tables
    rates = {group["lr"] for group in objective.parameter_groups()}
    assert rates == {RATES.lr_encoder, RATES.lr_clusters}
