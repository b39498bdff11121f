"""The SNM objective against one-vs-all on dense matrices, and what it may and may not touch."""

from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.nn import functional as F

from skxmc._sparse import as_csr
from skxmc.encoders.base import Encoder
from skxmc.heads import LabelHead
from skxmc.losses import MARGINS, TREATMENTS, expected_weights, ordered_weights
from skxmc.negatives import UniformPool
from skxmc.training import mining, snm
from skxmc.training._kernels import find_own, hardest
from skxmc.training.mining import Candidates, Pattern, mine, pattern_of
from skxmc.training.snm import SNMModel, SNMObjective, SNMRates, kept_negatives

N_ROWS, N_LABELS, WIDTH = 6, 12, 4
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Lookup(Encoder):
    """Row i's embedding is row i of a parameter."""

    def __init__(self, table):
        super().__init__()
        self.embedding_dim = table.shape[1]
        self.table = torch.nn.Parameter(table)

    def collate(self, data, rows, device):
        return torch.from_numpy(rows).to(device)

    def forward(self, inputs):
        return self.table[inputs]


def make(
    seed=0,
    *,
    k=N_LABELS,
    pool=N_LABELS,
    treatment="one_vs_all",
    margin="logistic",
    device="cpu",
    **changes,
):
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    Y = sp.csr_array((rng.random((N_ROWS, N_LABELS)) < 0.25).astype(np.float32))
    head = LabelHead(torch.randn(N_LABELS, generator=generator), WIDTH, lr=0.1)
    head.rows.weight.copy_(torch.randn(N_LABELS, WIDTH, generator=generator))
    device = torch.device(device)
    model = SNMModel(Lookup(torch.randn(N_ROWS, WIDTH, generator=generator)), head).to(device)
    settings = {
        "weights": torch.from_numpy(ordered_weights("topk", k)).to(device),
        "margin": margin,
        "pairwise": False,
        "treatment": treatment,
        "pool": UniformPool(pool),
        "anneal_steps": 0,
        "lr_encoder": 0.1,
        "weight_decay": 0.0,
        "dropout": 0.0,
        **changes,
    }
    draws = np.random.default_rng(seed)
    return SNMObjective(model, None, Y, SNMRates(**settings), device, draws), Y.toarray()


# With 0 no pool is ever treated as a whole, with 100 each is.
@pytest.fixture(params=[0, 100], ids=["sparse", "dense"])
def dense_share(request, monkeypatch):
    monkeypatch.setattr(snm, "DENSE_SHARE", request.param)


