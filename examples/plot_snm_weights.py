"""
Choosing the pool and the number of kept negatives
==================================================

:class:`~skxmc.SNMClassifier` draws a pool of B labels for each mini-batch and keeps the k that
score highest for a row. On average that is a loss over *all* m negatives, sorted by score, with
weights that :func:`~skxmc.losses.expected_weights` gives in closed form. This example draws them,
checks them against a simulation, and shows what :func:`~skxmc.losses.effective_hardness` makes of
them.
"""

# %%
# The weights
# -----------
# For 10,000 negatives: flat up to a rank of about k m / B, then falling. Each curve is divided by
# its sum k, so that only where the weight goes is compared.

import matplotlib.pyplot as plt
import numpy as np

from skxmc.losses import effective_hardness, expected_weights

m = 10_000
rank = np.arange(1, m + 1)
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for pool_size, k in ((1000, 1), (1000, 10), (1000, 100), (1000, 1000), (4096, 64)):
    theta = expected_weights(m, pool_size, k)
    hard = effective_hardness(m, pool_size, k)
    ax.plot(rank, theta / k, label=f"B = {pool_size}, k = {k}: aims at {hard:,.0f}")
ax.set_xscale("log")
ax.set_yscale("log")
ax.set_ylim(1e-6, 0.3)
ax.set_xlabel("rank of the negative, hardest first")
ax.set_ylabel("expected weight, divided by k")
ax.legend(frameon=False)
ax.set_title("Where mining k of a pool of B puts its weight")

# %%
# Against a simulation
# --------------------
# Draw many pools and count how often the i-th hardest negative is among the k hardest drawn.

rng = np.random.default_rng(0)
m, pool_size, k, n_draws = 40, 10, 3, 20_000
drawn = np.argsort(rng.random((n_draws, m)), axis=1)[:, :pool_size]
kept = np.sort(drawn, axis=1)[:, :k]  # label i is the i-th hardest
share = np.bincount(kept.ravel(), minlength=m) / n_draws
theta = expected_weights(m, pool_size, k)
print(f"largest difference over {n_draws:,} draws: {abs(share - theta).max():.4f}")

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.bar(np.arange(1, m + 1), share, color="lightgray", label="simulated")
ax.plot(np.arange(1, m + 1), theta, "k.-", label="closed form")
ax.set_xlabel("rank of the negative")
ax.set_ylabel("expected weight")
ax.legend(frameon=False)
ax.set_title(f"m = {m}, B = {pool_size}, k = {k}")

# %%
# Choosing B and k
# ----------------
# What a choice aims at, for a set of 38,000 labels. B costs a product of matrices, k moves label
# vectors; their ratio alone sets the hardness.

for pool_size in (1024, 4096, 16_384):
    hardness = [f"{effective_hardness(38_000, pool_size, k):8,.0f}" for k in (1, 8, 64, 512)]
    print(f"B = {pool_size:6d}, k = 1, 8, 64, 512:", *hardness)
plt.show()
