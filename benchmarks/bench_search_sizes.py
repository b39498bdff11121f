"""What a shortlist's size, the first pass by codes and int8 labels cost and bring; compile times.

    python benchmarks/bench_search_sizes.py                    # the bundled data
    python benchmarks/bench_search_sizes.py FOLDER ...         # folders of X_train.npz, ...
    python benchmarks/bench_search_sizes.py --model M.joblib FOLDER   # a fitted estimator

A tenth of the training rows is held out, the default estimator is fitted on the rest (or taken from
a file, fitted on those rows) and asked for the held-out rows. "codes %" is the share of the best k
labels that are also found if every label of the shortlist is scored in full; "table error" the
largest distance of a held-out row's embedding to that by float32 feature vectors, by its length.
Compile times are CPU seconds of `warm_up` in processes of their own: the first finds Numba's cache
empty, the second full.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import joblib
import numba
import numpy as np
from common import describe_machine, load_bundled, load_folder, print_table, save

from skxmc import EliasClassifier
from skxmc._sparse import as_csr
from skxmc.metrics import evaluate_topk
from skxmc.search import beam
from skxmc.search.fused._kernels import encode_rows

SIZES = (200, 500, "auto", 2000, 4000)
WARM_UP = """
import time
from skxmc.search.beam import warm_up
start = time.process_time()
warm_up()
print(time.process_time() - start)
"""


def split(X, Y):
    """Hold out a tenth of the rows, at most 5000, and labels that no other row has."""
    n_held = min(5000, X.shape[0] // 10)
    order = np.random.RandomState(0).permutation(X.shape[0])
    held, kept = np.sort(order[:n_held]), np.sort(order[n_held:])
    seen = np.asarray(Y[kept].sum(axis=0)).ravel() > 0
    truth = Y[held].multiply(seen[None]).tocsr()
    truth.eliminate_zeros()
    return X[kept], Y[kept], X[held], truth


def measure(clf, graph, X, truth, k: int, size) -> dict:
    """Search once with a size and the graph given, and measure speed and quality."""
    clf._frozen = graph
    start = time.process_time()
    top = clf.predict_topk(X, k=k, shortlist_size=size)
    seconds = time.process_time() - start
    with mock.patch.multiple(beam, SPARE=10**6, FEW=10**6):
        full = clf.predict_topk(X, k=k, shortlist_size=size)
    hits = [np.isin(a, b).mean() for a, b in zip(full.indices, top.indices, strict=True)]
    ks = (1, 3, 5) if k < 100 else (1, 3, 5, 100)
    found = evaluate_topk(truth, top, ks=ks, metrics=("precision", "recall"))
    return {
        "labels in": str(graph.label_weight.dtype),
        "k": k,
        "shortlist": str(size),
        "rows/CPU s": X.shape[0] / seconds,
        **{f"P@{j}": 100 * found[f"precision_at_{j}"] for j in (1, 3, 5)},
        "R@k": 100 * found[f"recall_at_{k}"],
        "codes %": 100 * float(np.mean(hits)),
    }


def compile_seconds() -> dict[str, float]:
    """CPU seconds of `warm_up` in new processes, with an empty cache and with a full one."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder, "SKXMC_NUMBA_CACHE": "1"}
        for name in ("empty cache", "full cache"):
            run = [sys.executable, "-c", WARM_UP]
            done = subprocess.run(run, env=environment, capture_output=True, check=True, text=True)
            found[f"warm_up CPU s, {name}"] = float(done.stdout)
    return found


def table_error(clf, graph, X) -> float:
    """Largest distance of embeddings by the graph's table to the encoder's own, by their length."""
    if graph.encoder is None:
        return float("nan")
    e, rows = graph.encoder, as_csr(X)
    rounded = np.empty((X.shape[0], graph.embedding_dim), np.float32)
    encode_rows(
        rows.indptr, rows.indices, rows.data, e.table, e.table_scale, e.column_scale, e.unit_rows,
        e.length, rounded,
    )  # fmt: skip
    exact = clf._embed(rows)
    return float(np.linalg.norm(rounded - exact, axis=1).max() / e.length)


def main() -> None:
    """Run on the folders named on the command line, or on the bundled data."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    numba.set_num_threads(1)
    beam.warm_up()
    facts = compile_seconds()
    rows = []
    for folder in options.folders or [None]:
        X, Y, *_ = load_bundled() if folder is None else load_folder(folder)
        X, Y, X_held, truth = split(X.tocsr(), Y.tocsr().astype(np.float32))
        if options.model is None:
            clf = EliasClassifier(n_jobs=1, random_state=0).fit(X, Y)
        else:
            clf = joblib.load(options.model)
        graph = clf.graph_
        facts[f"table error, {folder.name if folder else 'bundled'}"] = table_error(
            clf, graph, X_held
        )
        for k in (5, 100):
            for g, sizes in ((graph, SIZES), (graph.reduced(), ("auto",))):
                for size in sizes:
                    found = measure(clf, g, X_held, truth, k, size)
                    rows.append({"data": folder.name if folder else "bundled", **found})
                    print_table(rows[-1:])
    print_table(rows)
    for name, value in {**facts, **describe_machine()}.items():
        print(f"{name}: {value}")
    print("written:", save("search_sizes", {"facts": facts, "rows": rows}).name)


if __name__ == "__main__":
    main()
