"""Can scikit-learn's tools run on half a million labels? Peak memory of searches, cost of metrics.

    python benchmarks/bench_model_selection.py             # 100,000 rows, 500,000 labels

Generated data with 0.5 M positives, label frequencies by a power law. A grid search of two
candidates and three folds, `cross_validate`, the splitters and each metric run over an estimator
that costs nothing, so that what is measured is everything but the model. Memory is the peak of the
process above what it held with the data loaded.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from common import describe_machine, print_table, save
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV

from skxmc.metrics import TopKScorer, bootstrap_interval, breakdown_by_frequency, evaluate_topk
from skxmc.metrics import propensities as estimate_propensities
from skxmc.model_selection import LabelCoverKFold, LabelCoverShuffleSplit, cross_validate
from skxmc.topk import TopK

N_ROWS, N_LABELS, N_FEATURES, N_POSITIVES = 100_000, 500_000, 20_000, 500_000
METRICS = (
    *("precision", "recall", "ndcg", "psp", "psndcg", "mrr", "map"),
    *("coverage", "macro_precision", "macro_recall", "macro_f1"),
)
KS = (1, 3, 5)
SEED = 0


class Popular(ClassifierMixin, BaseEstimator):
    """Answers every row with the most frequent training labels, leaving out the first few."""

    def __init__(self, skip=0):
        self.skip = skip

    def fit(self, X, y):
        """Count the labels."""
        self.label_counts_ = np.bincount(y.indices, minlength=y.shape[1])
        self.n_samples_fit_ = y.shape[0]
        self.classes_ = np.arange(y.shape[1])
        return self

    def predict_topk(self, X, k=5) -> TopK:
        """Return the same labels for each row."""
        best = np.argsort(-self.label_counts_, kind="stable")[self.skip : self.skip + k]
        shape = (X.shape[0], k)
        return TopK(np.tile(best, (shape[0], 1)), np.zeros(shape, dtype=np.float32))


def make_data(rng: np.random.Generator):
    """CSR features and a CSR indicator, built without visiting every cell."""
    labels = np.minimum(rng.zipf(1.3, 2 * N_POSITIVES) - 1, N_LABELS - 1)
    labels = rng.permutation(N_LABELS)[labels]
    keys = np.unique(rng.integers(N_ROWS, size=labels.size) * N_LABELS + labels)
    rows, columns = np.divmod(rng.choice(keys, N_POSITIVES, replace=False), N_LABELS)
    Y = sp.csr_array((np.ones(N_POSITIVES, np.int8), (rows, columns)), shape=(N_ROWS, N_LABELS))
    places = rng.integers(N_FEATURES, size=10 * N_ROWS)
    values = (np.ones(places.size, np.float32), places, np.arange(N_ROWS + 1) * 10)
    return sp.csr_array(values, shape=(N_ROWS, N_FEATURES)), Y


def memory(field: str) -> float:
    """Read a field of the process's status, in GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 2**20


def measure(name: str, run: Callable[[], object]) -> dict:
    """CPU seconds (median of three runs) and peak memory above the start of one piece of work."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, seconds = memory("VmRSS"), []
    for _ in range(3):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return {
        "what": name,
        "CPU s": float(np.median(seconds)),
        "spread s": max(seconds) - min(seconds),
        "peak GiB": memory("VmHWM") - before,
    }


def main() -> None:
    """Measure everything in turn."""
    X, Y = make_data(np.random.default_rng(SEED))
    top = Popular().fit(X, Y).predict_topk(X, max(KS))
    top.indices[:, -1] = Y.argmax(axis=1).ravel()  # some hits that differ from row to row
    top.indices[:, -1][(top.indices[:, :-1] == top.indices[:, -1:]).any(axis=1)] = -1
    p, counts = estimate_propensities(Y), np.asarray(Y.sum(axis=0)).ravel()
    scorer = TopKScorer(["precision", "ndcg", "psp"], k=KS)
    search = GridSearchCV(Popular(), {"skip": [0, 5]}, scoring=scorer, cv=3, refit="psp_at_5")
    work = {
        "GridSearchCV, 2 candidates, 3 folds": lambda: search.fit(X, Y),
        "cross_validate, 3 folds": lambda: cross_validate(Popular(), X, Y, scoring=scorer, cv=3),
        "LabelCoverKFold(3)": lambda: list(LabelCoverKFold(3, random_state=0).split(X, Y)),
        "LabelCoverShuffleSplit(1)": lambda: list(
            LabelCoverShuffleSplit(1, random_state=0).split(X, Y)
        ),
        **{
            f"{name} at 1, 3, 5": lambda name=name: evaluate_topk(
                Y, top, KS, [name], propensities=p
            )
            for name in METRICS
        },
        "breakdown_by_frequency": lambda: breakdown_by_frequency(Y, top, counts),
        "bootstrap_interval, 100 resamples": lambda: bootstrap_interval(
            Y, top, n_resamples=100, random_state=0
        ),
    }
    rows = [measure(name, run) for name, run in work.items()]
    for key, value in describe_machine().items():
        print(f"{key}: {value}")
    print_table(rows)
    print("written:", save("model_selection", rows).name)


if __name__ == "__main__":
    main()
