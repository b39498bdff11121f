"""
Search for parameters of a text pipeline
========================================

A pipeline from raw strings to labels, a grid search over its first half, and a sweep of the beam
width that fits nothing anew. The labels stay a sparse matrix all the way.
"""

# %%
# Texts and labels
# ----------------
# A part of the bundled Debian packages: those that need one of the 500 most frequent labels.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skxmc import EliasClassifier
from skxmc.datasets import load_debian_packages
from skxmc.metrics import TopKScorer
from skxmc.model_selection import LabelCoverKFold, prediction_curve

packages = load_debian_packages()
counts = packages.target_train.sum(axis=0)
frequent = np.sort(np.argsort(-counts, kind="stable")[:500])


def subset(texts, Y, n_rows):
    Y = Y[:, frequent]
    rows = np.flatnonzero(Y.sum(axis=1))
    rows = np.random.RandomState(0).permutation(rows)[:n_rows]
    return [texts[row] for row in rows], Y[rows]


texts, Y = subset(packages.data_train, packages.target_train, 2000)
test_texts, test_Y = subset(packages.data_test, packages.target_test, 1000)

# %%
# Grid search over the pipeline
# -----------------------------
# One scorer gives several metrics from one prediction; ``refit`` names the one to choose by. The
# folds keep labels of two rows or more in training as far as they can.

pipe = make_pipeline(
    TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float32),
    EliasClassifier(stage1_epochs=8, stage2_epochs=2, max_leaf=32, random_state=0),
)
scorer = TopKScorer(["precision", "ndcg"], k=[1, 5])
folds = LabelCoverKFold(2, random_state=0)
search = GridSearchCV(
    pipe,
    {"tfidfvectorizer__ngram_range": [(1, 1), (1, 2)]},
    scoring=scorer,
    refit="ndcg_at_5",
    cv=folds,
).fit(texts, Y)

for i, candidate in enumerate(search.cv_results_["params"]):
    values = [search.cv_results_[f"mean_test_{name}"][i] for name in scorer.names]
    print(candidate["tfidfvectorizer__ngram_range"], [f"{value:.3f}" for value in values])
print(
    "on the test rows:",
    {name: f"{v:.3f}" for name, v in scorer(search, test_texts, test_Y).items()},
)

# %%
# The beam width needs no refit
# -----------------------------
# It is set on the fitted model, which is scored with each value on held-out rows.

beams = [1, 2, 4, 8, 16]
curve = prediction_curve(
    search.best_estimator_,
    test_texts,
    test_Y,
    param_grid={"eliasclassifier__beam_width": beams},
    scoring=scorer,
    cv="prefit",
)
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name in scorer.names:
    ax.plot(beams, curve[f"mean_test_{name}"], marker="o", label=name)
ax.set_xscale("log", base=2)
ax.set_xlabel("beam width")
ax.set_ylabel("score")
ax.legend(frameon=False)
ax.set_title("One fitted model, five beam widths")
plt.show()
