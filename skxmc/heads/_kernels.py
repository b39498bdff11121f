"""Numba kernels of the sparse ranker: its training, and margins of given candidates.

Each label (in training) and each row (of candidates) is owned by one thread and summed in a fixed
order, so results do not depend on the number of threads. Signatures are lazy: read-only
(memory-mapped) arrays work.
"""

import numpy as np
from numba import njit, prange

from skxmc._numba_cache import CACHE
from skxmc.ops._kernels import next_turn

_FAST = {"reassoc", "contract", "nsz"}


@njit(cache=CACHE, parallel=True)
def fit_labels(
    csr, least, pairs, labels, draws, seeds, costs, tol, max_iter, starts, out,
    order, counter, n_parts,
):  # fmt: skip
    """Train the SVM of each of `labels`, and write its weights of at least `least`, by feature.

    `csr` = (indptr, indices, data) of the features; `pairs` = (indptr, rows, positive): the
    positives and hard negatives of each label, to which `draws[t]` further rows are drawn. A drawn
    row stands for its share of all rows that are not among the pairs. `costs` = (negative, positive
    of each label). The weights of labels[t] are written to `out` = (features, weights, lengths,
    biases) from starts[t] on. `n_parts` threads, each with its own scratch, take labels in turns,
    in an `order` that should begin with those that take longest; the `counter` starts at 0.
    """
    pair_indptr, pair_rows, pair_positive = pairs
    out_features, out_weights, lengths, biases = out
    n_rows = csr[0].shape[0] - 1
    for _ in prange(n_parts):
        slot = np.full(least.shape[0], -1, dtype=np.int32)
        used = np.zeros(n_rows, dtype=np.bool_)
        turn = next_turn(counter)
        while turn < labels.shape[0]:
            t = order[turn]
            start, stop = pair_indptr[labels[t]], pair_indptr[labels[t] + 1]
            rows = _with_drawn(pair_rows[start:stop], draws[t], used, seeds[t])
            own_costs = (costs[0], costs[1][t])
            cost = _signed_costs(pair_positive[start:stop], rows.shape[0], n_rows, own_costs)
            own, features = _pack(csr, rows, slot)
            weights, biases[t] = _dual_descent(
                own, features.shape[0], cost, tol, max_iter, seeds[t]
            )
            position = starts[t]
            for j in range(features.shape[0]):
                if abs(weights[j]) >= least[features[j]] and weights[j] != 0:
                    out_features[position], out_weights[position] = features[j], weights[j]
                    position += 1
            lengths[t] = position - starts[t]
            turn = next_turn(counter)


@njit(cache=CACHE)
def _with_drawn(rows, n_drawn, used, seed):
    """Append up to `n_drawn` other rows, all if that is enough; `used` is scratch, all False."""
    n_rows = used.shape[0]
    out = np.empty(min(rows.shape[0] + n_drawn, n_rows), dtype=np.int32)
    n = rows.shape[0]
    out[:n] = rows
    for i in rows:
        used[i] = True
    every = out.shape[0] == n_rows
    for s in range(n_rows if every else n_drawn):
        if every:
            i = s
        else:
            seed = _next(seed)
            i = np.int64(seed % np.uint64(n_rows))
        if not used[i]:
            used[i] = True
            out[n] = i
            n += 1
    for s in range(n):
        used[out[s]] = False
    return out[:n]


@njit(cache=CACHE)
def _signed_costs(positive, n_own, n_rows, costs):
    """Cost of each row, negative where the label does not belong to it."""
    n_pairs = positive.shape[0]
    share = (n_rows - n_pairs) / (n_own - n_pairs) if n_own > n_pairs else 1.0
    out = np.empty(n_own)
    for s in range(n_own):
        if s >= n_pairs:
            out[s] = -costs[0] * share
        else:
            out[s] = costs[1] if positive[s] else -costs[0]
    return out


@njit(cache=CACHE)
def _pack(csr, rows, slot):
    """Copy rows into a CSR of their own, with the features they use numbered from 0.

    A label's few thousand weights then lie side by side in the cache. `slot` is scratch of one
    int32 a feature, all -1, and is handed back all -1. Returns the CSR and the features.
    """
    indptr, indices, data = csr
    own_indptr = np.zeros(rows.shape[0] + 1, dtype=np.int64)
    for r in range(rows.shape[0]):
        own_indptr[r + 1] = own_indptr[r] + indptr[rows[r] + 1] - indptr[rows[r]]
    total = own_indptr[-1]
    own_indices = np.empty(total, dtype=np.int32)
    own_data = np.empty(total, dtype=data.dtype)
    features = np.empty(min(total, slot.shape[0]), dtype=np.int32)
    n_own = 0
    for r in range(rows.shape[0]):
        shift = own_indptr[r] - indptr[rows[r]]
        for p in range(indptr[rows[r]], indptr[rows[r] + 1]):
            feature = indices[p]
            if slot[feature] < 0:
                slot[feature] = n_own
                features[n_own] = feature
                n_own += 1
            own_indices[p + shift], own_data[p + shift] = slot[feature], data[p]
    for j in range(n_own):
        slot[features[j]] = -1
    return (own_indptr, own_indices, own_data), features[:n_own]


