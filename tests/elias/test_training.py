"""What happens between fit and the fitted model: stages, validation, continuing, diverging."""

import copy
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skxmc import EliasClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords
from skxmc.training import elias_stages, fitting

X, Y = make_xmc_classification(
    n_samples=120, n_features=80, n_labels=24, n_labels_per_row=2.0, random_state=0
)


def quick(**parameters):
    defaults = {
        "encoder": BagOfWords(embedding_dim=16),
        "stage1_epochs": 3,
        "stage2_epochs": 2,
        "max_leaf": 6,
        "alpha": 1.0,  # four clusters under a gain of 10 would all be fully on
        "random_state": 0,
    }
    return EliasClassifier(**{**defaults, **parameters})


class StageSpy:
    """Looks at the model before and after each stage."""

    def __init__(self, monkeypatch):
        self.titles, self.before, self.after, self.arguments = [], [], [], []
        run_stage = elias_stages.run_stage

        def spy(title, objective, *args):
            self.titles.append(title)
            self.arguments.append((objective, *args))
            self.before.append(copy.deepcopy(objective.module))
            records = run_stage(title, objective, *args)
            self.after.append(copy.deepcopy(objective.module))
            return records

        monkeypatch.setattr(elias_stages, "run_stage", spy)


@pytest.fixture
def stages(monkeypatch):
    return StageSpy(monkeypatch)


def assert_same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- stages


def test_label_biases_start_at_the_log_prior(stages):
    quick().fit(X, Y)
    counts = Y.toarray().sum(axis=0)
    expected = [math.log((n + 0.5) / (120 - n + 0.5)) for n in counts.tolist()]
    start = stages.before[0].head.rows
    np.testing.assert_allclose(start.bias.numpy(), expected, rtol=1e-5)
    assert (start.weight == 0).all()


def test_stage_2_goes_on_from_what_stage_1_learned(stages):
    model = quick().fit(X, Y)
    assert stages.titles == ["stage 1", "stage 2"]
    (first, second), (one, two) = stages.before, stages.after
    assert (one.head.rows.weight != 0).any(dim=1).all(), "stage 1 moved every label"
    assert_same_state(one.head, second.head)
    assert_same_state(one.encoder, second.encoder)
    assert_same_state(one.index.clusters, second.index.clusters)
    assert first.index.edge_logits is None
    assert second.index.edge_logits is not None
    assert not torch.equal(two.index.edge_logits, second.index.edge_logits), "edges are learned"
    assert not torch.equal(two.head.rows.weight, second.head.rows.weight)
    assert_same_state(two, model.model_)


def test_stage_1_is_on_a_partition_and_stage_2_on_a_graph(stages):
    quick().fit(X, Y)
    partition, graph = (module.index.edges.numpy() for module in stages.before)
    assert sorted(partition[partition >= 0].tolist()) == list(range(24))
    assert np.unique(graph[graph >= 0]).size == 24
    assert (graph >= 0).sum() > 24, "some labels hang on several clusters"


def test_kappa_bounds_the_edges_of_a_cluster(stages):
    """At least as many as the largest cluster of the partition, so that no label is lost."""
    for kappa, width in ((1, 6), (9, 9)):
        model = quick(kappa=kappa, stage2_epochs=1).fit(X, Y)
        assert (model.index_.edges >= 0).sum(dim=1).max() == width
        assert model.index_.reachable_fraction_ == 1.0


def test_rates_of_the_stages(stages):
    quick(lr_labels=0.7, lr_clusters=0.5, lr_edges=0.03, stage2_factor=0.25).fit(X, Y)
    one, two = ((objective.rates, objective.table_factor) for objective, *_ in stages.arguments)
    assert (one[0].lr_clusters, one[0].lr_edges, one[1]) == (0.5, 0.03, 1.0)
    assert (two[0].lr_clusters, two[0].lr_edges, two[1]) == (0.125, 0.03, 0.25)
    assert {module.head.rows.lr for module in stages.before} == {0.7}


