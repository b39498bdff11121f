"""What a shortlist's size, the first pass by codes and int8 labels cost and bring; compile times.

    python benchmarks/bench_search_sizes.py                    # the bundled data
    python benchmarks/bench_search_sizes.py FOLDER ...         # folders of X_train.npz, ...
    python benchmarks/bench_search_sizes.py --model M.joblib FOLDER   # a fitted estimator

A tenth of the training rows is held out, the default estimator is fitted on the rest (or taken from
a file, fitted on those rows) and asked for the held-out rows. "codes %" is the share of the best k
labels that are also found if every label of the shortlist is scored in full. Compile times are
CPU seconds of `warm_up` in processes of their own, without Numba's cache and with it.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import joblib
import numba
import numpy as np
from common import describe_machine, load_bundled, load_folder, print_table, save

from skxmc import EliasClassifier
from skxmc.metrics import evaluate_topk
from skxmc.search import beam
from skxmc.training.elias import freeze

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
    with mock.patch.object(beam, "SPARE", 10**6):
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


def compile_seconds(**environment: str) -> float:
    """CPU seconds of `warm_up` in a new process."""
    run = [sys.executable, "-c", WARM_UP]
    done = subprocess.run(
        run, env={**os.environ, **environment}, capture_output=True, check=True, text=True
    )
    return float(done.stdout)


def main() -> None:
    """Run on the folders named on the command line, or on the bundled data."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    numba.set_num_threads(1)
    beam.warm_up()
    compile_times = {
        "without cache": compile_seconds(SKXMC_NUMBA_CACHE="0"),
        "from cache": compile_seconds(),
    }
    rows = []
    for folder in options.folders or [None]:
        X, Y, *_ = load_bundled() if folder is None else load_folder(folder)
        X, Y, X_held, truth = split(X.tocsr(), Y.tocsr().astype(np.float32))
        if options.model is None:
            clf = EliasClassifier(n_jobs=1, random_state=0).fit(X, Y)
        else:
            clf = joblib.load(options.model)
        graph = freeze(clf.model_)
        for k in (5, 100):
            for g, sizes in ((graph, SIZES), (graph.reduced(), ("auto",))):
                for size in sizes:
                    found = measure(clf, g, X_held, truth, k, size)
                    rows.append({"data": folder.name if folder else "bundled", **found})
                    print_table(rows[-1:])
    print_table(rows)
    for name, value in {**compile_times, **describe_machine()}.items():
        print(f"{name}: {value}")
    print("written:", save("search_sizes", {"compile": compile_times, "rows": rows}).name)


if __name__ == "__main__":
    main()
