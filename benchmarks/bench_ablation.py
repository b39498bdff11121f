"""What does each part of EliasClassifier bring? The ablation table of the paper, on data at hand.

    python benchmarks/bench_ablation.py               # the bundled data
    python benchmarks/bench_ablation.py FOLDER ...    # of X_train.npz, Y_train.npz, X_test...

From the fixed partition to the whole method, on the test rows of each data set:

- fixed clusters: stage 1 alone, each label on one cluster, no ranker;
- learned graph: both stages;
- exhaustive: the same label head, every label scored, no index (is the index worth its errors?);
- + paper's ranker: trained on the rows whose shortlist holds the label, and its own;
- + ranker: the default, which adds rows drawn at random; this is `EliasClassifier()`;
- ranker alone: the labels of the search in the order of the margins;
- + calibration: `CalibratedTopKClassifier(EliasClassifier())`, which holds out a tenth of the rows.

All rows but the first and the last share one model. Rankers re-order as many labels as the default
does. CPU seconds are of training the part, one thread. ECE@5 is the expected calibration error of
the five best labels' scores in percent, of rows whose scores are probabilities or look like them.
"""

import sys
import time
from pathlib import Path

import numba
import numpy as np
import torch
from common import describe_machine, load_bundled, load_folder, print_table, save

from skxmc import EliasClassifier
from skxmc._sparse import as_csr
from skxmc.calibration import CalibratedTopKClassifier
from skxmc.heads import SparseRanker
from skxmc.metrics import evaluate_topk, expected_calibration_error, propensities
from skxmc.search.beam import auto_rerank_size
from skxmc.search.exhaustive import exhaustive_topk
from skxmc.topk import TopK
from skxmc.training.fitting import embed_rows

K = 100
SEED = 0


def figures(Y_train, Y_test, topk: TopK) -> dict:
    """P@1/3/5, PSP@5 and R@100 in percent."""
    found = evaluate_topk(
        Y_test, topk, ks=(1, 3, 5, topk.indices.shape[1]), metrics=("precision", "psp", "recall"),
        propensities=propensities(Y_train),
    )  # fmt: skip
    names = {"P@1": "precision_at_1", "P@3": "precision_at_3", "P@5": "precision_at_5"}
    names |= {"PSP@5": "psp_at_5", f"R@{K}": f"recall_at_{topk.indices.shape[1]}"}
    return {short: 100 * found[name] for short, name in names.items()}


def calibration_error(Y_test, topk: TopK) -> float:
    """ECE of the five best labels, in percent; nan where scores are no probabilities."""
    best = first(topk, 5)
    if (best.scores[best.indices >= 0] < 0).any():
        return float("nan")
    return 100 * expected_calibration_error(Y_test, best)


def first(topk: TopK, k: int) -> TopK:
    """Cut off what is behind the best k labels."""
    return TopK(topk.indices[:, :k], topk.scores[:, :k])


def timed(run):
    """Return what `run` returns, and its CPU seconds."""
    start = time.process_time()
    value = run()
    return value, time.process_time() - start


def rankers(clf: EliasClassifier, X, Y):
    """Yield each kind of ranker: a name, the fitted ranker and its CPU seconds."""
    hard = clf.predict_topk(X, k=min(50, Y.shape[1]), shortlist_size=1000)
    for name, n_random in (("+ paper's ranker", 0), ("+ ranker", "auto")):
        ranker = SparseRanker(n_random=n_random, random_state=SEED, n_jobs=1)
        yield name, *timed(lambda ranker=ranker: ranker.fit(X, Y, hard))


def ablate(data) -> list[dict]:
    """Measure every row of the table on one data set."""
    X, Y, X_test, Y_test = data
    k = min(K, Y.shape[1])
    settings = {"ranker": None, "random_state": SEED, "n_jobs": 1}
    rows = []

    def add(name, topk, seconds):
        topk = first(topk, k)
        error = {"ECE@5": calibration_error(Y_test, topk)}
        rows.append({"part": name, **figures(Y, Y_test, topk), **error, "CPU s": seconds})

    fixed, seconds = timed(lambda: EliasClassifier(stage2_epochs=0, **settings).fit(X, Y))
    add("fixed clusters", fixed.predict_topk(X_test, k), seconds)
    clf, seconds = timed(lambda: EliasClassifier(**settings).fit(X, Y))
    add("learned graph", clf.predict_topk(X_test, k), seconds)
    encoder, head = clf.model_.encoder, clf.model_.head.rows
    rows_test = encoder.prepare(as_csr(X_test).astype(np.float32))
    embeddings = np.asarray(embed_rows(encoder, rows_test, X_test.shape[0], torch.device("cpu")))
    weight, bias = (p.detach().cpu().numpy() for p in (head.weight, head.bias))
    add("exhaustive", exhaustive_topk(embeddings, weight, bias, k), 0.0)
    found = clf.predict_topk(X_test, min(auto_rerank_size(k), Y.shape[1]))
    for name, ranker, seconds in rankers(clf, X, Y):
        add(name, probabilities(ranker.rerank(X_test, found)), seconds)
    ranker.share_ = 1.0
    add("ranker alone", probabilities(ranker.rerank(X_test, found)), 0.0)
    clf = CalibratedTopKClassifier(EliasClassifier(random_state=SEED, n_jobs=1), random_state=SEED)
    _, seconds = timed(lambda: clf.fit(X, Y))
    add("+ calibration", clf.predict_topk(X_test, k), seconds)
    return rows


def probabilities(topk: TopK) -> TopK:
    """Undo the log that a ranker takes of its scores."""
    return TopK(topk.indices, np.exp(topk.scores))


def main() -> None:
    """Run on the folders named on the command line, or on the bundled data."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    sources = {Path(arg).name: lambda arg=arg: load_folder(Path(arg)) for arg in sys.argv[1:]}
    results = {}
    for key, value in describe_machine().items():
        print(f"{key}: {value}")
    for name, load in (sources or {"bundled": load_bundled}).items():
        results[name] = ablate(load())
        print(f"\n{name}")
        print_table(results[name])
        save("ablation", results)


if __name__ == "__main__":
    main()
