"""What every fit shares: sizes, devices, seeds, held-out rows, embedding, a stage."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skxmc.encoders import Encoder, ModuleEncoder
from skxmc.metrics import propensities
from skxmc.topk import TopK
from skxmc.training import fitting
from skxmc.training.fitting import (
    Validation,
    embed_rows,
    hold_out,
    isolated_torch_seed,
    n_rows_of,
    resolve_batch_size,
    resolve_device,
    resolve_epochs,
    run_stage,
    take_rows,
)
from skxmc.training.loop import Plan

# --- sizes and devices


@given(st.integers(1, 10**7))
def test_auto_batch_size(n_rows):
    size = resolve_batch_size("auto", n_rows)
    assert type(size) is int
    assert 32 <= size <= 256
    assert size <= resolve_batch_size("auto", n_rows + 1)
    if 32 < size < 256:
        assert size == n_rows // 64


def test_given_batch_size_is_taken():
    assert resolve_batch_size(np.int64(7), 100) == 7
    assert resolve_batch_size(1000, 10) == 1000


@given(st.integers(1, 10**6), st.integers(1, 512), st.integers(1, 30))
def test_auto_epochs_are_the_default_or_enough_steps(n_rows, batch_size, default):
    n_epochs = resolve_epochs("auto", default, n_rows, batch_size)
    steps = math.ceil(n_rows / batch_size)
    assert n_epochs >= default
    assert n_epochs * steps >= fitting.MIN_STEPS
    if n_epochs > default:
        assert (n_epochs - 1) * steps < fitting.MIN_STEPS, "no more than needed"


def test_given_epochs_are_taken():
    assert resolve_epochs(3, 10, 5, 5) == 3
    assert resolve_epochs(0, 10, 5, 5) == 0
    assert resolve_epochs("auto", 0, 5, 5) == 0, "a stage that is left out stays out"


def test_device():
    assert resolve_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", None, 3.5])
def test_no_such_device(name):
    with pytest.raises(ValueError, match=r"device must be 'auto', 'cpu' or an accelerator") as info:
        resolve_device(name)
    assert repr(name) in str(info.value)


# --- seeds


def test_torch_seed_is_isolated():
    before = torch.get_rng_state()
    draws = []
    for seed in (0, 0, 1):
        with isolated_torch_seed(np.random.RandomState(seed), torch.device("cpu")):
            draws.append(torch.rand(3))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(KeyError), isolated_torch_seed(np.random.RandomState(0), draws[0].device):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


# --- held-out rows


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.sampled_from(["list", "dense", "csr"]))
def test_hold_out_is_a_partition(n_rows, fraction, form):
    Y = sp.csr_array(np.arange(1.0, n_rows + 1)[:, None])
    X = {
        "list": [str(i) for i in range(1, n_rows + 1)],
        "dense": np.arange(1.0, n_rows + 1)[:, None],
        "csr": Y,
    }[form]
    n_valid = round(fraction * n_rows)
    if not 1 <= n_valid < n_rows:
        with pytest.raises(ValueError, match=f"leaves {n_valid} of {n_rows} rows for validation"):
            hold_out(X, Y, fraction, np.random.RandomState(0))
        return
    X_train, Y_train, X_valid, Y_valid = hold_out(X, Y, fraction, np.random.RandomState(0))
    train, valid = Y_train.toarray().ravel(), Y_valid.toarray().ravel()
    assert valid.size == n_valid
    assert sorted([*train, *valid]) == list(range(1, n_rows + 1))
    for part, numbers in ((X_train, train), (X_valid, valid)):
        rows = part.toarray() if form == "csr" else part
        assert [float(np.ravel(row)[0]) if form != "list" else float(row) for row in rows] == list(
            numbers
        )
    again = hold_out(X, Y, fraction, np.random.RandomState(0))
    np.testing.assert_array_equal(again[3].toarray(), Y_valid.toarray())


def test_nothing_held_out():
    X, Y = np.ones((3, 1)), sp.csr_array(np.eye(3))
    rng = np.random.RandomState(0)
    state = rng.get_state()[1].copy()
    assert hold_out(X, Y, 0.0, rng)[0] is X
    assert hold_out(X, Y, 0.0, rng)[1:] == (Y, None, None)
    np.testing.assert_array_equal(rng.get_state()[1], state, err_msg="nothing is drawn")


def test_hold_out_chooses_by_the_seed():
    Y = sp.csr_array(np.arange(1.0, 101)[:, None])
    one, other = (hold_out(Y, Y, 0.3, np.random.RandomState(seed))[3] for seed in (0, 1))
    assert not np.array_equal(one.toarray(), other.toarray())


def test_rows_of_lists_and_arrays():
    rows = np.array([2, 0])
    assert take_rows(["a", "b", "c"], rows) == ["c", "a"]
    assert take_rows(np.array([[1], [2], [3]]), rows).tolist() == [[3], [1]]
    assert take_rows(sp.csr_array([[1], [2], [3]]), rows).toarray().tolist() == [[3], [1]]
    assert [n_rows_of(x) for x in (["a"] * 4, np.ones((4, 2)), sp.csr_array((4, 2)))] == [4] * 3


# --- embedding


def test_embed_rows_in_batches_and_evaluation_mode(monkeypatch):
    monkeypatch.setattr(fitting, "_EMBED_BATCH", 3)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.9))
    encoder = ModuleEncoder(module, 6).train()
    X = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    out = embed_rows(encoder, X, 8, torch.device("cpu"))
    weight, bias = module[0].weight.detach().numpy(), module[0].bias.detach().numpy()
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, X @ weight.T + bias, rtol=1e-5, atol=1e-6)
    assert not encoder.training


class Half(Encoder):
    embedding_dim = 2

    def forward(self, inputs):
        return inputs[:, :2].bfloat16()


def test_embed_rows_gives_float32():
    out = embed_rows(Half(), np.full((3, 4), 1.5, np.float32), 3, torch.device("cpu"))
    assert out.dtype == np.float32
    assert (out == 1.5).all()


@pytest.mark.parametrize(
    ("forward", "got"),
    [
        (lambda x: x, r"\(3, 4\)"),
        (lambda x: x[:, 0], r"\(3,\)"),
        (lambda x: x[:1, :2], r"\(1, 2\)"),
        (lambda x: (x[:, :2],), "tuple"),
    ],
)
def test_embeddings_of_another_shape(forward, got):
    encoder = Half()
    encoder.forward = forward
    with pytest.raises(ValueError, match=rf"3 rows must become .* \(3, 2\), got .*{got}"):
        embed_rows(encoder, np.ones((3, 4), np.float32), 3, torch.device("cpu"))


# --- validation


def test_validation_measures_ndcg_by_hand():
    Y = sp.csr_array([[1, 0, 1, 0], [0, 1, 0, 0]])
    asked = []

    def predict(k):
        asked.append(k)
        return TopK(np.array([[0, 1, 2], [3, 1, 0]])[:, :k], np.array([[3.0, 2, 1]] * 2)[:, :k])

    validation = Validation(predict, Y, Y, "ndcg_at_3", patience=2)
    gain = [1 / math.log2(rank + 1) for rank in (1, 2, 3)]
    rows = [(gain[0] + gain[2]) / (gain[0] + gain[1]), gain[1] / gain[0]]
    assert validation.measure() == pytest.approx(np.mean(rows))
    assert asked == [3]
    assert Validation(predict, Y, Y, "precision_at_1", 2).measure() == 0.5


def test_validation_asks_for_no_more_labels_than_there_are():
    Y = sp.csr_array([[1, 0]])
    asked = []

    def predict(k):
        asked.append(k)
        return TopK(np.array([[0, 1]]), np.array([[2.0, 1]]))

    assert Validation(predict, Y, Y, "recall_at_5", 1).measure() == 1.0
    assert asked == [2]


def test_validation_takes_propensities_from_the_training_rows():
    Y_train = sp.csr_array((np.arange(60) % 10 < [[9], [3], [1]]).T.astype(float))
    Y_valid = sp.csr_array([[1.0, 0, 0], [0, 0, 1.0]])
    top = TopK(np.array([[0], [0]]), np.array([[1.0], [1.0]]))
    validation = Validation(lambda k: top, Y_valid, Y_train, "psp_at_1", 1)
    inverse = 1 / propensities(Y_train)
    expected = inverse[0] / (inverse[0] + inverse[2])
    assert validation.measure() == pytest.approx(expected)


# --- a stage


class Counting:
    """An objective that does next to nothing."""

    table_factor = 1.0

    def __init__(self):
        self.module = nn.Linear(1, 1)
        self.module.register_buffer("place", torch.zeros(1))

    def parameter_groups(self):
        return [{"params": list(self.module.parameters()), "lr": 0.1}]

    def loss(self, rows):
        return self.module(torch.ones(rows.size, 1)).square().mean(), {}


def stage(validation=None, verbose=0, n_epochs=4):
    return run_stage(
        "stage x", Counting(), Plan(n_epochs, 5), 10, np.random.RandomState(0), validation, verbose
    )


def test_stage_records(capfd):
    records = stage()
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert {record["stage"] for record in records} == {"stage x"}
    assert all(record["seconds"] >= 0 and record["cpu_seconds"] >= 0 for record in records)
    assert set(records[0]) == {"stage", "epoch", "loss", "seconds", "cpu_seconds"}
    assert capfd.readouterr() == ("", "")


def test_stage_with_validation_stops_early():
    Y = sp.csr_array(np.eye(2))
    answers = iter([[[0], [0]], [[0], [1]], [[1], [0]], [[1], [0]], [[0], [1]]])
    validation = Validation(
        lambda k: TopK(np.array(next(answers)), np.ones((2, 1))), Y, Y, "precision_at_1", 2
    )
    records = stage(validation, n_epochs=5)
    assert [record["valid_precision_at_1"] for record in records] == [0.5, 1.0, 0.0, 0.0]


def test_stage_with_a_bar_shows_the_metric(capsys):
    Y = sp.csr_array(np.eye(2))
    validation = Validation(
        lambda k: TopK(np.array([[0], [0]]), np.ones((2, 1))), Y, Y, "precision_at_1", 9
    )
    stage(validation, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "stage x" in err
    assert "8/8" in err
    assert "valid_precision_at_1=0.5" in err
