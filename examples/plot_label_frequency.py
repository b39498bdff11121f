"""
Frequent labels, rare labels
============================

A precision does not say which labels it was won with. This example splits it by how often a label
occurs in training, and shows what a random split does to labels of few rows.
"""

# %%
# A ranking to look at
# --------------------
# The labels whose mean training row is most similar to a test row.

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from skxmc.datasets import load_debian_packages
from skxmc.metrics import breakdown_by_frequency, precision_at_k
from skxmc.model_selection import LabelCoverKFold
from skxmc.topk import topk_from_csr

packages = load_debian_packages()
vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, dtype=np.float32)
X_train = sp.csr_array(vectorizer.fit_transform(packages.data_train))
X_test = sp.csr_array(vectorizer.transform(packages.data_test[:1000]))
Y_train, Y_test = packages.target_train, packages.target_test[:1000]

centroids = normalize(sp.csr_matrix(Y_train.T @ X_train))
top = topk_from_csr(sp.csr_array(X_test @ centroids.T), 5)

# %%
# Where the hits come from
# ------------------------
# Contributions add up to precision at 5; recall is within each bin.

counts = np.asarray(Y_train.sum(axis=0)).ravel()
table = breakdown_by_frequency(Y_test, top, counts, k=5)
for i, name in enumerate(table["bin"]):
    print(f"{name:>8s} rows: {table['n_labels'][i]:6d} labels, recall {table['recall'][i]:.3f}")
print(f"sum of contributions {table['contribution'].sum():.4f}, ", end="")
print(f"precision at 5 {precision_at_k(Y_test, top, 5):.4f}")

fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for ax, key in zip(axes, ["n_labels", "recall", "contribution"], strict=True):
    ax.bar(table["bin"], table[key])
    ax.set_title(key.replace("n_labels", "labels"))
    ax.set_xlabel("training rows of the label")
plt.show()

# %%
# Labels lost to a split
# ----------------------
# Labels of two rows or more that have no training row in some fold, for folds at random and for
# folds that look at the labels.

splitters = {
    "KFold": KFold(5, shuffle=True, random_state=0),
    "LabelCoverKFold": LabelCoverKFold(5, random_state=0),
}
for name, splitter in splitters.items():
    left = [Y_train[train].sum(axis=0) for train, _ in splitter.split(Y_train, Y_train)]
    lost = (np.min(left, axis=0) == 0) & (counts >= 2)
    print(f"{name:16s} {lost.sum():5d} labels lost in some fold")
