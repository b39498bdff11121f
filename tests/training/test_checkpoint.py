"""A fit that is killed goes on from its checkpoint to the same model, bit for bit."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skxmc import EliasClassifier, SNMClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords
from skxmc.training import checkpoint as checkpoint_module
from skxmc.training.checkpoint import Checkpoint
from skxmc.training.loop import Trainer

X, Y = make_xmc_classification(
    n_samples=150, n_features=80, n_labels=40, n_labels_per_row=2.0, noise=0.4, random_state=0
)


def elias(folder=None, **parameters):
    defaults = {
        "encoder": BagOfWords(embedding_dim=12, n_layers=1, feature_dropout=0.1),
        "stage1_epochs": 3,
        "stage2_epochs": 3,
        "max_leaf": 6,
        "pool_size": 24,
        "n_negatives": 6,
        "batch_size": 32,
        "n_jobs": 1,
        "random_state": 0,
    }
    return EliasClassifier(**{**defaults, "checkpoint_dir": folder, **parameters})


def snm(folder=None, **parameters):
    defaults = {
        "encoder": BagOfWords(embedding_dim=12, n_layers=1),
        "max_epochs": 6,
        "pool_size": 24,
        "n_negatives": 6,
        "batch_size": 32,
        "n_jobs": 1,
        "random_state": 0,
    }
    return SNMClassifier(**{**defaults, "checkpoint_dir": folder, **parameters})


# what can be asked of training, so that every kind of state has to survive
RUNS = {
    "elias": (elias, {}),
    "elias, clustered again": (elias, {"recluster": True}),
    "elias, labels from centroids": (elias, {"label_init": "centroids"}),
    "elias, early stopping": (elias, {"early_stopping": True, "patience": 1}),
    "snm": (snm, {}),
    "snm, labels from centroids": (snm, {"label_init": "centroids", "normalize": True}),
    "snm, early stopping": (snm, {"early_stopping": True, "patience": 2, "multilabel": "pick_one"}),
    "snm, annealed": (snm, {"anneal": 0.7, "normalize": True, "sampler": "mixed"}),
}


class Killed(BaseException):
    """No handler of the package catches it, like a signal that ends the process."""


def kill_after_saves(monkeypatch, n_saves):
    """End the fit right after its checkpoint was written for the n-th time."""
    save, done = Checkpoint.save, []

    def killing(self, state):
        save(self, state)
        done.append(1)
        if len(done) == n_saves:
            raise Killed

    monkeypatch.setattr(Checkpoint, "save", killing)


def without_times(history):
    return [{k: v for k, v in r.items() if not k.endswith("seconds")} for r in history]


def assert_same_model(one, other):
    first, second = one.model_.state_dict(), other.model_.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
    assert without_times(one.history_) == without_times(other.history_)
    top, same = one.predict_topk(X, k=3), other.predict_topk(X, k=3)
    np.testing.assert_array_equal(top.scores, same.scores)


@pytest.mark.parametrize("n_saves", range(1, 7))
@pytest.mark.parametrize("name", RUNS)
def test_goes_on_from_every_epoch(name, n_saves, tmp_path, monkeypatch):
    make, parameters = RUNS[name]
    whole = make(**parameters).fit(X, Y)
    kill_after_saves(monkeypatch, n_saves)
    killed = make(tmp_path, **parameters)
    if whole.n_epochs_ < n_saves and not parameters.get("early_stopping"):
        pytest.fail("the run is too short to be killed there")
    try:
        killed.fit(X, Y)
    except Killed:
        assert not hasattr(killed, "model_")
        assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
    else:
        assert whole.n_epochs_ < n_saves, "stopped early, before it could be killed"
    monkeypatch.undo()
    steps, step = [], Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda *args: steps.append(1) or step(*args))
    resumed = make(tmp_path, **parameters).fit(X, Y)
    assert_same_model(resumed, whole)
    n_batches = -(-round(150 * (0.9 if parameters.get("early_stopping") else 1)) // 32)
    if whole.n_epochs_ >= n_saves:
        assert len(steps) == (whole.n_epochs_ - n_saves) * n_batches, "only what was missing"
    assert not list(tmp_path.iterdir()), "a finished fit leaves nothing"


@pytest.mark.parametrize("make", [elias, snm])
def test_goes_on_after_several_kills(make, tmp_path, monkeypatch):
    whole = make().fit(X, Y)
    for n_saves in (2, 1, 2):
        kill_after_saves(monkeypatch, n_saves)
        with pytest.raises(Killed):
            make(tmp_path).fit(X, Y)
        monkeypatch.undo()
    assert_same_model(make(tmp_path).fit(X, Y), whole)


@pytest.mark.parametrize("make", [elias, snm])
def test_goes_on_from_an_earlier_fit(make, tmp_path, monkeypatch):
    before = make(warm_start=True).fit(X, Y)
    whole = clone(before)
    vars(whole).update(vars(before))
    whole.fit(X, Y)
    killed = make(warm_start=True, folder=tmp_path)
    vars(killed).update({**vars(before), "checkpoint_dir": tmp_path})
    kill_after_saves(monkeypatch, 2)
    with pytest.raises(Killed):
        killed.fit(X, Y)
    monkeypatch.undo()
    # another model to start from is another fit
    with pytest.raises(ValueError, match=r"model of the last fit was .* and is None"):
        make(tmp_path, warm_start=True).fit(X, Y)
    assert_same_model(killed.fit(X, Y), whole)


@pytest.mark.parametrize("make", [elias, snm])
def test_a_fit_without_a_seed_goes_on_with_its_own(make, tmp_path, monkeypatch):
    """The start is drawn once; what is held out and drawn later must be as it would have been."""
    parameters = {"random_state": None, "early_stopping": True, "patience": 9}
    kill_after_saves(monkeypatch, 1)
    with pytest.raises(Killed):
        make(tmp_path, **parameters).fit(X, Y)
    monkeypatch.undo()
    saved = (tmp_path / "checkpoint.pt").read_bytes()
    resumed = make(tmp_path, **parameters).fit(X, Y)
    (tmp_path / "checkpoint.pt").write_bytes(saved)
    assert_same_model(make(tmp_path, **parameters).fit(X, Y), resumed)


def test_a_generator_as_random_state(tmp_path, monkeypatch):
    whole = elias(random_state=np.random.RandomState(3)).fit(X, Y)
    kill_after_saves(monkeypatch, 2)
    with pytest.raises(Killed):
        elias(tmp_path, random_state=np.random.RandomState(3)).fit(X, Y)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"random_state was RandomState .* and is RandomState"):
        elias(tmp_path, random_state=np.random.RandomState(4)).fit(X, Y)
    assert_same_model(elias(tmp_path, random_state=np.random.RandomState(3)).fit(X, Y), whole)


def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(tmp_path, monkeypatch):
    whole = elias().fit(X, Y)
    step, done = Trainer._step, []

    def interrupted(*args):
        if len(done) == 12:  # five steps an epoch
            raise KeyboardInterrupt
        done.append(1)
        return step(*args)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    model = elias(tmp_path)
    with pytest.warns(ConvergenceWarning, match="Call fit again for going on from the last whole"):
        model.fit(X, Y)
    assert model.n_epochs_ == 2
    monkeypatch.undo()
    assert_same_model(model.fit(X, Y), whole)


# --- real kills

CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
import test_checkpoint as here
from skxmc.training import checkpoint

torch.set_num_threads(1)
mode, n_saves, folder, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
saves = []

def killed_in(function, before):
    def killing(*args):
        if not before:
            function(*args)
        if len(saves) == n_saves:
            os.kill(os.getpid(), signal.SIGKILL)
        if before:
            function(*args)
    return killing

def half_written(state, path):
    saves.append(1)
    here.torch_save(state, path)
    if mode == "writing" and len(saves) == n_saves:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.torch.save = half_written
if mode in ("before", "after"):
    checkpoint.os.replace = killed_in(os.replace, mode == "before")
print("fitting", flush=True)
model = here.long_fit(folder)
here.torch_save(model.model_.state_dict(), out)
"""
torch_save = torch.save


