"""Measure what stage 2 takes against its estimate: `python stage_2_memory.py SHAPE` prints ratios.

A process of its own: what another test has left behind in malloc's lists would be used up unseen.
"""

import copy
import ctypes
import gc
import json
import sys
from pathlib import Path

import numba
import numpy as np
import scipy.sparse as sp
import torch

from skxmc import EliasClassifier
from skxmc._sparse import as_csr
from skxmc.encoders import BagOfWords
from skxmc.heads import LabelHead
from skxmc.index import ClusterIndex, partition_adjacency
from skxmc.training import loop
from skxmc.training.elias import EliasModel, EliasObjective
from skxmc.training.elias_sizes import resolve_clusters
from skxmc.training.elias_stages import EliasTraining

CPU = torch.device("cpu")
# exit code where memory cannot be measured so
NOT_HERE = 77
SHAPES = {
    "many clusters": {"n_labels": 32768, "max_leaf": 8, "kappa": 16, "batch_size": 2048},
    "many edges": {"n_labels": 40000, "max_leaf": 100, "kappa": 4000, "batch_size": 64},
    "long shortlists": {
        "n_labels": 20000,
        "max_leaf": 100,
        "train_shortlist_size": 1024,
        "batch_size": 1024,
    },
}


def need(needs, what):
    """Bytes of the part of an estimate that begins so."""
    (found,) = [n for n in needs if n.what.startswith(what)]
    return found.n_bytes


def peak_of(function):
    """Largest resident memory beyond what there was before, with glibc told to keep nothing."""
    status = Path("/proc/self/status")

    def read(name):
        (line,) = [line for line in status.read_text().splitlines() if line.startswith(name)]
        return 1024 * int(line.split()[1])

    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**16)  # M_MMAP_THRESHOLD
        gc.collect()
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        sys.exit(NOT_HERE)
    before = read("VmRSS")
    function()
    return read("VmHWM") - before


def measure(name):
    """Return estimates divided by peaks."""
    sizes = dict(SHAPES[name])
    n_rows, n_labels = 6000, sizes.pop("n_labels")
    rng = np.random.default_rng(0)
    rows = as_csr(sp.random_array((n_rows, 500), density=0.02, rng=rng, dtype=np.float32))
    labels = np.sort(rng.integers(0, n_labels, (n_rows, 8)), axis=1)
    truth = sp.csr_array((np.ones(labels.size), labels.ravel(), 8 * np.arange(n_rows + 1)))
    truth = as_csr(sp.csr_array((truth.data, truth.indices, truth.indptr), (n_rows, n_labels)))
    model = EliasClassifier(BagOfWords(16, init="random"), random_state=0, **sizes)
    training = EliasTraining(model, np.random.RandomState(0), CPU)
    needs = training.needs(rows, truth)
    n_clusters = resolve_clusters(model, n_labels)
    index = ClusterIndex(
        16, partition_adjacency(rng.permutation(n_labels) % n_clusters, n_clusters), alpha=10.0
    )
    torch.nn.init.normal_(index.clusters.weight)  # rows go to all clusters
    encoder = model.encoder.build(rows, np.random.RandomState(0))
    parts = EliasModel(encoder, index, LabelHead(torch.zeros(n_labels), 16, lr=0.1))
    data = encoder.prepare(rows)
    training._open_graph(copy.deepcopy(parts), data, truth)  # imports and caches
    peak = peak_of(lambda: training._open_graph(parts, data, truth))
    edges = 8 * index.edges.numel()  # logits and labels are counted elsewhere
    opening = need(needs, "opening of the graph") / (peak - edges)
    objective = EliasObjective(parts, data, truth, training._rates(0.3), CPU)
    optimizer = loop._dense_optimizer(objective)

    def step():
        objective.loss(np.arange(model.batch_size))[0].backward()
        optimizer.step()
        parts.head.rows.step()
        encoder.table.step()
        optimizer.zero_grad()

    step()
    step()
    gradients = 4 * sum(p.numel() for p in parts.index.parameters())
    estimate = need(needs, "step of stage 2") + gradients
    return {"opening": opening, "step": estimate / peak_of(step)}


if __name__ == "__main__":
    torch.set_num_threads(1)  # each thread has a little memory of its own
    numba.set_num_threads(1)
    sys.stdout.write(json.dumps(measure(sys.argv[1])))
