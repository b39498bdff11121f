"""The benchmark scripts run, on tiny data and without the peers' environments."""

import dataclasses
import importlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from skxmc import EliasClassifier, SNMClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.metrics import precision_at_k

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Import a module of the benchmarks; results and caches go to a temporary folder."""
    monkeypatch.syspath_prepend(BENCHMARKS / "peers")
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("SKXMC_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.import_module("common"), "HERE", tmp_path)
    return importlib.import_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tiny"
    folder.mkdir()
    X, Y = make_xmc_classification(n_samples=300, n_labels=40, random_state=0)
    parts = {"X_train": X[:250], "Y_train": Y[:250], "X_test": X[250:], "Y_test": Y[250:]}
    for name, matrix in parts.items():
        sp.save_npz(folder / f"{name}.npz", sp.csr_matrix(matrix))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def load(folder):
    return [sp.load_npz(folder / f"{n}.npz") for n in ("X_train", "Y_train", "X_test", "Y_test")]


def results(tmp_path, name):
    return json.loads((tmp_path / "results" / f"{name}.json").read_text())["results"]


def one_vs_rest(folder):
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import LinearSVC

    X, Y, X_test, Y_test = load(folder)
    clf = OneVsRestClassifier(LinearSVC(random_state=0)).fit(X, Y.astype(int))
    return 100 * precision_at_k(Y_test, clf.decision_function(X_test), k=[1, 3, 5])


# --- competitors in processes of their own: scikit-learn's needs no environment to be made


def test_accuracy_measures_and_resumes(script, folder, models, tmp_path, monkeypatch, capsys):
    bench = script("bench_accuracy")
    arguments = [str(folder), "--only", "OneVsRest", "--models", str(models)]
    bench.main(arguments)
    (entry,) = results(tmp_path, "accuracy")
    found = [entry["metrics"][f"P@{k}"] for k in (1, 3, 5)]
    np.testing.assert_allclose(found, one_vs_rest(folder))
    assert entry["metrics"]["R@100"] == 100  # 40 labels: all of them are found
    assert entry["fit"]["model_mb"] > 0
    assert "OneVsRest" in capsys.readouterr().out

    asked = []
    monkeypatch.setattr(bench.launch, "fit", lambda *args: asked.append(args) or 1 / 0)
    bench.main(arguments)
    assert asked == []
    with pytest.raises(ZeroDivisionError):
        bench.main([*arguments, "--fresh"])
    monkeypatch.setattr(bench.launch.sklearn, "__version__", "another")
    with pytest.raises(ZeroDivisionError):
        bench.main(arguments)


def test_search_measures_rounds(script, folder, models, tmp_path, monkeypatch):
    bench = script("bench_search")
    monkeypatch.setattr(bench, "SEARCH_PEERS", [script("peers.competitors").ONE_VS_REST])
    monkeypatch.setattr(bench, "SMALLEST_BATCH", 7)
    bench.main(
        [str(folder), "--only", "peers", "--models", str(models), "--threads", "1"]
        + ["--rounds", "2", "--seconds", "0", "--single", "3"]
    )
    (result,) = results(tmp_path, "search")
    (row,) = result["table"]
    np.testing.assert_allclose([row["P@1"], row["P@5"]], one_vs_rest(folder)[[0, 2]])
    assert all(row[key] > 0 for key in (*bench.BATCH, *bench.SINGLE))


def test_training_measures_rounds(script, folder, models, tmp_path):
    bench = script("bench_training")
    only = ["--only", "OneVsRest", "--models", str(models), "--rounds", "1"]
    bench.main([str(folder), *only])
    (result,) = results(tmp_path, "training")
    (row,) = result["table"]
    np.testing.assert_allclose(row["P@1"], one_vs_rest(folder)[0])
    assert row["CPU s"] > 0
    assert row["peak MB"] > 0


def test_failures_show_what_the_process_said(script, folder, models):
    launch, competitors = script("peers.launch"), script("peers.competitors")
    with pytest.raises(RuntimeError, match=r"OneVsRest, fit: exit 1(.|\n)*X_train\.npz"):
        launch.run(competitors.ONE_VS_REST, "fit", folder / "nowhere", models / "none")
    with pytest.raises(RuntimeError, match=r"OneVsRest ended:(.|\n)*model\.joblib"):
        launch.Session(competitors.ONE_VS_REST, folder, models / "none", 1)


# --- who takes part


@pytest.mark.parametrize(
    ("name", "peer"),
    [("bench_accuracy", "PECOS"), ("bench_search", "PECOS mmap"), ("bench_training", "PECOS")],
)
def test_missing_peers_are_left_out(script, folder, tmp_path, capsys, name, peer):
    script(name).main([str(folder), "--only", peer])
    out = capsys.readouterr().out
    assert f"tiny: {peer} is left out: there is no environment for pecos" in out
    assert "environments.py pecos" in out
    assert not (tmp_path / "results").exists()


def test_unknown_parameters_and_names(script, folder):
    competitors = script("peers.competitors")
    odd = competitors.Competitor("odd", "ours", {"estimator": "SNMClassifier", "no_such": 1})
    assert competitors.why_not(odd, 40) == "SNMClassifier has no parameter no_such"
    assert competitors.why_not(competitors.SNM, 40) is None
    assert "too many" in competitors.why_not(competitors.ONE_VS_REST, 10**6)
    everyone = competitors.OURS + competitors.PEERS
    assert competitors.chosen(everyone, ["ours"]) == competitors.OURS
    assert competitors.chosen(everyone, ["peers"]) == competitors.PEERS
    with pytest.raises(SystemExit, match="nobody"):
        competitors.chosen(everyone, ["nobody"])


# --- arithmetic


def test_ratios_are_taken_within_rounds(script):
    search, training = script("bench_search"), script("bench_training")
    rounds = [{"rows/s": 6.0, "ms": 1.0}, {"rows/s": 8.0, "ms": 4.0}]
    others = [
        [{"rows/s": 2.0, "ms": 4.0}, {"rows/s": 4.0, "ms": 2.0}],
        [{"rows/s": 3.0, "ms": 2.0}, {"rows/s": 1.0, "ms": 8.0}],
    ]
    found = search.ratio("we", 1, "they", rounds, others)
    assert found["rows/s"] == np.median([6 / 3, 8 / 4])
    assert found["ms"] == np.median([1 / 2, 4 / 2])

    competitors = script("peers.competitors")
    pair = [competitors.SNM, competitors.PECOS]
    costs = {
        who.name: [dict.fromkeys(training.COSTS.values(), value) for value in values]
        for who, values in zip(pair, ([1.0, 8.0, 6.0], [4.0, 2.0, 3.0]), strict=True)
    }
    (row,) = training.ratios(pair, costs)
    assert row["ratio"] == "SNM / PECOS"
    assert row["CPU s"] == np.median([1 / 4, 8 / 2, 6 / 3])


def test_pairs_become_padded_arrays(script):
    indices, scores = script("protocol").pairs_to_topk([[(3, 0.5), (1, 0.25), (0, 0.1)], []], 2)
    np.testing.assert_array_equal(indices, [[3, 1], [-1, -1]])
    np.testing.assert_array_equal(scores, np.float32([[0.5, 0.25], [-np.inf, -np.inf]]))


# --- ours


def test_our_runner_is_the_estimator(script, folder, tmp_path):
    parameters = {"max_epochs": 2, "random_state": 0}
    runner = script("run_ours").Ours({"estimator": "SNMClassifier", **parameters}, 1)
    X, Y, X_test, _ = load(folder)
    runner.save(runner.train(runner.prepare_training(X, Y, tmp_path), tmp_path), tmp_path)
    loaded = script("run_ours").Ours({}, 1)
    loaded.load(tmp_path)
    indices, _ = loaded.as_topk(loaded.search(loaded.prepare_queries(X_test), 3), 3)
    expected = SNMClassifier(n_jobs=1, **parameters).fit(X, Y).predict_topk(X_test, k=3)
    np.testing.assert_array_equal(indices, expected.indices)


def test_dense_baseline_takes_the_same_steps(script, folder):
    """Nothing is drawn, and no score is capped, so that no two paths tie."""
    bench = script("bench_elias_step")
    X, Y, _, _ = load(folder)
    objective, _ = bench.start(
        sp.csr_array(X),
        sp.csr_array(Y),
        max_leaf=5,
        beam_width=3,
        train_shortlist_size=12,
        alpha=0.9,
        beta=0.9,
    )
    exact = {"dropout": 0.0, "exploration": 0.0, "least_pull": 0.0}
    objective.rates = dataclasses.replace(objective.rates, **exact)
    found = bench.alternate(objective, 32, 10, ("row-wise Adagrad",))
    ours, dense = found.losses[bench.OURS], found.losses["row-wise Adagrad"]
    assert len(ours) == len(dense) == 10
    np.testing.assert_allclose(dense, ours, rtol=1e-4)
    assert np.mean(ours[5:]) < np.mean(ours[:5])


# --- development: ablation and study


def test_ablation_ends_with_the_default_estimator(script, folder):
    bench = script("bench_ablation")
    X, Y, X_test, Y_test = load(folder)
    rows = {row["part"]: row for row in bench.ablate((X, Y, X_test, Y_test))}
    assert list(rows) == [
        "fixed clusters", "learned graph", "exhaustive", "+ paper's ranker", "+ ranker",
        "ranker alone", "+ calibration",
    ]  # fmt: skip
    default = EliasClassifier(random_state=0, n_jobs=1).fit(X, Y).predict_topk(X_test, 3)
    expected = 100 * precision_at_k(Y_test, default, k=3)
    assert rows["+ ranker"]["P@3"] == pytest.approx(expected, abs=0.7)  # one label of one row
    for name, row in rows.items():
        assert 0 < row["PSP@5"] <= 100
        assert np.isnan(row["ECE@5"]) if name == "exhaustive" else 0 <= row["ECE@5"] <= 100


def test_study_never_reads_test_rows(script, folder, monkeypatch):
    bench = script("bench_study")
    X, Y, *_ = load(folder)
    X_rest, Y_rest, X_held, truth = bench.split(X, Y)
    assert X_held.shape[0] == truth.shape[0] == 25
    both = np.vstack([X_rest.toarray(), X_held.toarray()])
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(X.toarray(), axis=0))
    unseen = np.asarray(Y_rest.sum(axis=0)).ravel() == 0
    assert truth[:, unseen].nnz == 0
    starts = [{}, {"init": "random", "label_init": "centroids", "random_state": 1}]
    rankers = [{}, {"n_random": 5}, {"hard_labels": 3}]
    for name, settings in (("RANKER", rankers), ("FIT", [{}]), ("START", starts)):
        monkeypatch.setattr(bench, name, settings)
    data = X_rest, Y_rest, X_held, truth
    by_ranker = list(bench.study_ranker(data))
    assert [row["setting"] for row in by_ranker[1:]] == ["default", "n_random=5", "hard_labels=3"]
    assert [row["setting"] for row in bench.study_fit(data)] == ["default"]
    settings = [row["setting"] for row in bench.study_start(data)]
    assert settings == ["default", "init=random, label_init=centroids, random_state=1"]
    monkeypatch.setattr(bench, "SEARCH", [{}, {"rerank_size": 1}, {"beam_width": 1}])
    found = list(bench.study_search(data))
    assert found[0]["P@1"] == pytest.approx(by_ranker[1]["P@1"])
    assert found[1]["P@1"] == pytest.approx(by_ranker[0]["P@1"]), "one label is not re-ordered"


# --- data sets from package lists


def test_debian_sets(script, tmp_path):
    """Thirty sources of two packages each: a library, and a program that needs it."""
    packages, descriptions = [], []
    for i in range(30):
        for name, tag, needs in (
            (f"lib{i}", "role::shared-lib", "libc6 (>= 2.1) | musl"),
            (f"tool{i}", "role::program, use::editing", f"lib{i}:any (= 1), libc6"),
        ):
            packages.append(
                f"Package: {name}\nSource: source{i} (1.0)\nTag: {tag}\nDepends: {needs}\n"
                f"Maintainer: person {i % 3}"
            )
            words = (
                f"{name} does many useful things\n for everyone who knows number{i % 3} by heart"
            )
            descriptions.append(f"Package: {name}\nDescription-en: {words}")
    packages.append("Package: short\nTag: role::program")
    descriptions.append("Package: short\nDescription-en: too short")
    lists = [tmp_path / "Packages", tmp_path / "Translation-en"]
    for path, paragraphs in zip(lists, (packages, descriptions), strict=True):
        path.write_text("\n\n".join(paragraphs))
    made = script("make_debian_sets")
    made.main(*map(str, lists), str(tmp_path / "sets"))

    is_test = np.array([zlib.crc32(f"source{i}".encode()) % 5 == 0 for i in range(30)])
    assert 0 < is_test.sum() < 30
    _, Y, _, Y_test = load(tmp_path / "sets" / "tags")
    assert Y.shape == (2 * (~is_test).sum(), 3)
    assert Y_test.shape == (2 * is_test.sum(), 3)
    # columns in the order of their names: program, shared-lib, editing
    np.testing.assert_array_equal(Y.sum(axis=0).A1, [len(Y.toarray()) / 2] * 3)
    _, Y, _, Y_test = load(tmp_path / "sets" / "deps-counts")
    assert Y.shape[1] == (~is_test).sum() + 1  # the libraries of training rows, and libc6
    assert (Y_test.sum(axis=1).A1 == 1).all()  # libraries of test sources are not known
    _, Y, _, _ = load(tmp_path / "sets" / "maintainers")
    assert (Y.sum(axis=1).A1 == 1).all()
    assert Y.shape[1] == 3


def test_wordnet_sets(script, tmp_path):
    """Two genera below one root; each definition is that of two species of either."""
    lines = ["  a licence", "00000001 03 n 01 being 0 000 | what lives"]
    for number, genus in ((2, "ax"), (3, "bx")):
        lines.append(f"0000000{number} 03 n 01 {genus} 0 001 @ 00000001 n 0000 | kind")
        for i in range(60):
            definition = f"species named a{chr(97 + i // 20)}{chr(97 + i // 2 % 10)}; in use"
            lines.append(
                f"{number}{i:07d} 03 n 02 big_{genus}y 0 plain 0 001 @i 0000000{number} n 0000 | "
                f"{definition}"
            )
    (tmp_path / "data.noun").write_text("\n".join(lines))
    (tmp_path / "data.verb").write_text("")
    made = script("make_wordnet_sets")
    made.main(str(tmp_path), str(tmp_path / "sets"))

    X, _, X_test, Y_test = load(tmp_path / "sets" / "hypernyms")
    assert 0 < X_test.shape[0] < X.shape[0]
    shared = {row.tobytes() for row in X.toarray()} & {row.tobytes() for row in X_test.toarray()}
    assert not shared, "a definition has all its synsets on one side"
    assert set(Y_test.sum(axis=1).A1) <= {1, 2}  # the genus and its root; a genus has but that
    _, Y, _, Y_test = load(tmp_path / "sets" / "lemma-words")
    assert Y.shape[1] == 7  # being, big, plain, and two words of each genus
    assert Y_test.sum(axis=1).A1.max() == 4
    dense, same, _, _ = load(tmp_path / "sets" / "lemma-words-svd")
    np.testing.assert_array_equal(same.toarray(), Y.toarray())
    np.testing.assert_allclose(np.square(dense.toarray()).sum(axis=1), 1, rtol=1e-5)
