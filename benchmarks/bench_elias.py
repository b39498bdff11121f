"""Measure EliasClassifier with its defaults, and what stage 2 adds to stage 1.

    python benchmarks/bench_elias.py                 # the bundled data
    python benchmarks/bench_elias.py FOLDER ...      # folders of X_train.npz, Y_train.npz, ...

For each data set the default estimator is fitted twice from the same seed, once with stage 2 left
out, and measured on the test rows. Figures are percentages; seconds are of `fit`.
"""

import sys
import time
from pathlib import Path

from common import describe_machine, load_bundled, load_folder, print_table, save

from skxmc import EliasClassifier
from skxmc.metrics import evaluate_topk, propensities

SHOWN = {
    "P@1": "precision_at_1",
    "P@3": "precision_at_3",
    "P@5": "precision_at_5",
    "nDCG@5": "ndcg_at_5",
    "PSP@5": "psp_at_5",
    "R@100": "recall_at_100",
}
SEED = 0


def measure(data, **parameters) -> dict:
    """Fit, predict and measure one setting."""
    X_train, Y_train, X_test, Y_test = data
    wall, cpu = time.perf_counter(), time.process_time()
    clf = EliasClassifier(random_state=SEED, **parameters).fit(X_train, Y_train)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    top = clf.predict_topk(X_test, k=min(100, Y_train.shape[1]))
    metrics = ("precision", "ndcg", "psp", "recall")
    found = evaluate_topk(
        Y_test, top, ks=(1, 3, 5, 100), metrics=metrics, propensities=propensities(Y_train)
    )
    return {
        **{name: 100 * found[key] for name, key in SHOWN.items()},
        "epochs": clf.n_epochs_,
        "fit s": wall,
        "fit CPU s": cpu,
    }


def main() -> None:
    """Run on the folders named on the command line, or on the bundled data."""
    sources = {Path(arg).name: lambda arg=arg: load_folder(Path(arg)) for arg in sys.argv[1:]}
    rows = []
    for name, load in (sources or {"bundled": load_bundled}).items():
        data = load()
        for variant, parameters in (("stage 1 only", {"stage2_epochs": 0}), ("default", {})):
            rows.append({"data": name, "variant": variant, **measure(data, **parameters)})
            print_table(rows[-1:])
    for key, value in describe_machine().items():
        print(f"{key}: {value}")
    print_table(rows)
    print("written:", save("elias", rows).name)


if __name__ == "__main__":
    main()
