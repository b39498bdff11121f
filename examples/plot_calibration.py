"""
Probabilities, a threshold, and the tail
========================================

Scores order labels; what they mean is another question. Here the scores of
:class:`~skxmc.EliasClassifier` become probabilities by
:class:`~skxmc.calibration.CalibratedTopKClassifier`, a reliability diagram shows what that changes,
and ``predict`` gets the threshold with the best F1. At last, the probabilities are bent towards
rare labels.
"""

# %%
# A model, and rows it has not seen
# ---------------------------------
# Some packages of the Debian data, and the labels that a few of them have. The model is trained
# once; half of the other rows serve to calibrate it, half to look at the outcome. A
# :class:`~sklearn.frozen.FrozenEstimator` is calibrated as it is. Any other estimator is fitted by
# ``CalibratedTopKClassifier(estimator).fit(X, Y)``, which holds rows out for itself.

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skxmc import EliasClassifier
from skxmc.calibration import CalibratedTopKClassifier
from skxmc.datasets import load_debian_packages
from skxmc.inspection import ReliabilityDisplay
from skxmc.metrics import TopKScorer, expected_calibration_error, propensities

packages = load_debian_packages()
frequent = np.flatnonzero(packages.target_train[:4000].sum(axis=0) >= 5)
texts, Y = packages.data_train[:4000], sp.csr_array(packages.target_train[:4000, frequent])
texts_train, texts_rest, Y_train, Y_rest = train_test_split(texts, Y, random_state=0, test_size=0.5)
texts_calib, texts_test, Y_calib, Y_test = train_test_split(
    texts_rest, Y_rest, random_state=0, test_size=0.5
)

model = make_pipeline(TfidfVectorizer(sublinear_tf=True), EliasClassifier(random_state=0))
model.fit(texts_train, Y_train)
calibrated = CalibratedTopKClassifier(FrozenEstimator(model)).fit(texts_calib, Y_calib)
print(f"{Y_train.shape[0]:,} rows to train on, {Y.shape[1]:,} labels")

# %%
# What the scores mean
# --------------------
# The best five labels of each row, in bins of their score: how many are true? On the dotted line
# they are as many as the scores say.

fig, ax = plt.subplots(figsize=(5, 5), layout="constrained")
for name, estimator in {"scores": model, "calibrated": calibrated}.items():
    ReliabilityDisplay.from_estimator(estimator, texts_test, Y_test, k=5, name=name, ax=ax)
ax.set_title("Best five labels of a row")

raw = model[-1].predict_topk(model[:-1].transform(texts_test), k=5)
top = calibrated.predict_topk(texts_test, k=5)
print(f"expected calibration error: {expected_calibration_error(Y_test, raw):.3f} before,")
print(f"                            {expected_calibration_error(Y_test, top):.3f} after")
print("labels in the same order:", np.array_equal(raw.indices, top.indices))

# %%
# A threshold for ``predict``
# ---------------------------
# The rows that calibrate also choose the threshold whose labels have the best micro-averaged F1.

print(f"threshold {calibrated.threshold_:.3f}")
for name, estimator in {"before": model, "after": calibrated}.items():
    predicted = estimator.predict(texts_test)
    f1 = f1_score(Y_test, predicted, average="micro", zero_division=0)
    print(f"{name:7s} micro-F1 {f1:.3f}, {predicted.nnz / predicted.shape[0]:.2f} labels a row")

# %%
# Towards rare labels
# -------------------
# Probability times ``propensity ** -tail``: rare labels gain, and with them the propensity-scored
# precision (PSP). Plain precision pays for it.

tails = [0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0]
scorer = TopKScorer(["precision", "psp"], k=5, propensities=propensities(Y_train))
found = [
    scorer(
        CalibratedTopKClassifier(FrozenEstimator(model), tail=tail).fit(texts_calib, Y_calib),
        texts_test,
        Y_test,
    )
    for tail in tails
]
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for metric in ("precision_at_5", "psp_at_5"):
    ax.plot(tails, [values[metric] for values in found], "o-", label=metric)
ax.set_xlabel("tail")
ax.set_ylabel("test rows")
ax.legend(frameon=False)
ax.set_title("What rare labels cost and bring")
plt.show()
