"""Measures what a row costs in training at 670,000 labels, and how much memory fit takes.

Data are generated in memory with the statistics of Amazon-670K (490,449 rows, 135,909 features of
which a row has 76, 670,091 labels of which a row has 5.5, power laws for both), once with all
labels and once with 38,000, the other half of the ratio. Each `fit` is a real one, in a process of
its own, but for one thing: an epoch ends after `--steps` steps. The first epoch of a stage warms
up; of the others the median is reported, in CPU seconds a row. Peak memory is that of the whole
process: interpreter and libraries, data, start, clustering, training and the frozen model; beside
it stands what `fit` estimated.

What a row costs does not depend on how many there are, so `--rows 60000` shortens a run that asks
for nothing else; memory wants them all. `--threads 1 2` repeats everything with two threads and
wants an idle machine: the table then has the wall-clock ratio; with `--torch-threads 1` only Numba
gets the second one, and the two pools cannot get in each other's way. `--kmeans-rounds 1` shortens
the clustering, and not what it takes of memory.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from functools import partial
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp
import torch
from common import print_table, save

AMAZON = {"n_rows": 490_449, "n_labels": 670_091, "n_features": 135_909}
FEATURES_PER_ROW, LABELS_PER_ROW = 76, 5.45
# Features that rows of a label have in common, and their share of a row's features.
TOPIC, TOPIC_SHARE = 24, 0.5
GIB = 2**30
BATCH = 256


def power_law(rng, n: int, size, exponent: float) -> np.ndarray:
    """Draw from {0, ..., n - 1} with probability falling as rank^-exponent."""
    shares = np.cumsum(np.arange(1, n + 1, dtype=np.float64) ** -exponent)
    return np.searchsorted(shares, rng.random(size) * shares[-1]).astype(np.int32)


def make_data(n_rows: int, n_labels: int, n_features: int, seed: int = 0):
    """Rows whose features come half from topics of their labels, half from the background."""
    rng = np.random.default_rng(seed)
    counts = 1 + rng.poisson(LABELS_PER_ROW - 1, n_rows)
    indptr = np.concatenate(([0], np.cumsum(counts)))
    # every label has a row; the others follow a power law
    labels = power_law(rng, n_labels, indptr[-1], 0.6)
    some = min(n_labels, labels.size)
    labels[rng.permutation(labels.size)[:some]] = rng.permutation(n_labels)[:some]
    Y = _csr(labels, indptr, (n_rows, n_labels))
    Y.data[:] = 1
    topics = power_law(rng, n_features, (n_labels, TOPIC), 0.8)
    counts = 1 + rng.poisson(FEATURES_PER_ROW * 1.12 - 1, n_rows)  # some will coincide
    x_indptr = np.concatenate(([0], np.cumsum(counts)))
    features = power_law(rng, n_features, x_indptr[-1], 0.8)
    rows = np.repeat(np.arange(n_rows), counts)
    from_topic = np.flatnonzero(rng.random(rows.size) < TOPIC_SHARE)
    rows = rows[from_topic]
    one = indptr[rows] + rng.integers(0, np.diff(indptr)[rows])
    features[from_topic] = topics[labels[one], rng.integers(0, TOPIC, rows.size)]
    X = _csr(features, x_indptr, (n_rows, n_features))
    rarity = np.log(n_rows / (1 + np.bincount(X.indices, minlength=n_features)))
    X.data[:] = (1 + np.log(X.data)) * np.maximum(rarity[X.indices], 0.1)
    return X, Y


def _csr(indices, indptr, shape) -> sp.csr_array:
    made = sp.csr_array((np.ones(indices.size, np.float32), indices, indptr), shape=shape)
    made.sum_duplicates()
    return made


class Clock:
    """CPU seconds and peak memory of the functions it is put around."""

    def __init__(self):
        self.parts: list[dict[str, Any]] = []

    def around(self, owner: Any, name: str) -> None:
        """Put the clock around a function of a module or class."""
        function = getattr(owner, name)

        def timed(*args, **kwargs):
            start = time.process_time()
            result = function(*args, **kwargs)
            self.note(name, start)
            return result

        setattr(owner, name, timed)

    def note(self, name: str, start: float) -> None:
        """Write down a part that began at `start`."""
        seconds = time.process_time() - start
        self.parts.append({"part": name, "cpu_s": seconds, "peak_gib": peak_gib()})


def peak_gib() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def shorten_epochs(module: Any, steps: int) -> None:
    """Let the stages of a fit train on the first `steps` batches only."""
    run_stage = module.run_stage

    def short(title, objective, plan, n_rows, *args):
        return run_stage(title, objective, plan, min(n_rows, steps * plan.batch_size), *args)

    module.run_stage = short


def measure(kind: str, n_rows: int, n_labels: int, n_features: int, steps: int, options) -> dict:
    """Fit once in this process."""
    from skxmc import EliasClassifier, SNMClassifier
    from skxmc.encoders import BagOfWords
    from skxmc.training import elias_stages, snm_training
    from skxmc.training.memory import total

    X, Y = make_data(n_rows, n_labels, n_features)
    clock = Clock()
    clock.note("data", 0.0)
    rounds = {"n_iterations": options["rounds"]}
    elias_stages.balanced_kmeans = partial(elias_stages.balanced_kmeans, **rounds)
    for module in (elias_stages, snm_training):
        clock.around(module, "build_encoder")
        shorten_epochs(module, steps)
    for name in ("label_centroids", "balanced_kmeans", "approximate_adjacency"):
        clock.around(elias_stages, name)
    clock.around(elias_stages.EliasTraining, "_membership")
    common = {"encoder": BagOfWords(embedding_dim=options["width"]), "batch_size": BATCH}
    common |= {"random_state": 0, "n_jobs": None}
    numba.set_num_threads(options["threads"])
    torch.set_num_threads(options["torch_threads"])
    epochs = options["epochs"]
    if kind == "elias":
        model = EliasClassifier(stage1_epochs=epochs, stage2_epochs=epochs, **common)
    else:
        model = SNMClassifier(max_epochs=epochs, **common)
    needs = model._training(np.random.RandomState(0), torch.device("cpu")).needs(X, Y)
    start = time.process_time()
    model.fit(X, Y)
    clock.note("fit", start)
    sizes = {"rows": n_rows, "labels": n_labels, "features": X.nnz / n_rows, "y": Y.nnz / n_rows}
    return {
        "kind": kind,
        **sizes,
        **options,
        "cost": cost_of_stages(model.history_, min(n_rows, steps * BATCH)),
        "parts": clock.parts,
        "estimated_gib": total(needs) / GIB,
        "peak_gib": peak_gib(),
    }


def cost_of_stages(history: list[dict], n_rows: int) -> list[dict]:
    """Median cost of the epochs after the first of each stage, and how far they lie apart."""
    costs = []
    for stage in dict.fromkeys(record["stage"] for record in history):
        timed = [record for record in history if record["stage"] == stage][1:]
        seconds = [record["cpu_seconds"] for record in timed]
        cpu, wall = np.median(seconds), np.median([record["seconds"] for record in timed])
        costs.append(
            {
                "stage": stage,
                "cpu_us_a_row": 1e6 * float(cpu) / n_rows,
                "spread": (max(seconds) - min(seconds)) / float(cpu),
                "wall_us_a_row": 1e6 * float(wall) / n_rows,
            }
        )
    return costs


def in_a_process(arguments: dict) -> dict:
    """Run `measure` in a fresh process."""
    threads = str(max(arguments["options"]["threads"], arguments["options"]["torch_threads"]))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(arguments)],
        env={**os.environ, **dict.fromkeys(names, threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="steps of an epoch")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a stage")
    parser.add_argument("--rows", type=int, default=AMAZON["n_rows"], help="rows of the data")
    parser.add_argument("--width", type=int, default=256, help="embedding width d")
    parser.add_argument("--kinds", nargs="+", default=["elias", "snm"])
    parser.add_argument("--labels", nargs="+", type=int, default=[38_000, AMAZON["n_labels"]])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--torch-threads", type=int, help="if not as many as Numba's")
    parser.add_argument("--kmeans-rounds", type=int, default=8, help="2-means rounds of a node")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing saved")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(**json.loads(args.child))))
        return
    sizes = {**AMAZON, "n_rows": args.rows}
    if args.smoke:
        sizes = {"n_rows": 3000, "n_features": 2000}
        args.labels, args.steps, args.epochs, args.width = [500, 4000], 4, 3, 32
    results = []
    for kind, n_labels, threads in itertools.product(args.kinds, args.labels, args.threads):
        options = {"width": args.width, "epochs": args.epochs, "threads": threads}
        options |= {"rounds": args.kmeans_rounds, "torch_threads": args.torch_threads or threads}
        asked = {**sizes, "n_labels": n_labels, "kind": kind, "steps": args.steps}
        results.append(in_a_process({**asked, "options": options}))
        show(results[-1])
    compare(results)
    if not args.smoke:
        save("training_scale", results)


def with_total(result: dict) -> list[dict]:
    """Costs of the stages and, of two, of an epoch as default training has them on average."""
    from skxmc.training.elias_stages import STAGE_EPOCHS

    costs = result["cost"]
    if len(costs) == 1:
        return costs
    total, epochs = {"stage": "all epochs"}, [STAGE_EPOCHS[cost["stage"]] for cost in costs]
    for name in ("cpu_us_a_row", "wall_us_a_row"):
        total[name] = float(np.average([cost[name] for cost in costs], weights=epochs))
    return [*costs, total]


def compare(results: list[dict]) -> None:
    """Print each stage's cost beside that with the fewest labels, and with the fewest threads."""
    rows = []
    for result in results:
        for cost in with_total(result):
            same = [r for r in results if r["kind"] == result["kind"]]
            few = min(
                (r for r in same if r["threads"] == result["threads"]), key=lambda r: r["labels"]
            )
            one = min(
                (r for r in same if r["labels"] == result["labels"]), key=lambda r: r["threads"]
            )
            rows.append(
                {
                    "stage": cost["stage"],
                    "labels": result["labels"],
                    "threads": result["threads"],
                    "cpu_us_a_row": cost["cpu_us_a_row"],
                    "to_fewest_labels": cost["cpu_us_a_row"] / _of(few, cost, "cpu_us_a_row"),
                    "speedup": _of(one, cost, "wall_us_a_row") / cost["wall_us_a_row"],
                    "estimated_gib": result["estimated_gib"],
                    "peak_gib": result["peak_gib"],
                }
            )
    print("\nall")
    print_table(rows)


def _of(result: dict, cost: dict, name: str) -> float:
    (found,) = [c[name] for c in with_total(result) if c["stage"] == cost["stage"]]
    return found


def show(result: dict) -> None:
    """Print one result."""
    print(f"\n{result['kind']}, {result['labels']} labels, {result['rows']} rows", flush=True)
    print_table(result["parts"])
    print_table(result["cost"])


if __name__ == "__main__":
    main()