@pytest.mark.parametrize(
    ("parameters", "titles"),
    [
        ({}, ["stage 1"] * 3 + ["stage 2"] * 2),
        ({"stage1_epochs": 0}, ["stage 2"] * 2),
        ({"stage2_epochs": 0}, ["stage 1"] * 3),
        ({"stage1_epochs": 0, "stage2_epochs": 0}, []),
        ({"recluster": True}, ["stage 1"] * 6 + ["stage 2"] * 2),
    ],
)
def test_history(parameters, titles):
    model = quick(**parameters).fit(X, Y)
    assert [record["stage"] for record in model.history_] == titles
    assert model.n_epochs_ == len(titles)
    keys = {"stage", "epoch", "loss", "path_loss", "beam_recall", "seconds", "cpu_seconds"}
    for record in model.history_:
        assert record.keys() == keys
        assert all(math.isfinite(value) for key, value in record.items() if key != "stage")
        assert 0 <= record["beam_recall"] <= 1
        assert record["seconds"] >= 0
    numbers = [record["epoch"] for record in model.history_]
    assert all(b == a + 1 or b == 1 for a, b in zip([0, *numbers], numbers, strict=False))
    assert model.index_.reachable_fraction_ == 1.0
    assert np.isfinite(model.predict_topk(X, k=1).scores).all()


def test_loss_falls():
    losses = [
        r["loss"] for r in quick(stage1_epochs=8).fit(X, Y).history_ if r["stage"] == "stage 1"
    ]
    assert losses[-1] < 0.8 * losses[0]


def test_recluster_uses_what_was_learned(stages):
    quick(recluster=True).fit(X, Y)
    assert stages.titles == ["stage 1", "stage 1", "stage 2"]
    first, again, _ = stages.before
    assert_same_state(stages.after[0].head, again.head)
    assert_same_state(stages.after[0].encoder, again.encoder)
    assert (again.index.clusters.weight == 0).all(), "new clusters know nothing yet"
    assert not torch.equal(first.index.edges, again.index.edges)
    edges = again.index.edges.numpy()
    assert sorted(edges[edges >= 0].tolist()) == list(range(24)), "a partition again"


def test_auto_epochs_make_enough_steps(stages):
    quick(stage1_epochs="auto", batch_size=60).fit(X[:100], Y[:100])
    plan = stages.arguments[0][1]
    assert plan.n_epochs * 2 >= fitting.MIN_STEPS


def test_plan_is_what_the_parameters_say(stages):
    quick(batch_size=17, warmup=0.4, max_grad_norm=0.5, precision="bfloat16").fit(X, Y)
    for _, plan, n_rows, *_ in stages.arguments:
        assert (plan.batch_size, plan.warmup, plan.max_grad_norm) == (17, 0.4, 0.5)
        assert plan.precision == "bfloat16"
        assert n_rows == 120


def test_max_grad_norm_clips(monkeypatch):
    bounds = []
    clip = nn.utils.clip_grad_norm_

    def spy(parameters, bound):
        bounds.append(bound)
        norm = clip(parameters, bound)
        after = torch.cat([p.grad.ravel() for p in parameters]).norm()
        assert after <= bound * 1.001
        return norm

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", spy)
    clipped = quick(max_grad_norm=1e-4).fit(X, Y)
    assert set(bounds) == {1e-4}
    bounds.clear()
    free = quick().fit(X, Y)
    assert not bounds
    assert not np.array_equal(clipped.decision_function(X), free.decision_function(X))


def test_bfloat16_is_near_float32():
    full, half = (quick(precision=p).fit(X, Y) for p in ("float32", "bfloat16"))
    a, b = full.decision_function(X), half.decision_function(X)
    assert not np.array_equal(a, b)
    assert half.model_.head.rows.weight.dtype == torch.float32
    both = np.isfinite(a) & np.isfinite(b)
    assert np.abs(a - b)[both].mean() < 0.05
    assert abs(full.score(X, Y) - half.score(X, Y)) < 0.2


# --- verbose


def test_verbose_shows_bars_on_stderr(capfd):
    quick(verbose=1, early_stopping=True).fit(X, Y)
    out, err = capfd.readouterr()
    assert out == ""
    for words in ("stage 1", "stage 2", "loss=", "beam_recall=", "valid_ndcg_at_5="):
        assert words in err
    quick(verbose=0, early_stopping=True).fit(X, Y)
    assert capfd.readouterr() == ("", "")


# --- early stopping


class Held:
    """The rows that `hold_out` sets aside."""

    def __init__(self, monkeypatch):
        hold_out = elias_stages.hold_out

        def spy(*args):
            parts = hold_out(*args)
            self.X_train, self.Y_train, self.X_valid, self.Y_valid = parts
            return parts

        monkeypatch.setattr(elias_stages, "hold_out", spy)


@pytest.fixture
def held(monkeypatch):
    return Held(monkeypatch)


def scripted(monkeypatch, scores):
    """Make validation return `scores`; returns the predictions it saw, epoch by epoch."""
    feed, seen = iter(scores), []

    def measure(self):
        seen.append(self.predict(3))
        return next(feed)

    monkeypatch.setattr(fitting.Validation, "measure", measure)
    return seen


