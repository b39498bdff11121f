"""
Many metrics at once, with propensities
=======================================

Two rankings are held against each other by all usual metrics. Plain precision likes whoever knows
the frequent labels; the propensity-scored forms give rare labels more weight, since people who tag
miss those more often. Bootstrap intervals tell whether a difference is more than chance.
"""

# %%
# Two rankings
# ------------
# The labels of the most similar training rows, and the same votes damped by how frequent a label
# is.

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from skxmc.datasets import load_debian_packages
from skxmc.metrics import bootstrap_interval, evaluate_topk, propensities
from skxmc.topk import topk_from_csr

packages = load_debian_packages()
vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, dtype=np.float32)
X_train = sp.csr_array(vectorizer.fit_transform(packages.data_train))
X_test = sp.csr_array(vectorizer.transform(packages.data_test[:1000]))
Y_train, Y_test = packages.target_train, packages.target_test[:1000]

near = topk_from_csr(sp.csr_array(X_test @ X_train.T), 20)
weights = np.where(near.indices >= 0, near.scores, 0.0)
indptr = np.arange(0, near.indices.size + 1, 20)
votes = sp.csr_array(
    (weights.ravel(), np.maximum(near.indices, 0).ravel(), indptr),
    shape=(X_test.shape[0], X_train.shape[0]),
)
scores = sp.csr_array(votes @ Y_train)
counts = np.asarray(Y_train.sum(axis=0)).ravel()
damped = sp.csr_array(scores @ sp.diags_array(1 / np.sqrt(counts)))
rankings = {"neighbours": topk_from_csr(scores, 5), "damped": topk_from_csr(damped, 5)}

# %%
# All metrics in one pass
# -----------------------
# Propensities are estimated from the training labels, never from the test rows.

p = propensities(Y_train)
metrics = ["precision", "recall", "ndcg", "map", "psp", "psndcg", "coverage", "macro_f1"]
table = {
    name: evaluate_topk(Y_test, top, ks=(1, 5), metrics=metrics, propensities=p)
    for name, top in rankings.items()
}
for metric in table["neighbours"]:
    print(f"{metric:18s}" + "".join(f"{100 * values[metric]:8.2f}" for values in table.values()))

# %%
# How sure is that?
# -----------------

shown = ["precision", "ndcg", "psp", "psndcg"]
fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for i, (name, top) in enumerate(rankings.items()):
    found = [
        bootstrap_interval(Y_test, top, metric, 5, propensities=p, n_resamples=300, random_state=0)
        for metric in shown
    ]
    values = np.array([interval.value for interval in found])
    ends = np.abs([[f.low - f.value for f in found], [f.high - f.value for f in found]])
    ax.bar(np.arange(len(shown)) + 0.4 * i - 0.2, values, 0.4, yerr=ends, capsize=3, label=name)
ax.set_xticks(np.arange(len(shown)), [f"{name}@5" for name in shown])
ax.set_ylabel("score, 95% interval")
ax.legend(frameon=False)
ax.set_title("Damping frequent labels: what it costs and what it brings")
plt.show()