def long_fit(folder):
    """Some seconds of training, in which a kill may come at any moment."""
    many = {"stage1_epochs": 60, "stage2_epochs": 60}
    return elias(folder, **many).fit(X, Y)


def start(mode, n_saves, folder, out):
    code = CHILD.format(tests=os.path.dirname(__file__))
    child = subprocess.Popen(
        [sys.executable, "-c", code, mode, str(n_saves), str(folder), str(out)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "fitting\n"
    return child


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_sigkill_at_any_moment(tmp_path):
    """Killed while it writes, before and after the file takes its place, and at random."""
    folder, out = tmp_path / "folder", tmp_path / "model.pt"
    for mode, n_saves in (("writing", 3), ("before", 2), ("after", 2), ("writing", 1)):
        child = start(mode, n_saves, folder, out)
        child.communicate(timeout=300)
        assert child.returncode == -signal.SIGKILL, mode
        assert (folder / "checkpoint.pt").exists()
    rng = np.random.default_rng()
    for _ in range(3):
        child = start("random", 0, folder, out)
        time.sleep(rng.uniform(0, 0.5))
        child.kill()
        child.communicate(timeout=300)
        assert (folder / "checkpoint.pt").exists() or out.exists()
    if not out.exists():
        child = start("none", 0, folder, out)
        child.communicate(timeout=600)
        assert child.returncode == 0
    assert not list(folder.iterdir())
    whole = long_fit(None).model_.state_dict()
    resumed = torch.load(out, weights_only=True)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


# --- what is refused


def leave_checkpoint(folder, monkeypatch, **parameters):
    kill_after_saves(monkeypatch, 1)
    with pytest.raises(Killed):
        elias(folder, **parameters).fit(X, Y)
    monkeypatch.undo()
    return folder / "checkpoint.pt"


OTHERS = {
    "dropout": (lambda f: elias(f, dropout=0.2).fit(X, Y), "dropout was 0.6 and is 0.2"),
    "encoder": (
        lambda f: elias(f, encoder=BagOfWords(embedding_dim=12)).fit(X, Y),
        r"encoder was BagOfWords\(.*n_layers=1.* and is BagOfWords\(.*n_layers=0",
    ),
    "label_init": (
        lambda f: elias(f, label_init="centroids").fit(X, Y),
        "label_init was 'zeros' and is 'centroids'",
    ),
    "X": (lambda f: elias(f).fit(2 * X, Y), "X was sparse .* and is sparse"),
    "y": (lambda f: elias(f).fit(X, Y[:, ::-1]), "y was sparse .* and is sparse"),
    "estimator": (
        lambda f: snm(f).fit(X, Y),
        "fit: estimator was EliasClassifier and is SNMClassifier. To",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_fit(other, tmp_path, monkeypatch):
    path = leave_checkpoint(tmp_path, monkeypatch)
    before = path.read_bytes()
    fit, says = OTHERS[other]
    with pytest.raises(ValueError, match=says) as info:
        fit(tmp_path)
    message = str(info.value)
    assert str(path) in message
    assert "delete the file or choose another checkpoint_dir" in message
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["__version__", "FORMAT"])
def test_a_checkpoint_of_another_version(name, tmp_path, monkeypatch):
    leave_checkpoint(tmp_path, monkeypatch)
    if name == "FORMAT":
        monkeypatch.setattr(checkpoint_module, "FORMAT", 99)
        says = "has format 1, and this version of skxmc writes 99"
    else:
        monkeypatch.setattr("skxmc.training.identity.__version__", "99.0")
        says = r"version of skxmc was .* and is 99\.0\."
    with pytest.raises(ValueError, match=says):
        elias(tmp_path).fit(X, Y)


class Bomb:
    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_file_that_is_no_checkpoint_is_not_executed(tmp_path):
    bomb = Bomb()
    bomb.path = tmp_path / "executed"
    folder = tmp_path / "folder"
    folder.mkdir()
    for content in ({"format": 1, "identity": bomb, "state": {}}, {"something": 1}):
        torch.save(content, folder / "checkpoint.pt")
        with pytest.raises(ValueError, match=r"is no readable checkpoint: .*delete the file"):
            elias(folder).fit(X, Y)
    (folder / "checkpoint.pt").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"is no readable checkpoint: .*delete the file"):
        elias(folder).fit(X, Y)
    assert not bomb.path.exists()


@pytest.mark.parametrize(("name", "value"), [("n_jobs", 2), ("verbose", 1), ("memory_limit", None)])
def test_what_does_not_decide_what_is_learned_may_change(name, value, tmp_path, monkeypatch):
    whole = elias().fit(X, Y)
    leave_checkpoint(tmp_path, monkeypatch)
    resumed = elias(tmp_path, **{name: value}).fit(X, Y)
    if name == "n_jobs":  # sums in another order
        assert resumed.n_epochs_ == whole.n_epochs_
    else:
        assert_same_model(resumed, whole)


# --- the file


def test_a_failed_write_leaves_the_last_state(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a" / "b", {"x": "1"})
    assert checkpoint.load() is None
    checkpoint.save({"w": torch.arange(3), "big": 2**100})

    def full(content, path):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save({"w": torch.arange(4)})
    found = checkpoint.load()
    assert found["w"].tolist() == [0, 1, 2]
    assert found["big"] == 2**100
    checkpoint.remove()
    assert not list(checkpoint.folder.iterdir())
    checkpoint.remove()


def test_a_folder_that_cannot_be_made_fails_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Trainer, "run", None)
    with pytest.raises(OSError, match="file"):
        elias(tmp_path / "file" / "folder").fit(X, Y)
