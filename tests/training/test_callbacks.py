"""Timer, progress bar and early stopping."""

import logging
import time

import pytest
import torch
from torch import nn

from skxmc.training.callbacks import Callback, EarlyStopping, ProgressBar, Timer


def test_hooks_do_nothing_by_default():
    callback = Callback()
    record = {"epoch": 1.0}
    callback.on_train_begin(1, 1)
    callback.on_batch_end()
    assert callback.on_epoch_end(record) is False
    callback.on_train_end()
    assert record == {"epoch": 1.0}


def test_timer_measures_each_epoch_by_itself(monkeypatch):
    wall, cpu = iter([10.0, 13.0, 14.5]), iter([1.0, 1.25, 3.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(time, "process_time", lambda: next(cpu))
    timer, records = Timer(), [{}, {}]
    timer.on_train_begin(2, 5)
    assert [timer.on_epoch_end(record) for record in records] == [False, False]
    assert records == [
        {"seconds": 3.0, "cpu_seconds": 0.25},
        {"seconds": 1.5, "cpu_seconds": 2.0},
    ]


def run_bar(n_epochs=2, n_batches=3):
    bar = ProgressBar("stage 1")
    bar.on_train_begin(n_epochs, n_batches)
    for epoch in range(n_epochs):
        for _ in range(n_batches):
            bar.on_batch_end()
        record = {"epoch": epoch + 1.0, "loss": 0.125 / (epoch + 1), "seconds": 9.0, "ndcg": 0.75}
        assert bar.on_epoch_end(record) is False
    bar.on_train_end()
    return bar


def test_progress_bar_goes_to_stderr(capsys):
    run_bar()
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1].split("\r")[-1]
    assert "stage 1" in last
    assert "6/6" in last
    assert "loss=0.0625" in last
    assert "ndcg=0.75" in last
    assert "seconds" not in last


def test_progress_bar_is_closed(capsys):
    bar = run_bar()
    assert bar._bar.disable, "tqdm's mark of a closed bar"


class Script:
    """Early stopping fed with given scores; the module's weight is the epoch's number."""

    def __init__(self, scores, patience=2):
        self.module = nn.Linear(1, 1, bias=False)
        self.module.register_buffer("table", torch.zeros(1))
        feed = iter(scores)
        self.stopping = EarlyStopping("ndcg_at_5", lambda: next(feed), self.module, patience)
        self.n_scores = len(scores)

    def run(self):
        self.stopping.on_train_begin(self.n_scores, 1)
        records = []
        for epoch in range(1, self.n_scores + 1):
            self.module.weight.data.fill_(epoch)
            self.module.table.fill_(epoch)
            records.append({"epoch": epoch})
            if self.stopping.on_epoch_end(records[-1]):
                break
        self.stopping.on_train_end()
        return records

    @property
    def kept(self):
        weight = self.module.weight.item()
        assert weight == self.module.table.item()
        return int(weight)


@pytest.mark.parametrize(
    ("scores", "patience", "n_epochs", "best"),
    [
        ([0.1, 0.3, 0.2, 0.25, 0.9], 2, 4, 2),
        ([0.1, 0.3, 0.2, 0.25, 0.9], 3, 5, 5),
        ([0.5, 0.4], 1, 2, 1),
        ([0.1, 0.2, 0.3], 1, 3, 3),
        ([0.3, 0.3, 0.3], 2, 3, 1),  # a tie is no improvement
        ([0.0, 0.0], 5, 2, 1),
        ([-2.0, -3.0], 5, 2, 1),
        ([0.2, float("nan"), 0.1, 0.3], 3, 4, 4),
        ([0.2, float("nan"), float("nan")], 2, 3, 1),
    ],
)
def test_early_stopping(scores, patience, n_epochs, best):
    script = Script(scores, patience)
    records = script.run()
    assert len(records) == n_epochs
    assert [r["valid_ndcg_at_5"] for r in records] == pytest.approx(scores[:n_epochs], nan_ok=True)
    assert script.kept == best


def test_early_stopping_begins_anew_with_every_run():
    script = Script([0.9, 0.8])
    script.run()
    assert script.kept == 1
    feed = iter([0.1, 0.2])
    script.stopping.measure = lambda: next(feed)
    script.run()
    assert script.kept == 2, "0.9 was of another run"


def test_early_stopping_keeps_copies_not_references():
    script = Script([0.9, 0.1])
    script.stopping.on_train_begin(2, 1)
    script.module.weight.data.fill_(1)
    script.stopping.on_epoch_end({})
    script.module.weight.data.fill_(2)
    script.stopping.on_train_end()
    assert script.module.weight.item() == 1


def test_early_stopping_without_an_epoch_changes_nothing():
    script = Script([])
    before = script.module.weight.clone()
    script.run()
    assert torch.equal(script.module.weight, before)


def test_early_stopping_says_what_it_restored(caplog):
    with caplog.at_level(logging.INFO, logger="skxmc.training.callbacks"):
        Script([0.25, 0.1]).run()
    assert "valid_ndcg_at_5 = 0.2500" in caplog.text
