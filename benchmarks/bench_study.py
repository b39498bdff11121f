"""Which default parameters? One parameter at a time, on rows split off the training rows.

    python benchmarks/bench_study.py                     # the ranker, on the bundled data
    python benchmarks/bench_study.py ranker FOLDER ...   # settings of the ranker, on one model
    python benchmarks/bench_study.py search FOLDER ...   # settings of the search, on one model
    python benchmarks/bench_study.py fit FOLDER ...      # settings of training, a fit each
    python benchmarks/bench_study.py start FOLDER ...    # where training starts, and for how long

Test rows are loaded and thrown away. A tenth of the rows, at most
5,000, is held out; labels that the rest does not have are dropped from their truth. What was
learned from the tables is in accuracy_study.md. One thread, seed 0 unless a row says otherwise.
"""

import copy
import sys
import time
from pathlib import Path

import numba
import numpy as np
import scipy.sparse as sp
import torch
from common import describe_machine, load_bundled, load_folder, print_table, save

from skxmc import EliasClassifier
from skxmc.encoders import BagOfWords
from skxmc.heads import SparseRanker
from skxmc.metrics import evaluate_topk, propensities
from skxmc.topk import TopK

K = 100
RANKER = [
    {},
    {"cost_positive": 0.3, "cost_negative": 0.3},
    {"cost_positive": 1.0, "cost_negative": 1.0},
    {"cost_positive": 1.0, "cost_negative": 0.5},
    {"n_holdout": 0},
    {"n_holdout": 200},
    {"n_holdout": 3000},
    {"n_random": 0},
    {"n_random": 50},
    {"n_random": 500},
    {"threshold": 0.03},
    {"threshold": 0.2},
    {"tol": 0.01},
    {"share": 0.5},
    {"share": 0.85},
    {"hard_labels": 20},
    {"hard_labels": 100},
    {"hard_shortlist": 300},
]
SEARCH = [
    {},
    {"beam_width": 10},
    {"beam_width": 40},
    {"shortlist_size": 200},
    {"shortlist_size": 500},
    {"shortlist_size": 1000},
    {"shortlist_size": 4000},
    {"rerank_size": 100},
    {"rerank_size": 300},
]
FIT = [
    {},
    {"dropout": 0.4},
    {"dropout": 0.7},
    {"n_negatives": 16},
    {"n_negatives": 256},
    {"stage1_epochs": 5},
    {"stage1_epochs": 12},
    {"stage2_epochs": 1},
    {"stage2_epochs": 6},
    {"embedding_dim": 128},
    {"embedding_dim": 256},
    {"n_layers": 1},
    {"max_leaf": 50},
    {"max_leaf": 200},
    {"path_power": 1.0},
    {"path_power": 0.25},
]


# of 8 and 3 epochs
HALF = {"stage1_epochs": 4, "stage2_epochs": 2}
# the second seed shows how much of a difference is chance
START = [
    {**start, **epochs}
    for epochs in ({}, HALF)
    for start in (
        {},
        {"label_init": "centroids"},
        {"random_state": 1},
        {"label_init": "centroids", "random_state": 1},
        {"init": "random"},
        {"recluster": True},
    )
]


