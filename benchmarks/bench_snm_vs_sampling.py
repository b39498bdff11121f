"""Compare stochastic negative mining with uniform sampling and one-vs-all, at equal steps.

    python benchmarks/bench_snm_vs_sampling.py             # the bundled data
    python benchmarks/bench_snm_vs_sampling.py FOLDER ...  # of X_train.npz, Y_train.npz, X_test...

Every setting trains the same model for the same number of steps; only the negatives differ. A pool
of B labels is drawn for a mini-batch and each row keeps the k that score highest: k = B is uniform
sampling, B = k = all labels is one-vs-all. Figures are the mean over three seeds and their spread
(standard deviation) in percent of the test rows; seconds are of `fit`. What is cheap runs first and
results are written after every fit, so that a run that is cut short has told what it knows.
"""

import sys
import time
from pathlib import Path

import numpy as np
from common import describe_machine, load_bundled, load_folder, print_table, save

from skxmc import SNMClassifier
from skxmc.encoders import BagOfWords
from skxmc.metrics import evaluate_topk

SEEDS = (0, 1, 2)
EMBEDDING_DIM = 128
EPOCHS = 3
POOL = 1024
KEPT = (1, 8, 64)


def settings(n_labels: int) -> list[tuple[str, int, int]]:
    """List kind, B and k of what is compared on a data set, cheap ones first."""
    # where there are few labels, a pool of all of them would leave nothing to compare with
    pool = min(POOL, n_labels // 2)
    return [
        *(("mining", pool, k) for k in KEPT),
        *(("uniform", k, k) for k in KEPT),
        ("uniform", pool, pool),
        ("one-vs-all", n_labels, n_labels),
    ]


def measure(data, pool_size: int, k: int, seed: int) -> dict:
    """Fit, predict and measure one setting."""
    X_train, Y_train, X_test, Y_test = data
    clf = SNMClassifier(
        BagOfWords(embedding_dim=EMBEDDING_DIM),
        pool_size=pool_size,
        n_negatives=k,
        max_epochs=EPOCHS,
        random_state=seed,
    )
    cpu = time.process_time()
    clf.fit(X_train, Y_train)
    cpu = time.process_time() - cpu
    found = evaluate_topk(
        Y_test, clf.predict_topk(X_test, k=5), ks=(1, 3, 5), metrics=("precision",)
    )
    return {**{f"P@{i}": 100 * found[f"precision_at_{i}"] for i in (1, 3, 5)}, "CPU s": cpu}


def summarize(fits: list[dict]) -> list[dict]:
    """Mean and standard deviation over the seeds of each setting."""
    groups: dict[tuple, list[dict]] = {}
    for fit in fits:
        groups.setdefault((fit["data"], fit["kind"], fit["B"], fit["k"]), []).append(fit)
    rows = []
    for key in sorted(groups, key=lambda key: key[0]):
        row = dict(zip(("data", "kind", "B", "k"), key, strict=True))
        row["seeds"] = len(groups[key])
        for name in ("P@1", "P@3", "P@5", "CPU s"):
            values = [fit[name] for fit in groups[key]]
            spread = f"{np.std(values, ddof=1):.2f}" if len(values) > 1 else "-"
            row[name] = f"{np.mean(values):.2f} ± {spread}"
        rows.append(row)
    return rows


def main() -> None:
    """Run on the folders named on the command line, or on the bundled data."""
    sources = {Path(arg).name: lambda arg=arg: load_folder(Path(arg)) for arg in sys.argv[1:]}
    loaded = {name: load() for name, load in (sources or {"bundled": load_bundled}).items()}
    data = next(iter(loaded.values()))
    measure((data[0][:500], data[1][:500], *data[2:]), 64, 8, seed=0)  # compiles the kernels
    plan = [
        (name, *setting, seed)
        for seed in SEEDS
        for name, data in loaded.items()
        for setting in settings(data[1].shape[1])
    ]
    # one-vs-all costs most by far: last, fewest labels first
    plan.sort(key=lambda run: run[2] if run[1] == "one-vs-all" else 0)
    fits: list[dict] = []
    for name, kind, pool_size, k, seed in plan:
        fit = measure(loaded[name], pool_size, k, seed)
        fits.append({"data": name, "kind": kind, "B": pool_size, "k": k, "seed": seed, **fit})
        print_table(fits[-1:])
        save("snm_vs_sampling", {"fits": fits, "summary": summarize(fits)})
    for key, value in describe_machine().items():
        print(f"{key}: {value}")
    print_table(summarize(fits))


if __name__ == "__main__":
    main()