def noted_gradient(table):
    """The gradient of the label rows, as noted for the optimiser."""
    noted = np.zeros(table.weight.shape)
    for batch, vectors in table._notes:
        rows = np.repeat(np.arange(batch.indptr.shape[0] - 1), np.diff(batch.indptr.cpu()))
        values = batch.data.cpu().numpy()[:, None] * vectors.cpu().numpy()[rows]
        np.add.at(noted, batch.indices.cpu(), values)
    for rows, gradient, _ in table._dense_notes:
        noted[rows.cpu()] += gradient.cpu().numpy()
    return noted


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.usefixtures("dense_share")
def test_everything_kept_is_one_vs_all(device):
    objective, Y = make(device=device)
    rows = np.arange(N_ROWS)
    loss, _ = objective.loss(rows)
    table = objective.module.head.rows
    weight = table.weight.cpu().double().requires_grad_()
    embeddings = objective.module.encoder.table.detach().cpu().double().requires_grad_()
    logits = embeddings @ weight.T + table.bias.cpu().double()
    expected = F.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(Y).double(), reduction="sum"
    )
    expected = expected / N_ROWS
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    found = objective.module.encoder.table.grad.cpu()
    np.testing.assert_allclose(found, embeddings.grad, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(noted_gradient(table), weight.grad, rtol=1e-4, atol=1e-6)


LOSSES = [(False, t) for t in TREATMENTS] + [(True, "pick_all"), (True, "pick_one")]


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize(("pairwise", "treatment"), LOSSES)
@pytest.mark.parametrize(("k", "pool"), [(12, 12), (7, 7), (3, 7)])
@pytest.mark.parametrize("entries", [2**24, 20], ids=["at once", "in parts"])
def test_dense_steps_are_the_sparse_ones(
    margin, pairwise, treatment, k, pool, entries, monkeypatch
):
    """Loss, gradient of the embeddings, and the label rows after two steps."""
    monkeypatch.setattr(snm, "DENSE_ENTRIES", entries)
    found = []
    for share in (0, 100):
        monkeypatch.setattr(snm, "DENSE_SHARE", share)
        weights = torch.from_numpy(ordered_weights("linear", k))
        objective, _ = make(
            3, pool=pool, treatment=treatment, margin=margin, pairwise=pairwise, weights=weights
        )
        losses = []
        table = objective.module.head.rows
        for _ in range(2):
            loss, _ = objective.loss(np.arange(N_ROWS))
            loss.backward()
            table.step()
            losses.append(loss.item())
        gradient = objective.module.encoder.table.grad
        found.append([losses, gradient, table.weight, table.bias, table._state["squares"]])
    for sparse, dense in zip(*found, strict=True):
        np.testing.assert_allclose(dense, sparse, rtol=2e-4, atol=2e-5)


@pytest.mark.usefixtures("dense_share")
@pytest.mark.parametrize("treatment", ["one_vs_all", "pick_all", "pick_one"])
@pytest.mark.parametrize("pairwise", [False, True])
def test_only_positives_and_mined_negatives_move(treatment, pairwise):
    if pairwise and treatment == "one_vs_all":
        pytest.skip("no such loss")
    objective, Y = make(1, k=2, pool=5, treatment=treatment, pairwise=pairwise)
    table = objective.module.head.rows
    before = table.weight.clone()
    row = np.array([int(np.argmax(Y.sum(axis=1)))])
    drawn = UniformPool(5).draw(None, objective.label_counts, np.random.default_rng(1))
    scores = (objective.module.encoder.table[row] @ table.weight.T + table.bias)[0]
    candidates = [j for j in drawn if Y[row[0], j] == 0]
    hardest = sorted(candidates, key=lambda j: -scores[j].item())[:2]
    loss, _ = objective.loss(row)
    loss.backward()
    table.step()
    moved = set(np.flatnonzero((table.weight != before).any(dim=1).numpy()))
    positives = set(np.flatnonzero(Y[row[0]]))
    assert set(hardest) <= moved
    assert moved <= set(hardest) | positives
    if treatment == "pick_one":
        assert len(moved & positives) == 1
    else:
        assert positives <= moved


def test_mined_negatives_against_a_sort():
    rng = np.random.default_rng(2)
    objective, Y = make(2)
    embeddings = torch.from_numpy(rng.normal(size=(N_ROWS, WIDTH)).astype(np.float32))
    head = objective.module.head
    positives = pattern_of(sp.csr_array(Y), np.arange(N_ROWS))
    for pool in (np.arange(N_LABELS), np.array([0, 3, 4, 9])):
        candidates = Candidates(pool, torch.device("cpu"))
        found, n_found = mine(head, embeddings, candidates, positives, 3)
        scores = (embeddings @ head.rows.weight.T + head.rows.bias).numpy()
        for i in range(N_ROWS):
            left = sorted((j for j in pool if Y[i, j] == 0), key=lambda j: -scores[i, j])[:3]
            assert sorted(found[i, : n_found[i]].tolist()) == sorted(left)


@pytest.mark.parametrize("half", [False, True])
def test_mining_of_a_large_pool_finds_about_the_hardest(monkeypatch, half):
    """In half precision scores may be wrong by 1/128, in float32 not at all."""
    monkeypatch.setattr(mining, "has_bfloat16", lambda: half)
    rng = np.random.default_rng(0)
    n_rows, n_pool, width, k = 256, 1024, 64, 20
    head = LabelHead(torch.from_numpy(rng.normal(size=3000).astype(np.float32)), width, lr=0.1)
    head.rows.weight.copy_(torch.from_numpy(rng.normal(size=(3000, width)).astype(np.float32)))
    embeddings = torch.from_numpy(rng.normal(size=(n_rows, width)).astype(np.float32))
    pool = Candidates(np.sort(rng.choice(3000, n_pool, replace=False)), torch.device("cpu"))
    positives = pattern_of(as_csr(rng.random((n_rows, 3000)) < 0.01), np.arange(n_rows))
    found, n_found = mine(head, embeddings, pool, positives, k)
    assert (n_found == k).all()
    scores = embeddings @ head.rows.weight.T + head.rows.bias
    scores[to_rows(positives), torch.from_numpy(positives.indices)] = -torch.inf
    worst = scores[:, pool.labels].topk(k, dim=1).values[:, -1:]
    assert (scores.gather(1, found) >= worst - (0.3 if half else 1e-4)).all()
    assert all(np.unique(row).size == k for row in found.numpy())
    assert np.isin(found.numpy(), pool.drawn).all()


def test_own_labels_in_the_pool_against_numpy():
    rng = np.random.default_rng(0)
    for share in (0.05, 0.4, 1.0):
        drawn = np.flatnonzero(rng.random(40) < share)
        Y = as_csr(rng.random((9, 40)) < 0.2)
        starts, places = find_own(drawn, Y.indptr, Y.indices)
        found = np.isin(Y.indices, drawn)
        rows = np.repeat(np.arange(9), np.diff(Y.indptr))
        np.testing.assert_array_equal(np.diff(starts), np.bincount(rows[found], minlength=9))
        np.testing.assert_array_equal(drawn[places], Y.indices[found])


@pytest.mark.parametrize("n_labels", [1, 5, 40, 300])
@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_hardest_against_a_stable_sort(n_labels, k, levels):
    if k > n_labels:
        pytest.skip("no room")
    rng = np.random.default_rng(k)
    scores = rng.integers(levels, size=(7, n_labels)).astype(np.float32)
    labels = np.arange(n_labels) * 2
    found = np.empty((7, k), dtype=np.int64)
    nobody = np.zeros(8, dtype=np.int32), np.zeros(0, dtype=np.int64)
    hardest(scores, labels, *nobody, found)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k] * 2
    assert np.array_equal(np.sort(found), np.sort(expected))


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("k", [1, 3])
def test_plain_sum_is_the_ordered_loss_of_equal_weights(margin, k, monkeypatch):
    """Scored in one pattern with signs, or as positives and a matrix of negatives: all the same."""
    monkeypatch.setattr(snm, "DENSE_SHARE", 0)
    results = []
    for plain in (True, False):
        monkeypatch.setattr(SNMRates, "counts_once", plain)
        objective, _ = make(k=k, pool=6, margin=margin)
        loss, _ = objective.loss(np.arange(N_ROWS))
        loss.backward()
        grad = objective.module.encoder.table.grad
        results.append((loss.detach(), grad, noted_gradient(objective.module.head.rows)))
    torch.testing.assert_close(results[0][:2], results[1][:2])
    np.testing.assert_allclose(results[0][2], results[1][2], atol=1e-6)


