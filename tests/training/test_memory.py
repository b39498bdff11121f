"""Estimates of memory against what is really allocated, and refusals that say what to lower."""

import gc
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skxmc import EliasClassifier, SNMClassifier, _sparse
from skxmc._sparse import as_csr
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords
from skxmc.encoders.base import build_encoder
from skxmc.encoders.size import EncoderSize, encoder_size
from skxmc.heads import SparseRanker
from skxmc.index import label_centroids
from skxmc.ops.row_table import CsrBatch, RowTable, table_bytes
from skxmc.topk import TopK
from skxmc.training import elias_stages, loop, memory
from skxmc.training.elias_sizes import elias_needs, trains_ranker
from skxmc.training.elias_stages import EliasTraining
from skxmc.training.memory import (
    GIB,
    Need,
    available_memory,
    check_memory,
    shared_needs,
    total,
)

from . import stage_2_memory
from .stage_2_memory import NOT_HERE, SHAPES

CPU = torch.device("cpu")
X, Y = make_xmc_classification(
    n_samples=600, n_features=500, n_labels=300, n_labels_per_row=3.0, random_state=0
)
X = X.astype(np.float32)
Y = sp.csr_array(Y, dtype=np.float32)


def tensor_bytes(tensors):
    """Bytes of distinct tensors."""
    found = {t.data_ptr(): t.numel() * t.element_size() for t in tensors if t.numel()}
    return sum(found.values())


def need(needs, what):
    (found,) = [n for n in needs if n.what.startswith(what)]
    return found.n_bytes


# --- parts


@pytest.mark.parametrize("bias", [None, torch.zeros(70)])
def test_table_bytes_are_those_of_a_table_that_has_trained(bias):
    table = RowTable(torch.randn(70, 12), bias=bias)
    batch = CsrBatch(torch.tensor([0, 2]), torch.tensor([1, 5]))
    table.dot(torch.randn(1, 12), batch).sum().backward()
    table.step()
    held = tensor_bytes([table.weight, table.bias, *table._state.values()])
    assert held == table_bytes(70, 12)


def test_size_of_an_encoder_is_what_it_holds():
    recipe = BagOfWords(embedding_dim=24, n_layers=2)
    size = encoder_size(recipe, X)
    encoder = recipe.build(X, np.random.RandomState(0))
    rows = encoder.prepare(X)
    batch = encoder.collate(rows, np.arange(5), CPU)
    optimizer = torch.optim.AdamW(list(encoder.layers.parameters()))
    encoder(batch).square().sum().backward()
    encoder.table.step()
    optimizer.step()
    dense = list(encoder.layers.parameters())
    held = [*dense, *(p.grad for p in dense)]
    held += [t for state in optimizer.state.values() for t in state.values() if t.ndim]
    held += [encoder.table.weight, encoder.table.bias, *encoder.table._state.values()]
    assert size.embedding_dim == encoder.embedding_dim
    # AdamW counts its steps in a float of each parameter's own
    assert size.training == pytest.approx(tensor_bytes(held), rel=0.01)
    assert size.rows == rows.data.nbytes


