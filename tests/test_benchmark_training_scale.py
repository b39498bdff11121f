"""The scale benchmark: its data have the statistics it says, and a run adds up."""

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("bench_training_scale")


def test_data_have_the_statistics_of_the_original(script):
    X, Y = script.make_data(4000, 5000, 135_909)
    assert X.nnz / 4000 == pytest.approx(script.FEATURES_PER_ROW, rel=0.1)
    assert Y.nnz / 4000 == pytest.approx(script.LABELS_PER_ROW, rel=0.05)
    assert set(Y.data.tolist()) == {1.0}
    counts = np.sort(np.bincount(Y.indices, minlength=5000))
    assert counts[0] >= 1, "every label has a row"
    assert counts[-50:].sum() > 5 * counts[2475:2525].sum(), "some have many"
    # rows of one label have features in common, above what any two rows have
    label = int(np.argsort(np.bincount(Y.indices, minlength=5000))[-300])
    own = X[Y[:, [label]].toarray().ravel() > 0]
    pattern = (own > 0).astype(float)
    shared = (pattern @ pattern.T).toarray()[np.triu_indices(own.shape[0], 1)].mean()
    others = (X[: own.shape[0]] > 0).astype(float)
    usual = (others @ others.T).toarray()[np.triu_indices(own.shape[0], 1)].mean()
    assert shared > usual


def test_power_law(script):
    drawn = script.power_law(np.random.default_rng(0), 50, 200_000, 1.0)
    shares = np.bincount(drawn, minlength=50) / drawn.size
    expected = 1 / np.arange(1, 51)
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.005)


def test_cost_of_stages_leaves_the_first_epoch_out(script):
    history = [
        {"stage": stage, "cpu_seconds": cpu, "seconds": 2 * cpu}
        for stage, cpu in [("a", 99), ("a", 1), ("a", 2), ("a", 6), ("b", 50), ("b", 4)]
    ]
    first, second = script.cost_of_stages(history, 1000)
    assert first == {"stage": "a", "cpu_us_a_row": 2000, "spread": 2.5, "wall_us_a_row": 4000}
    assert second == {"stage": "b", "cpu_us_a_row": 4000, "spread": 0, "wall_us_a_row": 8000}


def test_a_run_in_a_process_of_its_own(script):
    options = {"width": 16, "epochs": 2, "threads": 1, "torch_threads": 1, "rounds": 2}
    sizes = {"n_rows": 600, "n_labels": 900, "n_features": 400}
    found = script.in_a_process({"kind": "elias", **sizes, "steps": 1, "options": options})
    assert [cost["stage"] for cost in found["cost"]] == ["stage 1", "stage 2"]
    assert all(cost["cpu_us_a_row"] > 0 for cost in found["cost"])
    assert found["labels"] == 900
    assert 0 < found["estimated_gib"] < found["peak_gib"]
    names = [part["part"] for part in found["parts"]]
    assert names[0] == "data"
    assert names[-1] == "fit"
    assert {"build_encoder", "label_centroids", "balanced_kmeans", "_membership"} <= set(names)
