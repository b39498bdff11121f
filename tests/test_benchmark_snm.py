"""The benchmark of stochastic negative mining runs, goes on where it was, and adds up right."""

import importlib
import json
import statistics
import sys
from pathlib import Path

import pytest
import scipy.sparse as sp

from skxmc.datasets import make_xmc_classification

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
N_LABELS = 30


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """The script, set up for tiny data in tmp_path / "tiny", writing to tmp_path / "results"."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(importlib.import_module("common"), "HERE", tmp_path)
    script = importlib.import_module("bench_snm_vs_sampling")
    monkeypatch.setattr(script, "SEEDS", (0, 1))
    monkeypatch.setattr(script, "COMMON", {"dim": 8, "epochs": 1, "anneal": 0.2})
    monkeypatch.setattr(script, "KEPT", {"product": (2, 4), "cosine": (1, 2)})
    folder = tmp_path / "tiny"
    folder.mkdir()
    X, Y = make_xmc_classification(n_samples=150, n_labels=N_LABELS, random_state=0)
    parts = {"X_train": X[:120], "Y_train": Y[:120], "X_test": X[120:], "Y_test": Y[120:]}
    for name, matrix in parts.items():
        sp.save_npz(folder / f"{name}.npz", sp.csr_matrix(matrix))
    monkeypatch.setattr(sys, "argv", ["bench", str(folder)])
    return script


def results_of(folder):
    return json.loads((folder / "results" / "snm_vs_sampling.json").read_text())


def test_only_the_negatives_differ(bench, tmp_path):
    bench.main()
    fits = results_of(tmp_path)["results"]["fits"]
    pool = N_LABELS // 2
    for scoring, (few, many) in bench.KEPT.items():
        for seed in bench.SEEDS:
            found = {
                (fit["kind"], fit["B"], fit["k"])
                for fit in fits
                if (fit["scoring"], fit["seed"]) == (scoring, seed)
            }
            assert found == {
                ("mining", pool, few),
                ("mining", pool, many),
                ("uniform", many, many),
                ("uniform", pool, pool),
                ("one-vs-all", N_LABELS, N_LABELS),
            }
    assert {(fit["dim"], fit["epochs"], fit["anneal"]) for fit in fits} == {(8, 1, 0.2)}
    assert len(fits) == 2 * 2 * 5


def test_a_run_cut_short_goes_on(bench, tmp_path, monkeypatch):
    bench.main()
    path = tmp_path / "results" / "snm_vs_sampling.json"
    whole = results_of(tmp_path)
    kept = [fit for i, fit in enumerate(whole["results"]["fits"]) if i != 3]
    path.write_text(json.dumps({**whole, "results": {"fits": kept}}))
    measure, made = bench.measure, []

    def counted(data, fit):
        if fit["B"] != 64:  # not the warm-up
            made.append(fit)
        return measure(data, fit)

    monkeypatch.setattr(bench, "measure", counted)
    bench.main()
    assert [fit.items() <= whole["results"]["fits"][3].items() for fit in made] == [True]
    again = results_of(tmp_path)["results"]["fits"]
    assert again[:-1] == kept
    # the same seed, so the same model
    assert again[-1]["P@1"] == pytest.approx(whole["results"]["fits"][3]["P@1"])


def test_fits_of_another_machine_are_not_taken(bench, tmp_path):
    machine = bench.describe_machine()
    path = tmp_path / "results" / "snm_vs_sampling.json"
    path.parent.mkdir()
    for change, taken in [({}, True), ({"commit": "0"}, True), ({"processor": "abacus"}, False)]:
        path.write_text(json.dumps({"machine": machine | change, "results": {"fits": ["a fit"]}}))
        assert bench.known_fits() == (["a fit"] if taken else [])


def test_summary_is_mean_and_standard_deviation(bench):
    setting = dict.fromkeys(bench.SETTING, 1) | {"data": "tiny"}
    values = [61.5, 62.25, 60.0]
    fits = [setting | dict.fromkeys(bench.FIGURES, value) for value in values]
    fits.append(setting | {"k": 2} | dict.fromkeys(bench.FIGURES, 7.0))
    three, one = bench.summarize(fits)
    assert (three["seeds"], one["seeds"]) == (3, 1)
    expected = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
    assert {three[name] for name in bench.FIGURES} == {expected}
    assert {one[name] for name in bench.FIGURES} == {"7.00 ± -"}