@pytest.mark.parametrize("init", ["svd", "random"])
@pytest.mark.parametrize(("n_rows", "n_features"), [(900, 3000), (3000, 900)])
def test_start_of_a_table_by_the_allocator(init, n_rows, n_features):
    """numpy reports all it allocates, LAPACK's work space among it."""
    rows = sp.random_array(
        (n_rows, n_features), density=0.01, rng=np.random.default_rng(0), format="csr"
    ).astype(np.float32)
    recipe = BagOfWords(embedding_dim=64, init=init)
    recipe.build(rows, np.random.RandomState(0))  # imports and caches
    gc.collect()
    tracemalloc.start()
    recipe.build(rows, np.random.RandomState(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = encoder_size(recipe, rows)
    estimate = size.start + table_bytes(n_features, 64)
    assert 0.8 < estimate / peak < 1.5


def test_size_of_modules_of_ones_own():
    module = nn.Sequential(nn.Linear(500, 8), nn.ReLU(), nn.Linear(8, 4))
    module[0].weight.requires_grad_(False)
    size = encoder_size(module, X.toarray())
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert size == (4, 16 * trained + 4 * 500 * 8, 0, 0)
    assert module.training, "left in its mode"

    class Recipe:
        def build(self, X, random_state):
            return nn.Identity()

    assert encoder_size(Recipe(), X) is None


def test_centroids_by_the_allocator(monkeypatch):
    monkeypatch.setattr(_sparse, "_ENTRIES_AT_ONCE", 1000)
    model = EliasClassifier(BagOfWords(16), max_leaf=20)
    needs = EliasTraining(model, np.random.RandomState(0), CPU).needs(X, Y)
    label_centroids(X, Y)
    tracemalloc.start()
    label_centroids(X, Y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.8 < need(needs, "centroids of the labels") / peak < 1.5


def measurements(seed=0):
    return np.random.default_rng(seed).normal(size=X.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("ranker", "rows", "counted"),
    [
        ("auto", X, True),
        ("auto", X.toarray(), True),
        ("auto", measurements(), False),
        ("auto", ["some words"] * X.shape[0], False),
        (SparseRanker(), measurements(), True),
        (None, X, False),
    ],
)
def test_ranker_is_counted_where_one_is_trained(ranker, rows, counted):
    model = EliasClassifier(ranker=ranker)
    needs = elias_needs(model, rows, Y, EncoderSize(16, 0), CPU)
    assert trains_ranker(ranker, rows) == counted
    assert (need(needs, "ranker") > 0) == counted


@pytest.mark.parametrize("n_labels", [300, 4000])
@pytest.mark.parametrize("dense", [False, True])
def test_ranker_by_the_allocator(n_labels, dense):
    """About half of the features of a label's rows keep a weight; how many, depends on the data."""
    rows, truth = make_xmc_classification(
        n_samples=2000, n_features=3000, n_labels=n_labels, n_labels_per_row=4.0, random_state=0
    )
    rows, truth = as_csr(rows), as_csr(truth)
    rows = rows.toarray() if dense else rows
    rng = np.random.default_rng(0)
    found = np.argsort(rng.random((2000, 300), np.float32), axis=1)[:, :50]
    found = TopK(found, np.ones(found.shape, np.float32))
    ranker = SparseRanker(n_random=20, max_iter=3, random_state=0)
    ranker.fit(rows, truth, found)
    needs = elias_needs(EliasClassifier(ranker=ranker), rows, truth, EncoderSize(16, 0), CPU)
    gc.collect()
    tracemalloc.start()
    ranker.fit(rows, truth, found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.8 < need(needs, "ranker") / peak < 1.5


# --- stage 2, whose arrays are numpy's, torch's and Numba's: by what the system hands out


@pytest.mark.parametrize("name", SHAPES)
def test_stage_2_by_the_system(name):
    command = [sys.executable, stage_2_memory.__file__, name]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode == NOT_HERE:
        pytest.skip("needs Linux with glibc")
    assert ran.returncode == 0, ran.stderr
    for part, ratio in json.loads(ran.stdout).items():
        assert 0.6 < ratio < 1.6, part  # pages that the system hands out are no exact measure


# --- a whole fit


class FitSpy:
    """Looks at everything a stage holds at its end."""

    def __init__(self, monkeypatch, module):
        self.held = {}
        make, run_stage = loop._dense_optimizer, module.run_stage
        optimizers = []
        monkeypatch.setattr(
            loop, "_dense_optimizer", lambda o: optimizers.append(make(o)) or optimizers[-1]
        )

        def spy(title, objective, *args):
            records = run_stage(title, objective, *args)
            model = objective.module
            head, index = model.head.rows, model.index
            self.held["label"] = tensor_bytes([head.weight, head.bias, *head._state.values()])
            state = optimizers[-1].state
            clusters = list(index.clusters.parameters())
            moments = [t for p in clusters for t in state[p].values() if t.ndim]
            self.held["cluster"] = tensor_bytes([*clusters, *(p.grad for p in clusters), *moments])
            if index.edge_logits is not None:
                logits = index.edge_logits
                moments = [t for t in state[logits].values() if t.ndim]
                self.held["edges"] = tensor_bytes([logits, logits.grad, index.edges, *moments])
            return records

        monkeypatch.setattr(module, "run_stage", spy)


def test_estimate_of_elias_against_all_that_training_holds(monkeypatch):
    spy = FitSpy(monkeypatch, elias_stages)
    model = EliasClassifier(
        BagOfWords(embedding_dim=24),
        max_leaf=20,
        kappa=60,
        stage1_epochs=1,
        stage2_epochs=1,
        random_state=0,
    )
    needs = EliasTraining(model, np.random.RandomState(0), CPU).needs(X, Y)
    model.fit(X, Y)
    assert need(needs, "label vectors") == spy.held["label"]
    assert need(needs, "cluster layer") == spy.held["cluster"]
    # kappa is a bound: the fullest cluster may have fewer labels to lead to
    assert 0.7 < spy.held["edges"] / need(needs, "edges of the graph") <= 1


def test_early_stopping_needs_a_copy_of_the_weights():
    recipe = BagOfWords(embedding_dim=24)
    size = encoder_size(recipe, X)
    plain = shared_needs(X, Y, size, 0.0)
    more = shared_needs(X, Y, size, 0.1)
    assert more[: len(plain)] == plain
    encoder = build_encoder(recipe, X, np.random.RandomState(0))
    weights = sum(t.numel() * 4 for t in encoder.state_dict().values())
    assert need(more, "copy of the best epoch") >= weights + 4 * 300 * 24
    assert need(more, "rows split") == sum(
        a.nbytes for m in (X, Y) for a in (m.data, m.indices, m.indptr)
    )


@pytest.mark.parametrize("make", [EliasClassifier, SNMClassifier])
@pytest.mark.parametrize("name", ["embedding_dim", "rows", "labels"])
def test_more_needs_more(make, name):
    def needed(width=16, X=X, Y=Y):
        model = make(BagOfWords(width))
        return total(model._training(np.random.RandomState(0), CPU).needs(X, Y))

    larger = {
        "embedding_dim": {"width": 64},
        "rows": {"X": sp.vstack([X] * 40, format="csr"), "Y": sp.vstack([Y] * 40, format="csr")},
        "labels": {"Y": sp.hstack([Y] * 4, format="csr")},
    }
    assert needed(**larger[name]) > needed()


# --- refusals

NEEDS = [
    Need("label vectors", 6 * GIB, "a smaller embedding_dim"),
    Need("clustering", 1 * GIB, "fewer features", passing=True, host=True),
    Need("step", 2 * GIB, "a smaller batch_size", passing=True),
    Need("rows", 1 * GIB, host=True),
]


def test_total_counts_the_largest_phase_once():
    assert total(NEEDS) == 9 * GIB
    assert total([]) == 0


@pytest.mark.parametrize("limit", [8.9, 1])
def test_more_than_the_limit(limit):
    with pytest.raises(MemoryError) as info:
        check_memory(EliasClassifier(), NEEDS, limit, CPU)
    message = str(info.value)
    assert f"EliasClassifier: fit needs about 9.00 GiB of memory, memory_limit is {limit} GiB" in (
        message
    )
    assert "6.00  label vectors\n" in message
    assert "2.00  step (for a while)\n" in message
    assert "What helps most is a smaller embedding_dim, for the label vectors" in message
    assert "set it to None" in message


def test_within_the_limit():
    text = check_memory(EliasClassifier(), NEEDS, 9, CPU)
    assert text.splitlines()[1:] == [
        "      6.00  label vectors",
        "      1.00  rows",
        "      2.00  step (for a while)",
        "      1.00  clustering (for a while)",
    ]


@pytest.mark.parametrize(("gib", "refused"), [(8, False), (7, True), (None, False)])
def test_auto_refuses_what_clearly_exceeds_the_available(monkeypatch, gib, refused):
    monkeypatch.setattr(memory, "available_memory", lambda: gib and gib * GIB)
    if refused:
        with pytest.raises(MemoryError, match=r"7\.00 GiB are available"):
            check_memory(EliasClassifier(), NEEDS, "auto", CPU)
    else:
        assert "9.00 GiB" in check_memory(EliasClassifier(), NEEDS, "auto", CPU)
    assert "9.00 GiB" in check_memory(EliasClassifier(), NEEDS, None, CPU)


def test_an_accelerator_has_a_memory_of_its_own():
    check_memory(EliasClassifier(), NEEDS, 8, torch.device("meta"))
    with pytest.raises(MemoryError, match=r"8\.00 GiB of memory of meta"):
        check_memory(EliasClassifier(), NEEDS, 7, torch.device("meta"))
    with pytest.raises(MemoryError, match=r"2\.00 GiB of main memory"):
        check_memory(EliasClassifier(), NEEDS, 1.5, torch.device("meta"))


@pytest.mark.parametrize("make", [EliasClassifier, SNMClassifier])
def test_fit_refuses_before_it_starts(make, monkeypatch):
    model = make(BagOfWords(16), memory_limit=1e-6)
    monkeypatch.setattr(BagOfWords, "build", None)
    with pytest.raises(MemoryError, match=f"{make.__name__}: fit needs about"):
        model.fit(X, Y)
    assert not hasattr(model, "classes_")


@pytest.mark.parametrize("make", [EliasClassifier, SNMClassifier])
def test_fit_shows_the_estimate(make, capsys):
    epochs = {"stage1_epochs": 1, "stage2_epochs": 0} if make is EliasClassifier else {}
    epochs = epochs or {"max_epochs": 1}
    make(BagOfWords(16), verbose=1, **epochs).fit(X, Y)
    assert f"{make.__name__}: fit needs about 0.00 GiB" in capsys.readouterr().err
    make(BagOfWords(16), **epochs).fit(X, Y)
    assert capsys.readouterr() == ("", "")


# --- what is available


def test_available_memory_of_the_machine(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  900 kB\nMemAvailable:  500 kB\nHugePages_Total:  0\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_CGROUPS", ())
    assert available_memory() == 500 * 1024
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert available_memory() is None


@pytest.mark.parametrize(
    ("bound", "expected"), [("1000000", 1000000 - 700000 + 50000), ("max", 512000)]
)
def test_available_memory_of_a_container(tmp_path, monkeypatch, bound, expected):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable:  500 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    for _, *names in memory._CGROUPS:
        folder = tmp_path / names[0]
        folder.mkdir()
        (folder / names[0]).write_text(f"{bound}\n")
        (folder / names[1]).write_text("700000\n")
        (folder / "memory.stat").write_text(f"anon 5\n{names[2]} 50000\n")
        monkeypatch.setattr(memory, "_CGROUPS", ((folder, *names),))
        assert available_memory() == expected