@pytest.mark.parametrize(
    ("scores", "kept", "titles"),
    [
        ([0.1, 0.9, 0.2, 0.3], 1, ["stage 1"] * 4),
        ([0.9, 0.3, 0.2, 0.1], 0, ["stage 1"] * 3),
        ([0.1, 0.2, 0.3, 0.4], 3, ["stage 1"] * 4),
    ],
)
def test_the_best_epoch_is_kept(monkeypatch, held, scores, kept, titles):
    # no stage 2, and one cluster, whose graph stays what it was
    model = quick(
        early_stopping=True, patience=2, stage1_epochs=4, stage2_epochs=0, n_clusters=1, beta=1e6,
        ranker=None,
    )  # fmt: skip
    seen = scripted(monkeypatch, scores)
    model.fit(X, Y)
    assert [record["stage"] for record in model.history_] == titles
    assert [r["valid_ndcg_at_5"] for r in model.history_] == scores[: len(titles)]
    top = model.predict_topk(held.X_valid, k=3)
    np.testing.assert_array_equal(top.indices, seen[kept].indices)
    # validation reads the table of features in full, prediction in 16 bits
    np.testing.assert_allclose(top.scores, seen[kept].scores, rtol=1e-3)
    others = [epoch for epoch in range(len(seen)) if epoch != kept]
    assert not any(np.allclose(seen[e].scores, top.scores, rtol=1e-3) for e in others)


def test_each_stage_keeps_its_best(monkeypatch, held, stages):
    seen = scripted(monkeypatch, [0.5, 0.4, 0.1, 0.2, 0.1])
    model = quick(
        early_stopping=True, stage1_epochs=2, stage2_epochs=3, patience=2, ranker=None
    ).fit(X, Y)
    assert [r["valid_ndcg_at_5"] for r in model.history_] == [0.5, 0.4, 0.1, 0.2, 0.1]
    assert_same_state(stages.after[0].head, stages.before[1].head)
    top = model.predict_topk(held.X_valid, k=3)
    np.testing.assert_array_equal(top.indices, seen[3].indices)
    # validation embeds rows with torch, prediction with a kernel
    np.testing.assert_allclose(top.scores, seen[3].scores, rtol=1e-5)


@pytest.mark.parametrize("metric", ["precision_at_1", "ndcg_at_5", "psp_at_3"])
def test_history_has_the_metric_of_the_held_out_rows(held, metric):
    model = quick(
        early_stopping=True, validation_metric=metric, validation_fraction=0.25, ranker=None
    )
    model.fit(X, Y)
    values = [record[f"valid_{metric}"] for record in model.history_]
    assert len(values) == model.n_epochs_
    assert all(0 <= value <= 1 for value in values)
    assert held.Y_valid.shape[0] == 30
    if metric == "precision_at_1":
        # the model that is kept is the best of stage 2
        best = max(r[f"valid_{metric}"] for r in model.history_ if r["stage"] == "stage 2")
        assert model.score(held.X_valid, held.Y_valid) == pytest.approx(best)


def test_held_out_rows_have_no_influence(monkeypatch, held):
    """Whatever their labels, the model is the same (the metric here does not choose)."""
    quick(early_stopping=True).fit(X, Y)
    rows = {tuple(row) for row in held.X_valid.toarray().tolist()}
    valid = np.array([tuple(row) in rows for row in X.toarray().tolist()])
    assert valid.sum() == 12
    other = Y.toarray()
    other[valid] = 1 - other[valid]
    scripted(monkeypatch, range(100))
    one = quick(early_stopping=True).fit(X, Y)
    two = quick(early_stopping=True).fit(X, sp.csr_array(other))
    assert_same_state(one.model_, two.model_)
    # the public counts are of all rows that fit was given
    np.testing.assert_array_equal(two.label_counts_, other.sum(axis=0))


def test_held_out_rows_are_not_in_centroids_and_prior(monkeypatch, held):
    seen = {}
    for name in ("label_centroids", "log_prior"):
        function = getattr(elias_stages, name)

        def spy(*args, name=name, function=function):
            seen[name] = args
            return function(*args)

        monkeypatch.setattr(elias_stages, name, spy)
    quick(early_stopping=True).fit(X, Y)
    train_counts = held.Y_train.toarray().sum(axis=0)
    assert seen["label_centroids"][0].shape[0] == 108
    np.testing.assert_array_equal(seen["label_centroids"][1].toarray(), held.Y_train.toarray())
    np.testing.assert_array_equal(seen["log_prior"][0], train_counts)
    assert seen["log_prior"][1] == 108
    assert (train_counts != Y.toarray().sum(axis=0)).any()


