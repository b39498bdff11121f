"""How the cost of a search grows with the number of labels, from 4 k to 1 M; no training.

    python benchmarks/bench_search_scaling.py [--labels 4000 32000 ...] [--rows 512]

Label vectors are a hierarchy of Gaussians: clusters of 64 labels around centres that lie around
centres of their own. A cluster leads to its labels and to as many others nearby. Rows are noisy
labels. The table shows CPU time a row on one thread: of the search in batches and on single rows,
with every cluster scored in full ("flat"), with int8 labels, of torch on all labels and of the
exhaustive search; then what bytes of clusters and int8 labels lose against the flat search, and
what loading by memory map and the first query cost in a new process. Below it stands the exponent
of cost against labels.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import torch
from common import describe_machine, print_table, save

from skxmc.search.beam import search_topk, warm_up
from skxmc.search.clusters import _kernels as clusters
from skxmc.search.exhaustive import exhaustive_topk
from skxmc.search.graph import SearchGraph

WIDTH = 256
LEAF = 64
K = 5
BEAM = {"beam_width": 20}
EXHAUSTIVE_ROWS = 8
FIRST_QUERY = """
import sys, time
import numpy as np
from skxmc.search.beam import search_topk
from skxmc.search.graph import SearchGraph
row = np.load(sys.argv[2])
start = time.process_time()
graph = SearchGraph.load(sys.argv[1])
search_topk(graph, row, 5, beam_width=20)
print(1000 * (time.process_time() - start))
"""


def make_graph(n_labels: int, rng) -> tuple[SearchGraph, np.ndarray]:
    """Return a graph and its label vectors' clusters, a power of two of them."""
    n_clusters = 2 ** max(0, round(np.log2(n_labels / LEAF)))
    centres = np.zeros((1, WIDTH), np.float32)
    while len(centres) < n_clusters:  # each level splits in two, ever closer together
        step = rng.normal(size=(2 * len(centres), WIDTH)).astype(np.float32)
        centres = np.repeat(centres, 2, axis=0) + step * np.float32(0.9 ** np.log2(len(step)))
    cluster = np.sort(np.arange(n_labels) % n_clusters)
    labels = rng.standard_normal((n_labels, WIDTH), dtype=np.float32)
    labels += centres[cluster]
    norms = np.linalg.norm(labels, axis=1, keepdims=True)
    labels *= 8 / norms
    centres *= 8 / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    size = -(-n_labels // n_clusters)
    start = np.searchsorted(cluster, np.arange(n_clusters))[:, None]
    edges = ((start - size // 2 + np.arange(2 * size)) % n_labels).astype(np.int32)
    weights = -rng.exponential(size=edges.shape).astype(np.float32)
    bias = np.full(n_labels, -12, np.float32)
    no_bias = np.zeros(n_clusters, np.float32)
    return SearchGraph.from_padded(centres, no_bias, 10.0, edges, weights, labels, bias), labels


def cpu_us(work, n_rows: int, rounds: int = 3) -> float:
    """Best CPU time a row over some rounds, in microseconds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e6 * min(times) / n_rows


def overlap(found, expected) -> float:
    """Percentage of expected labels that were found."""
    return 100 * np.mean([np.isin(e, f).mean() for f, e in zip(found, expected, strict=True)])


def first_query_ms(graph: SearchGraph, row: np.ndarray) -> float:
    """CPU time of loading and one query, in a process of its own, after imports."""
    with tempfile.TemporaryDirectory() as folder:
        graph.save(Path(folder) / "model")
        np.save(Path(folder) / "row.npy", row)
        command = [sys.executable, "-c", FIRST_QUERY, f"{folder}/model", f"{folder}/row.npy"]
        return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def measure(n_labels: int, n_rows: int) -> dict:
    """Build a graph and measure everything on it."""
    rng = np.random.default_rng(0)
    graph, labels = make_graph(n_labels, rng)
    noise = rng.normal(size=(n_rows, WIDTH)).astype(np.float32) * np.float32(0.3)
    rows = labels[rng.integers(0, n_labels, n_rows)] * np.float32(0.5) + noise
    flat, small = replace(graph), graph.reduced()

    def search(g, part=rows):
        return search_topk(g, part, K, **BEAM)

    bytes_from, clusters.BYTES_FROM = clusters.BYTES_FROM, sys.maxsize
    search(flat)  # the memory for its searches is made now, with places for all clusters
    clusters.BYTES_FROM = bytes_from
    tops = {name: search(g) for name, g in (("own", graph), ("flat", flat), ("int8", small))}
    few = rows[:EXHAUSTIVE_ROWS]
    weight = torch.from_numpy(labels)
    return {
        "labels": n_labels,
        "clusters": graph.n_clusters,
        "batch us": cpu_us(lambda: search(graph), n_rows),
        "single us": cpu_us(lambda: [search(graph, row[None]) for row in rows[:200]], 200),
        "flat us": cpu_us(lambda: search(flat), n_rows),
        "flat single us": cpu_us(lambda: [search(flat, row[None]) for row in rows[:50]], 50),
        "int8 us": cpu_us(lambda: search(small), n_rows),
        "torch us": cpu_us(lambda: (torch.from_numpy(few) @ weight.T).topk(K), len(few), 1),
        "exhaustive us": cpu_us(
            lambda: exhaustive_topk(few, labels, graph.label_bias, K), len(few), 1
        ),
        "own/flat %": overlap(tops["own"].indices, tops["flat"].indices),
        "int8/int16 %": overlap(tops["int8"].indices, tops["own"].indices),
        "int16 MB": graph.label_weight.nbytes / 2**20,
        "int8 MB": small.label_weight.nbytes / 2**20,
        "codes MB": graph.label_codes.nbytes / 2**20,
        "first ms": first_query_ms(graph, rows[:1]),
    }


def exponent(rows: list[dict], column: str) -> float:
    """Slope of log cost against log labels."""
    logs = np.log([[row["labels"], row[column]] for row in rows])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def main() -> None:
    """Run over the sizes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sizes = [4_000, 16_000, 64_000, 256_000, 1_000_000]
    parser.add_argument("--labels", type=int, nargs="+", default=sizes)
    parser.add_argument("--rows", type=int, default=512)
    options = parser.parse_args()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    warm_up()
    bias = np.zeros(2, np.float32)
    bias.flags.writeable = False  # as a graph's is: Numba compiles for that
    exhaustive_topk(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), bias, 1)
    rows = []
    for n_labels in options.labels:
        rows.append(measure(n_labels, options.rows))
        print_table(rows[-1:])
    exponents = {}
    if len(rows) > 1:
        exponents = {name: exponent(rows, name) for name in rows[0] if name.endswith(" us")}
    print_table(rows)
    for name, value in {**exponents, **describe_machine()}.items():
        print(f"{name}: {value if isinstance(value, str) else round(value, 3)}")
    print("written:", save("search_scaling", {"rows": rows, "exponents": exponents}).name)


if __name__ == "__main__":
    main()