@njit(cache=CACHE)
def _dual_descent(csr, n_features, signed_cost, tol, max_iter, seed):
    """Minimise |w|^2 / 2 + sum_i C_i max(0, 1 - y_i w.x_i)^2 by dual coordinate descent.

    `signed_cost` holds y_i C_i. Rows whose dual variable is 0 and whose gradient is beyond what the
    last sweep met are left out (shrinking) until the others are done. A sweep ends it whose
    projected gradients differ by at most `tol`. Returns the weights, and that of the bias feature,
    1 in every row.
    """
    n_rows = signed_cost.shape[0]
    weights = np.zeros(n_features)
    bias = 0.0
    alpha = np.zeros(n_rows)
    curvature = _curvatures(csr, signed_cost)
    order = np.arange(n_rows)
    n_active, bound = n_rows, np.inf
    for _ in range(max_iter):
        largest, smallest = -np.inf, np.inf
        seed = shuffle(order[:n_active], seed)
        s = 0
        while s < n_active:
            i = order[s]
            sign = 1.0 if signed_cost[i] > 0 else -1.0
            diagonal = 0.5 / abs(signed_cost[i])
            gradient = sign * (_dot(csr, i, weights) + bias) - 1.0 + alpha[i] * diagonal
            if alpha[i] == 0 and gradient > bound:
                n_active -= 1
                order[s], order[n_active] = order[n_active], i
                continue
            projected = gradient if alpha[i] > 0 else min(gradient, 0.0)
            largest, smallest = max(largest, projected), min(smallest, projected)
            if projected != 0:
                step = max(-gradient / curvature[i], -alpha[i])
                alpha[i] += step
                bias += sign * step
                _add(csr, i, sign * step, weights)
            s += 1
        if largest - smallest <= tol:
            if n_active == n_rows:
                break
            n_active, bound = n_rows, np.inf
        else:
            bound = largest if largest > 0 else np.inf
    return weights, bias


@njit(cache=CACHE)
def _curvatures(csr, signed_cost):
    """Second derivative of the dual in each variable: |x_i|^2 + 1 / (2 C_i), bias included."""
    indptr, _, data = csr
    out = np.empty(signed_cost.shape[0])
    for i in range(signed_cost.shape[0]):
        total = 1.0 + 0.5 / abs(signed_cost[i])
        for p in range(indptr[i], indptr[i + 1]):
            total += data[p] * data[p]
        out[i] = total
    return out


@njit(cache=CACHE)
def _next(state):
    """Step of a xorshift generator."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@njit(cache=CACHE)
def shuffle(order, state):
    """Shuffle in place; returns the next state of the generator."""
    n = order.shape[0]
    for s in range(n - 1):
        state = _next(state)
        other = s + np.int64(state % np.uint64(n - s))
        order[s], order[other] = order[other], order[s]
    return state


@njit(cache=CACHE, fastmath=_FAST)
def _dot(csr, i, weights):
    indptr, indices, data = csr
    total = 0.0
    for p in range(indptr[i], indptr[i + 1]):
        total += data[p] * weights[indices[p]]
    return total


@njit(cache=CACHE, fastmath=_FAST)
def _add(csr, i, factor, weights):
    indptr, indices, data = csr
    for p in range(indptr[i], indptr[i + 1]):
        weights[indices[p]] += factor * data[p]


@njit(cache=CACHE, parallel=True, fastmath=_FAST)
def candidate_dots(csr, n_features, candidates, label_csr, bias, n_parts):
    """out[i, q] = <row i, label row of candidates[i, q]> + its bias; -inf where there is none.

    A row is spread over dense scratch of one float32 a feature, so that each candidate costs as
    many steps as it has weights.
    """
    indptr, indices, data = csr
    n_rows = candidates.shape[0]
    out = np.full(candidates.shape, -np.inf, dtype=np.float32)
    for part in prange(n_parts):
        dense = np.zeros(n_features, dtype=np.float32)
        for i in range(part * n_rows // n_parts, (part + 1) * n_rows // n_parts):
            for p in range(indptr[i], indptr[i + 1]):
                dense[indices[p]] = data[p]
            for q in range(candidates.shape[1]):
                if candidates[i, q] >= 0:
                    out[i, q] = _margin(label_csr, bias, candidates[i, q], dense)
            for p in range(indptr[i], indptr[i + 1]):
                dense[indices[p]] = 0.0
    return out


@njit(cache=CACHE, nogil=True, fastmath=_FAST)
def _margin(label_csr, bias, label, dense):
    """Compute the product of a label's row with a row spread over dense scratch, plus the bias."""
    indptr, indices, weights = label_csr
    margin = bias[label]
    for p in range(indptr[label], indptr[label + 1]):
        margin += weights[p] * dense[indices[p]]
    return margin
