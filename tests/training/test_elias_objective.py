"""The ELIAS objective: the beam by loops, the loss against dense float64 matrices."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from skxmc._sparse import as_csr
from skxmc.encoders import Encoder
from skxmc.encoders.base import csr_batch
from skxmc.heads import LabelHead
from skxmc.index import Adjacency, ClusterIndex, partition_adjacency
from skxmc.ops.row_table import RowTable
from skxmc.search import shortlist
from skxmc.search.beam import search_topk
from skxmc.training import elias_model, elias_numba, elias_torch
from skxmc.training.elias import EliasModel, EliasObjective, EliasRates, freeze
from skxmc.training.mining import pattern_of

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
# (device, engine); on the CPU the engine of accelerators runs as well
ENGINES = [("cpu", elias_numba), ("cpu", elias_torch)]
ENGINES += [(device, elias_torch) for device in DEVICES[1:]]
engines = pytest.mark.parametrize(
    ("device", "engine"), ENGINES, ids=lambda part: getattr(part, "__name__", part)
)
RATES = EliasRates(
    lr_encoder=0.1,
    lr_clusters=0.2,
    lr_edges=0.3,
    lr_factor_tables=0.5,
    weight_decay=0.01,
    dropout=0.0,
    lambda_shortlist=0.7,
    beam_width=2,
    shortlist_size=99,
    exploration=0.0,
)
# seven labels in four clusters; stage 2: overlaps, a short row, label 6 by one weak edge only
ASSIGNMENT = np.array([0, 0, 1, 1, 2, 3, 3])
EDGES = np.array([[0, 1, 5], [2, 3, 0], [4, -1, -1], [5, 2, 6]], dtype=np.int32)
WEIGHTS = np.array([[1, 1, 0.4], [1, 1, 0.3], [1, 0, 0], [1, 0.5, 0.05]], dtype=np.float32)


class Words(Encoder):
    """The smallest encoder with a table: a sum of feature vectors."""

    def __init__(self, n_features, width, generator):
        super().__init__()
        self.embedding_dim = width
        self.table = RowTable(torch.randn(n_features, width, generator=generator))

    def collate(self, data, rows, device):
        return csr_batch(data, rows, device)

    def forward(self, inputs):
        return self.table.bag(inputs)


def make_objective(
    seed, *, learn, device="cpu", engine=elias_numba, alpha=1.5, n_rows=6, rates=RATES, **changes
):
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    width, n_features = 3, 5
    index = ClusterIndex(width, partition_adjacency(ASSIGNMENT, 4), alpha=alpha)
    if learn:
        index.learn_edges(Adjacency(EDGES, WEIGHTS), beta=1.7)
    head = LabelHead(torch.randn(7, generator=generator), width, lr=0.1)
    head.rows.weight.normal_(std=0.5, generator=generator)
    model = EliasModel(Words(n_features, width, generator), index, head)
    with torch.no_grad():
        for parameter in index.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    X = rng.normal(size=(n_rows, n_features)) * (rng.random((n_rows, n_features)) < 0.6)
    Y = rng.random((n_rows, 7)) < 0.35
    Y[0] = False  # a row without labels
    X[1] = 0  # a row without features
    Y, X = as_csr(Y), as_csr(X)
    device = torch.device(device)
    objective = EliasObjective(model.to(device), X, Y, replace(rates, **changes), device)
    objective.engine = engine
    return objective


class Dense:
    """The model as full float64 matrices with gradients, and the loss in plain formulas."""

    def __init__(self, objective):
        def leaf(tensor):
            return tensor.detach().cpu().double().clone().requires_grad_()

        model, index = objective.module, objective.module.index
        self.table = leaf(model.encoder.table.weight)
        self.clusters, self.bias = leaf(index.clusters.weight), leaf(index.clusters.bias)
        self.labels, self.label_bias = leaf(model.head.rows.weight), leaf(model.head.rows.bias)
        self.edges, self.alpha, self.beta = index.edges.cpu(), index.alpha, index.beta
        self.logits = None if index.edge_logits is None else leaf(index.edge_logits)
        self.fixed = index.fixed_log_weights.detach().cpu().double().exp()
        self.X, self.Y = (part.toarray() for part in (objective.data, objective.Y))

    def weights(self):
        """Edge weights as a full matrix of clusters times labels."""
        rows = []
        for c, labels in enumerate(self.edges.tolist()):
            used = [column for column, label in enumerate(labels) if label >= 0]
            if self.logits is None:
                values = self.fixed[c, used]
            else:
                values = torch.clamp(self.beta * torch.softmax(self.logits[c, used], 0), max=1)
            place = torch.tensor([labels[column] for column in used])
            rows.append(torch.zeros(7).double().index_put((place,), values))
        return torch.stack(rows)

    def scores(self, rows):
        embeddings = torch.tensor(self.X[rows], dtype=torch.float64) @ self.table
        shares = torch.softmax(embeddings @ self.clusters.T + self.bias, dim=1)
        return embeddings, shares, torch.clamp(self.alpha * shares, max=1)

    def beams(self, rows, width):
        """Clusters of each row, the best `width` and the heaviest parent of each positive.

        The best by their softmax, also where several scores are cut at 1.
        """
        weights, shares = self.weights().detach(), self.scores(rows)[1].detach()
        best = [set(torch.argsort(-row, stable=True)[:width].tolist()) for row in shares]
        parents = [{int(weights[:, label].argmax()) for label in np.flatnonzero(self.Y[i])}
                   for i in rows]  # fmt: skip
        return best, parents

    def loss(self, rows, width, weight):
        embeddings, _, scores = self.scores(rows)
        weights, logits = self.weights(), embeddings @ self.labels.T + self.label_bias
        total = path_cost = 0.0
        for r, (best, parents) in enumerate(zip(*self.beams(rows, width), strict=True)):
            beam = sorted(best | parents)
            paths = (scores[r, beam, None] * weights[beam]).max(dim=0).values
            costs = []
            for label in np.flatnonzero((weights[beam].detach() > 0).any(dim=0)):
                p = paths[label] * torch.sigmoid(logits[r, label])
                carried = bool(self.Y[rows[r], label])
                # the loss takes no score for closer to 1 than exp(-1e-6)
                wrong = torch.clamp(p, max=math.exp(-1e-6))
                total = total - torch.log(p if carried else 1 - wrong)
                costs += [-torch.log(paths[label])] if carried else []
            path_cost = path_cost + (sum(costs) / len(costs) if costs else 0.0)
        path_cost = path_cost / len(rows)
        return total / len(rows) + weight * path_cost, path_cost


def record(table):
    """Note gradients in a dense matrix and a bias vector instead of keeping them for `step`."""
    gradient, bias = torch.zeros(table.weight.shape), torch.zeros(table.weight.shape[0])

    def note(batch, vectors):
        indptr, indices, data = (part.cpu() for part in batch)
        rows = torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff())
        gradient.index_add_(0, indices.long(), data[:, None] * vectors.detach().cpu()[rows])
        bias.index_add_(0, indices.long(), data)

    table.note = note
    return gradient, bias


@engines
@pytest.mark.parametrize("learn", [False, True], ids=["stage 1", "stage 2"])
@given(
    seed=st.integers(0, 2**31 - 1),
    beam_width=st.integers(1, 6),
    alpha=st.sampled_from([0.8, 1.5, 10.0]),
    weight=st.sampled_from([0.0, 0.7]),
)
def test_loss_and_gradients_against_dense_matrices(
    device, engine, learn, seed, beam_width, alpha, weight
):
    objective = make_objective(seed, learn=learn, device=device, engine=engine, alpha=alpha,
                               beam_width=beam_width, lambda_shortlist=weight)  # fmt: skip
    dense, model, index = Dense(objective), objective.module, objective.module.index
    rows = np.array([5, 0, 1, 3])
    tables = record(model.encoder.table), record(model.head.rows)
    loss, extra = objective.loss(rows)
    loss.backward()
    expected, path_cost = dense.loss(rows, beam_width, weight)
    expected.backward()
    close = {"rtol": 2e-4, "atol": 2e-5}
    np.testing.assert_allclose(loss.item(), expected.item(), **close)
    np.testing.assert_allclose(extra["path_loss"].item(), float(path_cost.detach()), **close)
    pairs = [
        (index.clusters.weight.grad, dense.clusters.grad),
        (index.clusters.bias.grad, dense.bias.grad),
        (tables[0][0], dense.table.grad),
        (tables[1][0], dense.labels.grad),
        (tables[1][1], dense.label_bias.grad),
    ]
    if learn:
        pairs.append((index.edge_logits.grad, dense.logits.grad))
        assert not index.edge_logits.grad[index.edges < 0].any()
    for got, wanted in pairs:
        np.testing.assert_allclose(got.cpu(), wanted, **close)


def gradients_of(objective):
    """Loss, scalars and all gradients of one step."""
    model, index = objective.module, objective.module.index
    tables = record(model.encoder.table), record(model.head.rows)
    loss, extra = objective.loss(np.arange(objective.Y.shape[0]))
    loss.backward()
    found = [loss, *extra.values(), *tables[0], *tables[1]]
    return found + [parameter.grad for parameter in index.parameters()]


@pytest.mark.parametrize("learn", [False, True], ids=["stage 1", "stage 2"])
@pytest.mark.parametrize("size", [3, 99])
@pytest.mark.parametrize("seed", range(5))
def test_engines_agree_also_where_shortlists_are_padded(learn, size, seed, monkeypatch):
    """Of few places and of more than there are labels; padded as on an accelerator."""

    def step(engine):
        return gradients_of(make_objective(seed, learn=learn, engine=engine, shortlist_size=size))

    expected, padded = step(elias_numba), []

    def pad(*found):
        padded.append(shortlist._pad(*found))
        return padded[-1]

    monkeypatch.setattr(shortlist, "_compress", pad)
    for got, wanted in zip(step(elias_torch), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    assert size == 3 or not padded[0].found.all()


def test_the_gradient_is_that_of_what_the_loss_goes_into():
    objectives = [make_objective(2, learn=True) for _ in range(2)]
    gradients = []
    for objective, factor in zip(objectives, (1.0, -2.5), strict=True):
        (factor * objective.loss(np.arange(6))[0]).backward()
        gradients.append([parameter.grad for parameter in objective.module.index.parameters()])
    for one, scaled in zip(*gradients, strict=True):
        torch.testing.assert_close(-2.5 * one, scaled)


def test_clusters_taught_by_some_rows_learn_the_same_on_average(monkeypatch):
    def step(rows):
        objective = make_objective(2, learn=True)
        loss = objective.loss(rows)[0]
        loss.backward()
        clusters = objective.module.index.clusters
        return loss.item(), clusters.weight.grad, clusters.bias.grad

    rows = np.arange(6)
    expected = step(rows)
    monkeypatch.setattr(elias_model, "_CLUSTER_SCORES", 2 * 4)  # 2 rows, 4 clusters
    found = [step(np.roll(rows, 2 * turn)) for turn in range(3)]
    assert [loss for loss, *_ in found] == pytest.approx([expected[0]] * 3)
    for part in (1, 2):
        assert not torch.allclose(found[0][part], expected[part])
        mean = sum(one[part] for one in found) / 3
        torch.testing.assert_close(mean, expected[part], rtol=1e-5, atol=1e-6)


def beam_of(objective, rows):
    index, rates = objective.module.index, objective.rates
    pattern = pattern_of(objective.Y, rows)
    with torch.no_grad():
        inputs = objective.module.encoder.collate(objective.data, rows, objective.device)
        logits = index.logits(objective.module.encoder(inputs))
    if objective.engine is elias_numba:
        runs = logits[:1], logits[1:]
        beams, recall = elias_numba._follow(
            runs, pattern, objective.parents, rates.beam_width, index.alpha
        )
        beam = beams.clusters
    else:
        beam, recall = elias_torch._beam(
            torch.log_softmax(logits, dim=1), pattern.on(objective.device),
            int(pattern.lengths().max()), objective.parents, rates.beam_width,
        )  # fmt: skip
    lists = [[cluster for cluster in row if cluster >= 0] for row in beam.tolist()]
    assert all(sorted(set(row)) == row for row in lists), "a cluster twice in a beam"
    return lists, float(recall)


@engines
@given(seed=st.integers(0, 2**31 - 1), beam_width=st.integers(1, 6), learn=st.booleans())
def test_the_beam_holds_the_best_clusters_and_all_parents(device, engine, seed, beam_width, learn):
    objective = make_objective(seed, learn=learn, device=device, engine=engine, alpha=9,
                               beam_width=beam_width)  # fmt: skip
    rows = np.arange(6)
    lists, recall = beam_of(objective, rows)
    best, parents = Dense(objective).beams(rows, beam_width)
    assert [set(row) for row in lists] == [b | p for b, p in zip(best, parents, strict=True)]
    labels = objective.Y.toarray() > 0
    parent_of = objective.parents.tolist()
    hits = [parent_of[label] in best[i] for i, label in np.argwhere(labels)]
    assert recall == pytest.approx(np.mean(hits) if hits else 1.0, abs=1e-6)


def test_beam_recall_by_hand():
    objective = make_objective(0, learn=False, alpha=0.9, beam_width=1)
    with torch.no_grad():
        for parameter in objective.module.index.clusters.parameters():
            parameter.zero_()
        objective.module.index.clusters.bias.copy_(torch.tensor([0.0, 3.0, 1.0, 2.0]))
    # every row's beam is cluster 1, which holds labels 2 and 3
    objective.Y = as_csr(np.array([[0, 0, 1, 0, 0, 0, 0], [0] * 7, [1, 0, 1, 1, 0, 0, 1]]))
    objective.data = objective.data[:3]
    _, extra = objective.loss(np.arange(3))
    assert extra["beam_recall"].item() == pytest.approx(3 / 5)
    lists, _ = beam_of(objective, np.arange(3))
    assert lists == [[1], [1], [0, 1, 3]]


@pytest.mark.parametrize("learn", [False, True])
def test_rows_without_labels_or_features(learn):
    objective = make_objective(0, learn=learn)
    objective.Y = sp.csr_array(objective.Y.shape, dtype=np.float32)
    objective.data = sp.csr_array(objective.data.shape, dtype=np.float32)
    loss, extra = objective.loss(np.arange(4))
    loss.backward()
    assert extra["path_loss"].item() == 0
    assert extra["beam_recall"].item() == 1
    expected = Dense(objective).loss(np.arange(4), 2, 0.0)[0]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_positives_stay_in_a_shortlist_that_is_too_small_for_the_rest():
    """Shortlist of three labels, two of them carried: the last place goes to the best other."""
    objective = make_objective(3, learn=True, alpha=0.9, beam_width=4, shortlist_size=3)
    objective.Y = as_csr(np.tile([0, 0, 0, 0, 1, 0, 1], (6, 1)))
    dense = Dense(objective)
    rows = np.arange(6)
    embeddings, _, scores = dense.scores(rows)
    paths = (scores[:, :, None] * dense.weights()).max(dim=1).values.detach()
    final = paths * torch.sigmoid(embeddings @ dense.labels.T + dense.label_bias).detach()
    paths[:, [4, 6]] = -1
    other = paths.argmax(dim=1)
    costs = -final[:, [4, 6]].log().sum(dim=1) - (1 - final[rows, other]).log()
    loss, extra = objective.loss(rows)
    expected = costs.mean().item() + 0.7 * extra["path_loss"].item()
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_parents_follow_the_edge_weights_when_refreshed():
    objective = make_objective(1, learn=True)
    edges, logits = objective.module.index.edges, objective.module.index.edge_logits
    with torch.no_grad():
        logits.zero_()
        logits[edges == 0] = torch.tensor([-3.0, 3.0])  # label 0 lies in clusters 0 and 1
    objective.refresh_parents()
    assert int(objective.parents[0]) == 1
    with torch.no_grad():
        logits[edges == 0] = torch.tensor([3.0, -3.0])
    assert int(objective.parents[0]) == 1
    objective.refresh_parents()
    assert int(objective.parents[0]) == 0
    assert objective.parents[[1, 3, 4, 6]].tolist() == [0, 1, 2, 3]


def test_dropout_and_exploration_draw_from_seeded_generators():
    def losses(seed, **changes):
        torch.manual_seed(seed)
        objective = make_objective(0, learn=True, **changes)
        return [objective.loss(np.arange(6))[0].item() for _ in range(3)]

    for changes in (
        {"dropout": 0.4},
        {"exploration": 1.0, "shortlist_size": 4, "beam_width": 4},
    ):
        assert losses(1, **changes) == losses(1, **changes)
        assert losses(1, **changes) != losses(2, **changes)
        assert len(set(losses(1, **changes))) == 3


def noisy_keys(engine, index, seed):
    """Keys of all clusters' edges, after the draw of one step."""
    log_weights = index.log_weights().detach()
    if engine is elias_torch:
        return elias_torch._explored(log_weights, index.edges, 7, seed, 1.0)
    edges = elias_numba._Edges(np.arange(4), log_weights.numpy(), None)
    keys = torch.from_numpy(elias_numba._explored(index, edges, seed, 1.0)[0])
    return keys.masked_fill(index.edges < 0, -torch.inf)  # nobody reads padding


