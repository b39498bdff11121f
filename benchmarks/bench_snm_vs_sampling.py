"""Compare stochastic negative mining with uniform sampling and one-vs-all, at equal steps.

    python benchmarks/bench_snm_vs_sampling.py             # the bundled data
    python benchmarks/bench_snm_vs_sampling.py FOLDER ...  # of X_train.npz, Y_train.npz, X_test...

Every setting trains the same model for the same number of steps; only the negatives differ. A pool
of B labels is drawn for a mini-batch and each row keeps the k that score highest: k = B is uniform
sampling, B = k = all labels is one-vs-all. Mining is to be held against both kinds of uniform
sampling: of k labels, which brings as many negatives into the loss, and of B, which scores as many.
Figures are the mean over three seeds and their spread (standard deviation) in percent of the test
rows; seconds are of `fit`, on one thread.

Results are written after every fit. A run that was cut short goes on where it was: fits on file of
the same settings, made on the same machine with the same packages, are not made again.
"""

import json
import sys
import time
from pathlib import Path

import common
import numpy as np
from common import describe_machine, load_bundled, load_folder, print_table, save

from skxmc import SNMClassifier
from skxmc.encoders import BagOfWords
from skxmc.metrics import evaluate_topk

NAME = "snm_vs_sampling"
SEEDS = (0, 1, 2)
POOL = 4096
# What every fit of a scoring has in common. Annealing changes nothing where k = B.
COMMON = {"dim": 256, "epochs": 8, "anneal": 0.2}
SCORINGS = {
    # the estimator's own defaults
    "product": {"normalize": False, "multilabel": "one_vs_all"},
    # the setting of the paper: cosines, and one positive drawn a row
    "cosine": {"normalize": True, "multilabel": "pick_one"},
}
KEPT = {"product": (16, 64), "cosine": (1, 16)}
# what tells a setting of a data set from another
SETTING = ("data", "scoring", "kind", "B", "k", *COMMON)
FIGURES = ("P@1", "P@3", "P@5", "CPU s", "wall s")


def settings(n_labels: int, kept: tuple[int, ...]) -> list[tuple[str, int, int]]:
    """List kind, B and k of what is compared on a data set, cheap ones first."""
    # where there are few labels, a pool of all of them would leave nothing to compare with
    pool = min(POOL, n_labels // 2)
    return [
        ("uniform", max(kept), max(kept)),
        *(("mining", pool, k) for k in kept),
        ("uniform", pool, pool),
        ("one-vs-all", n_labels, n_labels),
    ]


def plan_fits(n_labels_of: dict[str, int]) -> list[dict]:
    """List every fit of every data set; one-vs-all last, since it costs most."""
    plan = [
        {"data": data, "scoring": scoring, "kind": kind, "B": pool, "k": k, **COMMON, "seed": seed}
        for seed in SEEDS
        for scoring, kept in KEPT.items()
        for data, n_labels in n_labels_of.items()
        for kind, pool, k in settings(n_labels, kept)
    ]
    return sorted(plan, key=lambda fit: (fit["kind"] == "one-vs-all", fit["scoring"] == "cosine"))


def measure(data, fit: dict) -> dict:
    """Fit, predict and measure one setting with one seed."""
    X_train, Y_train, X_test, Y_test = data
    clf = SNMClassifier(
        BagOfWords(embedding_dim=fit["dim"]),
        pool_size=fit["B"],
        n_negatives=fit["k"],
        anneal=fit["anneal"],
        max_epochs=fit["epochs"],
        random_state=fit["seed"],
        n_jobs=1,
        **SCORINGS[fit["scoring"]],
    )
    wall, cpu = time.perf_counter(), time.process_time()
    clf.fit(X_train, Y_train)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    top = clf.predict_topk(X_test, k=5)
    found = evaluate_topk(Y_test, top, ks=(1, 3, 5), metrics=("precision",))
    precision = {f"P@{i}": 100 * found[f"precision_at_{i}"] for i in (1, 3, 5)}
    return {**fit, **precision, "CPU s": cpu, "wall s": wall}


def summarize(fits: list[dict]) -> list[dict]:
    """Mean and standard deviation over the seeds of each setting."""
    groups: dict[tuple, list[dict]] = {}
    for fit in fits:
        groups.setdefault(tuple(fit[name] for name in SETTING), []).append(fit)
    rows = []
    for key in sorted(groups, key=lambda key: key[0]):
        row = dict(zip(SETTING, key, strict=True)) | {"seeds": len(groups[key])}
        for name in FIGURES:
            values = [fit[name] for fit in groups[key]]
            spread = f"{np.std(values, ddof=1):.2f}" if len(values) > 1 else "-"
            row[name] = f"{np.mean(values):.2f} ± {spread}"
        rows.append(row)
    return rows


def known_fits() -> list[dict]:
    """Read the fits of an earlier run on this machine with these packages, if there is one."""
    path = common.HERE / "results" / f"{NAME}.json"
    if not path.exists():
        return []
    saved = json.loads(path.read_text())
    changing = ("date", "commit")
    here, there = (
        {key: value for key, value in machine.items() if key not in changing}
        for machine in (describe_machine(), saved["machine"])
    )
    return saved["results"]["fits"] if here == there else []


def run(plan: list[dict], loaded: dict, fits: list[dict]) -> None:
    """Add the fits of a plan that are missing, and write the results after each."""
    for fit in plan:
        if any(fit.items() <= known.items() for known in fits):
            continue
        fits.append(measure(loaded[fit["data"]], fit))
        print_table(fits[-1:])
        save(NAME, {"fits": fits, "summary": summarize(fits)})


def main() -> None:
    """Run on the folders named on the command line, or on the bundled data."""
    sources = {Path(arg).name: lambda arg=arg: load_folder(Path(arg)) for arg in sys.argv[1:]}
    loaded = {name: load() for name, load in (sources or {"bundled": load_bundled}).items()}
    plan = plan_fits({name: data[1].shape[1] for name, data in loaded.items()})
    X_train, Y_train, *test = next(iter(loaded.values()))
    for k in (8, 64):  # compiles the kernels
        measure((X_train[:500], Y_train[:500], *test), plan[0] | {"B": 64, "k": k})
    fits = known_fits()
    run(plan, loaded, fits)
    for key, value in describe_machine().items():
        print(f"{key}: {value}")
    print_table(summarize(fits))


if __name__ == "__main__":
    main()
