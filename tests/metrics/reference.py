"""The metrics once more, dense and slow, in loops that follow the written definitions."""

from math import log, log2


def ranking_of(scores):
    """Label columns by falling score, ties by the smaller index; -inf is left out."""
    found = [label for label, score in enumerate(scores) if score != float("-inf")]
    return sorted(found, key=lambda label: (-scores[label], label))


def _true(row):
    return {label for label, value in enumerate(row) if value}


def _gain(ranking, truth, k, worth, discounted):
    total = 0.0
    for rank, label in enumerate(ranking[:k], start=1):
        if label in truth:
            total += worth[label] / (log2(rank + 1) if discounted else 1)
    return total


def _ideal(truth, k, worth, discounted):
    best = sorted(truth, key=lambda label: -worth[label])
    return _gain(best, truth, k, worth, discounted)


def _row_value(name, ranking, truth, k):
    ones = dict.fromkeys(truth, 1.0)
    hits = _gain(ranking, truth, k, ones, False)
    if name == "precision":
        return hits / k
    if not truth:
        return 0.0
    if name == "recall":
        return hits / len(truth)
    if name == "ndcg":
        return _gain(ranking, truth, k, ones, True) / _ideal(truth, k, ones, True)
    ranks = [rank for rank, label in enumerate(ranking[:k], start=1) if label in truth]
    if name == "mrr":
        return 1 / ranks[0] if ranks else 0.0
    assert name == "map"
    return sum((i + 1) / rank for i, rank in enumerate(ranks)) / min(k, len(truth))


def _propensity_scored(name, Y, rankings, k, propensities, weights):
    worth = [1 / p for p in propensities]
    above = below = 0.0
    for row, ranking, weight in zip(Y, rankings, weights, strict=True):
        truth = _true(row)
        norm = k if name == "psp" else _ideal(truth, k, [1.0] * len(row), True)
        if truth:
            above += weight * _gain(ranking, truth, k, worth, name == "psndcg") / norm
            below += weight * _ideal(truth, k, worth, name == "psndcg") / norm
    return above / below if below else 0.0


def _label_wise(name, Y, rankings, k, weights):
    values, covered, seen = [], 0, 0
    for label in range(len(Y[0])):
        correct = predicted = true = 0.0
        for row, ranking, weight in zip(Y, rankings, weights, strict=True):
            predicted += weight * (label in ranking[:k])
            true += weight * bool(row[label])
            correct += weight * (label in ranking[:k] and bool(row[label]))
        covered += correct > 0
        seen += true > 0
        above, below = {
            "coverage": (0, 0),
            "macro_precision": (correct, predicted),
            "macro_recall": (correct, true),
            "macro_f1": (2 * correct, predicted + true),
        }[name]
        values.append(above / below if below else 0.0)
    if name == "coverage":
        return covered / seen if seen else 0.0
    return sum(values) / len(values)


def value(name, Y, rankings, k, propensities=None, weights=None):
    """One metric at one k; `Y` a list of 0/1 rows, `rankings` a list of lists of labels."""
    weights = [1.0] * len(Y) if weights is None else weights
    if name in ("psp", "psndcg"):
        return _propensity_scored(name, Y, rankings, k, propensities, weights)
    if name == "coverage" or name.startswith("macro"):
        return _label_wise(name, Y, rankings, k, weights)
    pairs = zip(Y, rankings, weights, strict=True)
    total = sum(w * _row_value(name, ranking, _true(row), k) for row, ranking, w in pairs)
    return total / sum(weights)


def propensity(count, n_rows, a, b):
    """Jain et al. 2016: 1 / (1 + C exp(-a ln(count + b)))."""
    scale = (log(n_rows) - 1) * (b + 1) ** a
    return 1 / (1 + scale * (count + b) ** (-a))