def split(X, Y):
    """Training and held-out rows of the training rows."""
    X, Y = sp.csr_array(X), sp.csr_array(Y)
    order = np.random.RandomState(0).permutation(X.shape[0])
    n_held = min(5000, X.shape[0] // 10)
    held, rest = np.sort(order[:n_held]), np.sort(order[n_held:])
    seen = np.asarray(Y[rest].sum(axis=0)).ravel() > 0
    truth = sp.csr_array(Y[held].multiply(seen[None, :]))
    truth.eliminate_zeros()
    return X[rest], Y[rest], X[held], truth


def figures(data, topk: TopK) -> dict:
    """P@1/3/5, PSP@5 and R@100 (or at all labels) in percent of the held-out rows."""
    _, Y, _, truth = data
    last = topk.indices.shape[1]
    found = evaluate_topk(
        truth, topk, ks=(1, 3, 5, last), metrics=("precision", "psp", "recall"),
        propensities=propensities(Y),
    )  # fmt: skip
    names = {f"P@{k}": f"precision_at_{k}" for k in (1, 3, 5)}
    names |= {"PSP@5": "psp_at_5", "R@100": f"recall_at_{last}"}
    return {short: 100 * found[name] for short, name in names.items()}


def describe(setting: dict) -> str:
    """Name a setting."""
    return ", ".join(f"{name}={value}" for name, value in setting.items()) or "default"


def fit(data, setting: dict | None = None) -> EliasClassifier:
    """Fit with one thread and seed 0; what the encoder has a parameter for goes to the encoder."""
    encoder = BagOfWords()
    clf = EliasClassifier(encoder, n_jobs=1, random_state=0)
    for name, value in (setting or {}).items():
        owner = encoder if name in encoder.get_params() else clf
        owner.set_params(**{name: value})
    return clf.fit(data[0], data[1])


def study_fit(data):
    """Fit with each setting of training."""
    yield from measure_fits(data, FIT)


def study_start(data):
    """Fit from each start, at the default number of epochs and at about half of them."""
    yield from measure_fits(data, START)


def measure_fits(data, settings):
    """Fit with each setting; seconds are those of the fit."""
    for setting in settings:
        start = time.process_time()
        clf = fit(data, setting)
        seconds = time.process_time() - start
        top = clf.predict_topk(data[2], min(K, clf.n_labels_))
        yield {"setting": describe(setting), **figures(data, top), "CPU s": seconds}


def study_search(data):
    """Search one model with each setting of the search; seconds are those of its prediction."""
    clf = fit(data)
    for setting in SEARCH:
        searched = copy.copy(clf).set_params(**setting)
        start = time.process_time()
        top = searched.predict_topk(data[2], min(K, clf.n_labels_))
        seconds = time.process_time() - start
        yield {"setting": describe(setting), **figures(data, top), "CPU s": seconds}


def study_ranker(data):
    """Train a ranker with each setting on what one model finds; seconds are those of the ranker."""
    X, Y, X_held, _ = data
    clf = fit(data, {"ranker": None})
    found = clf.predict_topk(X_held, min(K, clf.n_labels_))
    yield {"setting": "no ranker", **figures(data, found), "CPU s": 0.0}
    for setting in RANKER:
        parameters = dict(setting)
        k = min(parameters.pop("hard_labels", 50), clf.n_labels_)
        size = parameters.pop("hard_shortlist", 1000)
        start = time.process_time()
        ranker = SparseRanker(**parameters, n_jobs=1, random_state=0)
        ranker.fit(X, Y, clf.predict_topk(X, k, shortlist_size=size))
        seconds = time.process_time() - start
        top = ranker.rerank(X_held, found)
        yield {"setting": describe(setting), **figures(data, top), "CPU s": seconds}


STUDIES = {"ranker": study_ranker, "search": study_search, "fit": study_fit, "start": study_start}


def main() -> None:
    """Run one study on the folders named on the command line."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "ranker"
    if kind not in STUDIES:
        sys.exit(f"no study is called {kind!r}; there are: {', '.join(STUDIES)}")
    sources = {Path(arg).name: lambda arg=arg: load_folder(Path(arg)) for arg in sys.argv[2:]}
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    for key, value in describe_machine().items():
        print(f"{key}: {value}")
    results: dict[str, list[dict]] = {}
    for name, load in (sources or {"bundled": load_bundled}).items():
        rows = results.setdefault(name, [])
        for row in STUDIES[kind](split(*load()[:2])):
            rows.append(row)
            save(f"study_{kind}", results)
        print(f"\n{name}")
        print_table(rows)


if __name__ == "__main__":
    main()