@pytest.mark.parametrize("engine", [elias_numba, elias_torch])
def test_shortlists_are_drawn_in_proportion_to_paths_and_alike_for_all_rows(engine):
    index = make_objective(0, learn=True).module.index
    edges, log_weights = index.edges, index.log_weights().detach()
    row, n_draws = 0, 4000  # labels 0, 1 and 5, each at one place of the row
    shares = log_weights[row].exp() / log_weights[row].exp().sum()
    wins, agree = torch.zeros(3), []
    for seed in np.random.default_rng(0).integers(0, 2**31 - 1, n_draws):
        noisy = noisy_keys(engine, index, int(seed))
        assert torch.equal(torch.isinf(noisy), edges < 0)
        wins[noisy[row].argmax()] += 1
        noise = noisy - log_weights
        agree.append(noise[0, 0] - noise[1, 2])  # label 0, in clusters 0 and 1
    torch.testing.assert_close(wins / n_draws, shares, atol=0.03, rtol=0)
    assert torch.stack(agree).abs().max() < 1e-4


def test_draws_of_labels_and_of_steps_are_independent():
    index = make_objective(0, learn=True).module.index
    weights = torch.zeros(1, 4000)
    index.edges, index.fixed_log_weights = torch.arange(4000, dtype=torch.int32)[None], weights
    edges = elias_numba._Edges(np.zeros(1, np.int64), weights.numpy(), None)
    draws = np.stack([elias_numba._explored(index, edges, seed, 1.0)[0][0] for seed in range(40)])
    # mean and variance of the Gumbel distribution
    assert draws.mean() == pytest.approx(np.euler_gamma, abs=0.02)
    assert draws.var() == pytest.approx(math.pi**2 / 6, abs=0.05)
    for other in (np.roll(draws, 1, axis=0), np.roll(draws, 1, axis=1)):
        assert abs(np.corrcoef(draws.ravel(), other.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("learn", [False, True])
def test_every_dense_parameter_is_in_one_group(learn):
    objective = make_objective(0, learn=learn)
    groups = objective.parameter_groups()
    grouped = [id(p) for group in groups for p in group["params"] if p.numel()]
    wanted = [id(p) for p in objective.module.parameters() if p.numel()]
    assert sorted(grouped) == sorted(wanted)
    assert [group["lr"] for group in groups] == [0.1, 0.2, 0.3][: 2 + learn]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.01, 0.0][: 2 + learn]
    assert objective.table_factor == 0.5


@pytest.mark.parametrize("learn", [False, True])
def test_a_frozen_model_searches_what_was_trained(learn):
    objective = make_objective(4, learn=learn)
    dense, rows = Dense(objective), np.arange(6)
    embeddings, _, scores = dense.scores(rows)
    paths = (scores[:, :, None] * dense.weights()).max(dim=1).values
    final = (paths * torch.sigmoid(embeddings @ dense.labels.T + dense.label_bias)).detach()
    got = search_topk(freeze(objective.module), embeddings.detach().float().numpy(), 3,
                      beam_width=4, shortlist_size=7)  # fmt: skip
    best = torch.topk(final, 3, dim=1)
    np.testing.assert_array_equal(got.indices, best.indices)
    np.testing.assert_allclose(got.scores, best.values, rtol=1e-4)  # label vectors have 16 bits