# --- warm start


def test_warm_start_goes_on_with_stage_2(stages):
    model = quick(warm_start=True).fit(X, Y)
    first, history = model.model_, copy.deepcopy(model.history_)
    state = copy.deepcopy(first)
    model.set_params(stage2_epochs=4).fit(X, Y)
    assert stages.titles == ["stage 1", "stage 2", "stage 2"]
    assert_same_state(stages.before[2], state)
    assert_same_state(first, state)
    assert model.history_[:5] == history
    assert [record["stage"] for record in model.history_[5:]] == ["stage 2"] * 4
    assert model.n_epochs_ == 9
    assert not torch.equal(model.model_.head.rows.weight, state.head.rows.weight)


def test_warm_start_takes_new_rows():
    model = quick(warm_start=True, alpha=10.0).fit(X[:60], Y[:60])
    before = model.score(X[60:], Y[60:])
    model.set_params(stage2_epochs=50).fit(X, Y)
    assert model.score(X[60:], Y[60:]) > before
    assert model.n_samples_fit_ == 120
    np.testing.assert_array_equal(model.label_counts_, Y.toarray().sum(axis=0))


def test_without_warm_start_a_fit_forgets(stages):
    model = quick().fit(X, Y)
    history = [r["loss"] for r in model.history_]
    assert [r["loss"] for r in model.fit(X, Y).history_] == history


def test_first_fit_under_warm_start_is_a_fit():
    a, b = (quick(warm_start=flag).fit(X, Y) for flag in (True, False))
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


def test_warm_start_on_other_data():
    model = quick(warm_start=True).fit(X, Y)
    expected = model.decision_function(X)
    with pytest.raises(ValueError, match=r"labels of the last fit \(24\), got 5 labels"):
        model.fit(X, Y[:, :5])
    with pytest.raises(ValueError, match=r"features of the last fit \(80\), got 70 features"):
        model.fit(X[:, :70], Y)
    np.testing.assert_array_equal(model.decision_function(X), expected)
    model.set_params(warm_start=False).fit(X[:, :70], Y[:, :5])
    assert model.n_features_in_ == 70


def test_warm_start_that_fails_leaves_the_model(monkeypatch):
    model = quick(warm_start=True).fit(X, Y)
    expected, history = model.decision_function(X), copy.deepcopy(model.history_)
    run_stage = elias_stages.run_stage

    def trains_then_fails(*args):
        run_stage(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(elias_stages, "run_stage", trains_then_fails)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    np.testing.assert_array_equal(model.decision_function(X), expected)
    assert model.history_ == history
    monkeypatch.undo()
    model.fit(X, Y)
    assert len(model.history_) == len(history) + 2


# --- divergence


@pytest.mark.parametrize("rate", [1e3, 1e12, 1e30])
@pytest.mark.parametrize("name", ["lr_labels", "lr_clusters", "lr_edges", "lr_encoder", "table"])
def test_huge_rates_end_finite_or_say_what_to_lower(name, rate):
    if name == "table":
        parameters = {"encoder": BagOfWords(16, lr=rate)}
    else:
        parameters = {name: rate, "encoder": BagOfWords(16, n_layers=1)}
    model, error = quick(**parameters), None
    try:
        model.fit(X, Y)
    except FloatingPointError as caught:
        error = caught
    if error is not None:
        assert "lower the learning rates (lr_labels, lr_encoder" in str(error)
        assert not hasattr(model, "model_")
        return
    assert not np.isnan(model.decision_function(X)).any()
    assert not any(torch.isnan(value).any() for value in model.model_.state_dict().values())


def test_divergence_is_an_error_and_leaves_the_model():
    model = quick().fit(X, Y)
    expected = model.decision_function(X)
    model.set_params(lr_labels=3e38)
    with pytest.raises(FloatingPointError, match="lower the learning rates"):
        model.fit(X, Y)
    np.testing.assert_array_equal(model.decision_function(X), expected)


def test_without_stage_2_the_graph_stays_the_partition():
    """An opened graph is made of counts, which only training turns into weights worth following."""
    model = quick(stage2_epochs=0).fit(X, Y)
    edges = model.index_.edges.numpy()
    assert sorted(edges[edges >= 0].tolist()) == list(range(Y.shape[1]))
    assert model.index_.edge_logits is None
    # a further fit goes on with stage 2, on the graph opened then
    again = model.set_params(warm_start=True, stage2_epochs=1).fit(X, Y)
    assert again.index_.edge_logits is not None
    assert [record["stage"] for record in again.history_][-1] == "stage 2"
