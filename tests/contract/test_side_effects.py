"""Seeds, and the state of the process that fit and predict leave alone."""

import logging
import os
import random
import threading
import warnings

import numba
import numpy as np
import pytest
import torch

from .estimators import assert_same_topk, data

X, Y = data(n_samples=48)


def process_state():
    loggers = [None, "skxmc", "torch", "numba", "sklearn"]
    numpy_state = np.random.get_state()  # noqa: NPY002
    return {
        "python random": random.getstate(),
        "numpy random": (numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]),
        "torch random": torch.get_rng_state().tolist(),
        # torch's first: reading numba's may start its threads
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "numba threads": numba.get_num_threads(),
        "torch modes": (
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_autocast_enabled(),
            torch.get_float32_matmul_precision(),
        ),
        "warnings": list(warnings.filters),
        "logging": [
            (logging.getLogger(n).level, list(logging.getLogger(n).handlers)) for n in loggers
        ],
        "numpy errors": np.geterr(),
        "environment": dict(os.environ),
        "threads alive": threading.active_count(),
    }


@pytest.mark.parametrize("n_jobs", [None, 1, 2])
def test_nothing_else_changes(kind, n_jobs):
    kind.make().fit(X, Y)  # kernels compiled, thread pools started
    with torch.random.fork_rng():
        torch.manual_seed(4711)  # a state that no fit of this seed leaves behind by itself
        before = process_state()
        model = kind.make(n_jobs=n_jobs, early_stopping=True).fit(X, Y)
        assert process_state() == before
        model.predict_topk(X), model.predict(X), model.decision_function(X), model.score(X, Y)
        assert process_state() == before


def test_silent(kind, capfd, caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        kind.make().fit(X, Y).predict(X)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_same_seed_same_model(kind):
    one, other = kind.make().fit(X, Y), kind.make().fit(X, Y)
    assert_same_topk(one.predict_topk(X, k=20), other.predict_topk(X, k=20))
    np.testing.assert_array_equal(one.decision_function(X), other.decision_function(X))
    # nothing is left from an earlier fit
    other.fit(X[:30], Y[:30, :9]).fit(X, Y)
    assert_same_topk(one.predict_topk(X, k=20), other.predict_topk(X, k=20))


def test_the_process_seeds_do_not_matter(kind):
    one = kind.make().fit(X, Y).predict_topk(X)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        torch.rand(5)
        assert_same_topk(kind.make().fit(X, Y).predict_topk(X), one)


def test_other_seed_other_model(kind):
    one, other = (kind.make(random_state=seed).fit(X, Y) for seed in (0, 1))
    assert not np.array_equal(one.decision_function(X), other.decision_function(X))


def test_random_state_instance_goes_on(kind):
    """An instance is drawn from, so that a second fit differs, as in scikit-learn."""
    rng = np.random.RandomState(0)
    model = kind.make(random_state=rng)
    first = model.fit(X, Y).decision_function(X)
    assert not np.array_equal(model.fit(X, Y).decision_function(X), first)
    again = kind.make(random_state=np.random.RandomState(0)).fit(X, Y).decision_function(X)
    np.testing.assert_array_equal(again, first)


def test_prediction_draws_nothing(fitted):
    model, rows, _ = fitted
    assert_same_topk(model.predict_topk(rows), model.predict_topk(rows))


@pytest.mark.parametrize("n_jobs", [1, 2, -1])
def test_n_jobs(kind, n_jobs):
    """More threads may change the last digits, nothing else."""
    alone = kind.make(n_jobs=1).fit(X, Y).decision_function(X)
    scores = kind.make(n_jobs=n_jobs).fit(X, Y).decision_function(X)
    np.testing.assert_allclose(scores, alone, rtol=1e-3, atol=1e-4)


def test_several_python_threads_may_predict(fitted):
    model, rows, _ = fitted
    expected, found = model.predict_topk(rows), []
    workers = [
        threading.Thread(target=lambda: found.append(model.predict_topk(rows))) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 3
    for top in found:
        assert_same_topk(top, expected)
