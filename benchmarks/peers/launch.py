"""The launching side of the protocol: fresh processes, models kept on disk with their figures."""

import datetime
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import sklearn

from peers.competitors import Competitor
from peers.environments import RECIPES, python_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"),
)


class Session:
    """A competitor's process that has loaded its model and answers one command after the other.

    ``session.loaded`` holds what loading cost. A context manager: leaving it ends the process.
    """

    def __init__(self, competitor: Competitor, data: Path, model: Path, threads: int):
        arguments = ["serve", str(data), str(model), "--params", json.dumps(competitor.load)]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the session
        self.process = subprocess.Popen(
            [*_command(competitor), *arguments, "--threads", str(threads)],
            env=_environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.name = competitor.name
        self.loaded = self._read()

    def ask(self, command: str) -> dict:
        """Send ``predict ...`` or ``single ...`` and wait for the figures."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise RuntimeError(f"{self.name} ended:\n{_tail(self.log)}")
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


def run(competitor: Competitor, verb: str, data: Path, model: Path, *options, threads=1) -> dict:
    """Carry out one command in a fresh process."""
    with tempfile.TemporaryFile("w+") as log:
        done = subprocess.run(
            [*_command(competitor), verb, str(data), str(model), *map(str, options)]
            + ["--threads", str(threads)],
            env=_environment(threads),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{competitor.name}, {verb}: exit {done.returncode}\n{_tail(log)}")
    return json.loads(done.stdout)


def fit(competitor: Competitor, data: Path, models: Path, threads=1, seed=0) -> tuple[Path, dict]:
    """Train in a fresh process; return the model's folder and the figures, kept beside it."""
    folder = _model_folder(competitor, data, models, seed)
    record = folder.with_name(folder.name + ".json")
    record.unlink(missing_ok=True)
    params = {**competitor.fit, "random_state": seed} if competitor.ours else competitor.fit
    options = ("--params", json.dumps(params))
    figures = run(competitor, "fit", data, folder, *options, threads=threads)
    kept = {
        "configuration": configuration(competitor, data, threads, seed),
        "date": datetime.datetime.now().isoformat(timespec="minutes"),
        "fit": figures,
    }
    record.write_text(json.dumps(kept))
    return folder, kept


def kept_model(competitor: Competitor, data: Path, models: Path, seed=0):
    """Return folder and record of a model trained earlier, (folder, None) if there is none."""
    folder = _model_folder(competitor, data, models, seed)
    record = folder.with_name(folder.name + ".json")
    return folder, json.loads(record.read_text()) if record.exists() else None


def configuration(competitor: Competitor, data: Path, threads: int, seed: int) -> dict:
    """Return everything that a model and its figures of training depend on, but the machine."""
    if competitor.script in RECIPES:
        version = RECIPES[competitor.script]
    else:
        version = source_digest() if competitor.ours else sklearn.__version__
    return {
        "script": competitor.script,
        "version": version,
        "fit": competitor.fit,
        "seed": seed if competitor.ours else None,
        "threads": threads,
        "data": fingerprint(data),
    }


def source_digest() -> str:
    """Digest of the package's sources: a result of other sources is another result."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "skxmc").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def fingerprint(data: Path) -> list[int]:
    """Sizes of a data folder, and sums that tell one data set from another."""
    X, Y = (sp.load_npz(data / f"{part}_train.npz") for part in "XY")
    weighted = int(np.dot(Y.indices % 1009, np.arange(Y.nnz) % 1013))
    return [*X.shape, Y.shape[1], int(X.nnz), int(Y.nnz), weighted]


def _model_folder(competitor: Competitor, data: Path, models: Path, seed: int) -> Path:
    key = json.dumps([competitor.fit, seed if competitor.ours else None], sort_keys=True)
    name = f"{competitor.script}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return models / data.name / name


def _command(competitor: Competitor) -> list[str]:
    own = competitor.script not in RECIPES
    python = sys.executable if own else str(python_of(competitor.script))
    return [python, str(HERE / f"run_{competitor.script}.py")]


def _environment(threads: int) -> dict[str, str]:
    limits = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**os.environ, **limits, "PYTHONPATH": str(ROOT)}


def _tail(log) -> str:
    log.seek(0)
    return "\n".join(log.read().splitlines()[-20:])