@pytest.mark.parametrize(
    ("treatment", "weights", "plain"),
    [
        ("one_vs_all", "topk", True),
        ("one_vs_all", "linear", False),
        ("pick_all", "topk", False),
        ("pick_one", "topk", False),
    ],
)
def test_when_the_loss_is_a_plain_sum(treatment, weights, plain):
    weights = torch.from_numpy(ordered_weights(weights, 4))
    objective, _ = make(k=4, treatment=treatment, weights=weights)
    assert objective.rates.counts_once == plain


def to_rows(pattern):
    return torch.from_numpy(pattern.rows())


def test_a_row_that_owns_the_whole_pool_has_no_negatives():
    objective, _ = make()
    head = objective.module.head
    pool = Candidates(np.array([1, 2]), torch.device("cpu"))
    positives = Pattern(np.array([0, 2]), np.array([1, 2]))
    assert mine(head, torch.ones(1, WIDTH), pool, positives, 2)[1].tolist() == [0]


def test_annealing_ends_at_k_and_never_rises():
    kept = [kept_negatives(step, 10, pool_size=500, k=4) for step in range(15)]
    assert kept[0] == 500
    assert kept[10:] == [4] * 5
    assert kept == sorted(kept, reverse=True)
    assert kept_negatives(0, 0, pool_size=3, k=9) == 3


class EachPoolInTurn:
    """All sets of `size` labels, one a draw."""

    def __init__(self, size):
        self.sets = iter(combinations(range(N_LABELS), size))

    def draw(self, positives, label_counts, rng):
        return np.array(next(self.sets))


@pytest.mark.usefixtures("dense_share")
@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize(("pool", "k"), [(3, 1), (3, 3), (9, 2)])
def test_mean_over_all_pools_is_the_ordered_loss_of_the_closed_form(margin, pool, k):
    """The pool is drawn from all labels: a row's own ones in it leave room for fewer negatives."""
    objective, Y = make(4, k=k, margin=margin, pool=1)
    objective.rates = replace(objective.rates, pool=EachPoolInTurn(pool))
    row = np.array([int(np.argmax(Y.sum(axis=1)))])
    n_pools = comb(N_LABELS, pool)
    with torch.no_grad():
        mean = sum(objective.loss(row)[0].item() for _ in range(n_pools)) / n_pools
    model = objective.module
    embedding = model.encoder.table.detach().numpy()[row[0]].astype(np.float64)
    scores = model.head.rows.weight.numpy() @ embedding + model.head.rows.bias.numpy()
    positive = Y[row[0]] > 0
    hardest = np.sort(scores[~positive])[::-1]
    theta = expected_weights(N_LABELS, pool, k)[: hardest.size]
    phi = {
        "logistic": lambda t: np.logaddexp(0, -t),
        "hinge": lambda t: np.maximum(0, 1 - t),
        "squared_hinge": lambda t: np.maximum(0, 1 - t) ** 2,
    }[margin]
    expected = phi(scores[positive]).sum() + (theta * phi(-hardest)).sum()
    assert positive.sum() > 1
    np.testing.assert_allclose(mean, expected, rtol=1e-5)
