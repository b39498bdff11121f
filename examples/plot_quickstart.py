"""
Tag Debian packages with their dependencies
===========================================

Every Debian package has a name, a section and a one-line description, and depends on or recommends
a few of some 38,000 other packages. This example learns to predict those from the text:
TF-IDF features, :class:`~skxmc.EliasClassifier` with its defaults, and three baselines to compare
with. Run it yourself with ``make demo``, or with a description of your own:
``make demo TEXT="plays chess over the network"``.
"""

# %%
# The data
# --------
# Texts and a sparse 0/1 matrix, split into train and test rows.

import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from skxmc import EliasClassifier
from skxmc.datasets import load_debian_packages
from skxmc.metrics import evaluate_topk, propensities
from skxmc.topk import TopK, topk_from_csr

data = load_debian_packages()
print(f"{len(data.data_train)} train and {len(data.data_test)} test packages, ", end="")
print(f"{len(data.target_names)} labels, {data.target_train.mean(axis=0).sum():.1f} a package")
print("for example:", data.data_train[0])

vectorizer = TfidfVectorizer(
    sublinear_tf=True, min_df=2, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", dtype=np.float32
)
X_train = vectorizer.fit_transform(data.data_train)
X_test = vectorizer.transform(data.data_test)
Y_train, Y_test = data.target_train, data.target_test

# %%
# Baselines
# ---------
# The most frequent labels for everyone; the labels whose mean training row is most similar; the
# labels of the 20 most similar training rows.


def popularity(k):
    best = np.argsort(-Y_train.sum(axis=0), kind="stable")[:k]
    n_rows = X_test.shape[0]
    return TopK(np.tile(best, (n_rows, 1)), np.ones((n_rows, k), dtype=np.float32))


def centroid(k):
    centroids = normalize(sp.csr_matrix(Y_train.T @ X_train))
    return by_chunks(lambda rows: rows @ centroids.T, k)


def nearest_neighbours(k, n_neighbors=20):
    def score(rows):
        near = topk_from_csr(rows @ X_train.T, n_neighbors)
        weights = np.where(near.indices >= 0, near.scores, 0.0)
        indptr = np.arange(0, near.indices.size + 1, n_neighbors)
        arrays = (weights.ravel(), np.maximum(near.indices, 0).ravel(), indptr)
        return sp.csr_array(arrays, shape=(rows.shape[0], X_train.shape[0])) @ Y_train

    return by_chunks(score, k)


def by_chunks(score, k, size=1000):
    parts = [topk_from_csr(score(X_test[i : i + size]), k) for i in range(0, X_test.shape[0], size)]
    return TopK(*map(np.concatenate, zip(*parts, strict=True)))


# %%
# ELIAS
# -----
# Stage 1 learns on a fixed partition of the labels, stage 2 opens the graph between clusters and
# labels and learns its weights too.

start = time.perf_counter(), time.process_time()
clf = EliasClassifier(random_state=0, verbose=1).fit(X_train, Y_train)
wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
print(
    f"fit: {wall:.0f} s ({cpu:.0f} CPU s), {clf.n_epochs_} epochs, {clf.index_.n_clusters} clusters"
)

# %%
# How good is it?
# ---------------

rankings = {
    "popularity": popularity(100),
    "centroid": centroid(100),
    "k-nearest neighbours": nearest_neighbours(100),
    "EliasClassifier": clf.predict_topk(X_test, k=100),
}
shown = {
    "P@1": "precision_at_1",
    "P@3": "precision_at_3",
    "P@5": "precision_at_5",
    "nDCG@5": "ndcg_at_5",
    "PSP@5": "psp_at_5",
    "R@100": "recall_at_100",
}
p = propensities(Y_train)
results = {}
for name, top in rankings.items():
    found = evaluate_topk(
        Y_test,
        top,
        ks=(1, 3, 5, 100),
        metrics=("precision", "ndcg", "psp", "recall"),
        propensities=p,
    )
    results[name] = [100 * found[key] for key in shown.values()]

print(f"{'':22s}" + "".join(f"{name:>8s}" for name in shown))
for name, values in results.items():
    print(f"{name:22s}" + "".join(f"{value:8.2f}" for value in values))

fig, ax = plt.subplots(figsize=(8, 3.5), layout="constrained")
width = 0.2
for i, (name, values) in enumerate(results.items()):
    ax.bar(np.arange(len(shown)) + (i - 1.5) * width, values, width, label=name)
ax.set_xticks(np.arange(len(shown)), list(shown))
ax.set_ylabel("percent of test rows")
ax.legend(frameon=False, ncols=2)
ax.set_title("Predicting dependencies of Debian packages")

# %%
# What does it predict?
# ---------------------
# The best five labels of ten test packages; a tick marks those that the package really names.


def show(title, indices, scores, truth=()):
    print(title)
    for label, score in zip(indices, scores, strict=True):
        if label >= 0:
            print(f"   {'✓' if label in truth else ' '} {score:5.2f}  {data.target_names[label]}")


some = np.random.RandomState(0).choice(len(data.data_test), size=10, replace=False)
top = clf.predict_topk(X_test[some], k=5)
for row, indices, scores in zip(some, top.indices, top.scores, strict=True):
    show(data.data_test[row], indices, scores, set(Y_test[[row]].indices))

# %%
# And of a description given on the command line, or of this one:

text = " ".join(sys.argv[1:]) or "python3-chess python library that plays chess over the network"
top = clf.predict_topk(vectorizer.transform([text]), k=5)
show(text, top.indices[0], top.scores[0])
plt.show()
