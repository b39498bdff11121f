"""Numba kernels that the others of the search share: products of rows, selections, bits."""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from skxmc._numba_cache import CACHE

_SUMS = {"reassoc", "contract", "nsz"}


# log2(e), and log(2) in two parts: the first has few bits, so that its multiples are exact
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)


@intrinsic
def _power_of_two(typing_context, exponent):
    """Make 2^n as float32 from its bits, for n from -126 to 127."""

    def generate(context, builder, signature, arguments):
        int32 = arguments[0].type
        bits = builder.shl(builder.add(arguments[0], int32(127)), int32(23))
        return builder.bitcast(bits, context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@intrinsic
def count_bits(typing_context, word):
    """Count the bits that are set: an instruction of the processor, which Numba has no name for."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(cache=CACHE, nogil=True, fastmath=_SUMS)
def products(embeddings, weight, out):
    """Products of all embeddings and weight rows, four and two of them at a time.

    At the edges a row stands in twice, so that every sum comes from the same loop: what comes out
    for an embedding does not depend on its neighbours, nor on which of the two come in fours.
    """
    last_row, last = embeddings.shape[0] - 1, weight.shape[0] - 1
    for c in range(0, last + 1, 2):
        d = min(c + 1, last)
        v, w = weight[c], weight[d]
        for i in range(0, last_row + 1, 4):
            i1, i2, i3 = min(i + 1, last_row), min(i + 2, last_row), min(i + 3, last_row)
            e0, e1, e2, e3 = embeddings[i], embeddings[i1], embeddings[i2], embeddings[i3]
            v0 = v1 = v2 = v3 = w0 = w1 = w2 = w3 = np.float32(0.0)
            for j in range(weight.shape[1]):
                v0 += e0[j] * v[j]
                v1 += e1[j] * v[j]
                v2 += e2[j] * v[j]
                v3 += e3[j] * v[j]
                w0 += e0[j] * w[j]
                w1 += e1[j] * w[j]
                w2 += e2[j] * w[j]
                w3 += e3[j] * w[j]
            out[i, c], out[i, d] = v0, w0
            out[i1, c], out[i1, d] = v1, w1
            out[i2, c], out[i2, d] = v2, w2
            out[i3, c], out[i3, d] = v3, w3


@njit(cache=CACHE, nogil=True, fastmath=_SUMS)
def row_products(weight, embedding, rows, n, out):
    """Products of an embedding and n chosen rows; sums are of float32, whatever the weights are.

    Four at a time, whose memory arrives side by side; the last ones may be done twice.
    """
    for q in range(0, n, 4):
        q1, q2, q3 = min(q + 1, n - 1), min(q + 2, n - 1), min(q + 3, n - 1)
        w0, w1 = weight[rows[q]], weight[rows[q1]]
        w2, w3 = weight[rows[q2]], weight[rows[q3]]
        z0 = z1 = z2 = z3 = np.float32(0.0)
        for j in range(weight.shape[1]):
            z0 += embedding[j] * np.float32(w0[j])
            z1 += embedding[j] * np.float32(w1[j])
            z2 += embedding[j] * np.float32(w2[j])
            z3 += embedding[j] * np.float32(w3[j])
        out[q], out[q1], out[q2], out[q3] = z0, z1, z2, z3


@njit(cache=CACHE, nogil=True, fastmath=_SUMS)
def round_query(embedding, numbers):
    """Round an embedding to whole numbers from -127 to 127; `numbers` may be longer.

    Returns what they are to be multiplied by, and their sum.
    """
    largest = np.float32(0.0)
    for j in range(embedding.shape[0]):
        largest = max(largest, abs(embedding[j]))
    step = largest / np.float32(127.0)
    inverse = np.float32(1.0) / step if step > 0 else np.float32(0.0)
    total = np.int32(0)
    for j in range(embedding.shape[0]):
        # shifted up to be positive, so that cutting off is rounding
        number = np.int32(embedding[j] * inverse + np.float32(128.5)) - np.int32(128)
        numbers[j] = number
        total += np.int32(number)
    numbers[embedding.shape[0] :] = 0
    return step, np.float32(total)


@njit(cache=CACHE, nogil=True, fastmath=_SUMS)
def sum_exp(x, largest):
    """Sum exp(x - largest), of which no term is above 1, to float32 precision.

    exp(t) = 2^n exp(r) with a series for r, because vectors have no exponential of their own.
    Below exp(-80) nothing counts.
    """
    total = np.float32(0.0)
    for q in range(x.shape[0]):
        t = max(x[q] - largest, np.float32(-80.0))
        # shifted up to be positive, so that cutting off is rounding
        n = np.int32(t * _LOG2E + np.float32(128.5)) - np.int32(128)
        r = (t - np.float32(n) * _LN2_HIGH) - np.float32(n) * _LN2_LOW
        series = np.float32(1 / 720)
        series = series * r + np.float32(1 / 120)
        series = series * r + np.float32(1 / 24)
        series = series * r + np.float32(1 / 6)
        series = series * r + np.float32(1 / 2)
        series = series * r + np.float32(1.0)
        series = series * r + np.float32(1.0)
        total += series * _power_of_two(n)
    return total


@njit(cache=CACHE, nogil=True)
def best_bound(key, name, n, size, order):
    """Fill `order` and find the bound that `size` of its first n entries reach.

    These are the ones with the largest keys, ties by the smaller name; all if there are no more.
    """
    return about_best(key, name, n, size, size, order)


@njit(cache=CACHE, nogil=True)
def about_best(key, name, n, size, most, order):
    """Do what `best_bound` does, but with `size` to `most` entries: this takes fewer steps."""
    sortable(key, n, order)
    if n <= most:
        return np.int32(np.iinfo(np.int32).min)
    bound, count = find_bound(order[:n], size, most)
    if count > most:  # of those that tie at the bound, the smallest names
        for q in range(n):
            if order[q] > bound:
                order[q] = 1
            elif order[q] == bound:
                order[q] = -name[q]
            else:
                order[q] = np.iinfo(np.int32).min
        bound, _ = find_bound(order[:n], size, size)
    return bound


@njit(cache=CACHE, nogil=True)
def sortable(key, n, order):
    """Turn sign and magnitude of n keys into integers that sort alike, -0.0 as 0.0."""
    bits = key.view(np.int32)
    for q in range(n):
        order[q] = bits[q] if bits[q] >= 0 else -(bits[q] & 0x7FFFFFFF)


@njit(cache=CACHE, nogil=True)
def keep_best(key, label, first, second, n, size, order):
    """Keep the `size` of n labels with the largest keys, ties by the smaller; returns how many.

    They and the two arrays that go with them move to the front, in the order they were in; `second`
    may be `key`.
    """
    if n <= size:
        return n
    bound = best_bound(key, label, n, size, order)
    kept = 0
    for q in range(n):
        # written in any case, and overwritten by the next if not kept: no branch to guess
        label[kept], first[kept], second[kept] = label[q], first[q], second[q]
        kept += order[q] >= bound
    return kept


@njit(cache=CACHE, nogil=True)
def find_bound(order, size, most):
    """Find a bound that `size` to `most` integers reach, and how many do: more where they tie."""
    low, high, reached = order[0], order[0], order.shape[0]
    for q in range(order.shape[0]):
        low, high = min(low, order[q]), max(high, order[q])
    while low < high:
        middle = np.int32(high - (np.int64(high) - low) // 2)
        count = 0
        for q in range(order.shape[0]):
            count += order[q] >= middle
        if size <= count <= most:
            return middle, count
        if count > size:
            low, reached = middle, count
        else:
            high = np.int32(middle - 1)
    return low, reached
