"""The runners' side of the protocol: one competitor in a fresh process, one JSON object a line.

    python run_NAME.py fit     DATA MODEL [--params JSON] [--threads N]
    python run_NAME.py predict DATA MODEL [--k K] [--rows N] [--seconds S] [--out FILE.npz]
    python run_NAME.py single  DATA MODEL [--rows N] [--k K]
    python run_NAME.py serve   DATA MODEL      # then `predict ...` and `single ...` on stdin

DATA is a folder of X_train.npz, Y_train.npz, X_test.npz; MODEL a folder that `fit` writes. What
is measured are a library's own calls: `train`, `load` and `search` of a `Runner`. Conversions to
the formats it wants and back are not timed. Only numpy and scipy are needed here, since this
module is imported in the environment of each peer.
"""

import argparse
import json
import os
import resource
import shlex
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

WARM_UP_ROWS = 20


class Runner:
    """What a competitor's script implements; `params` comes from ``--params``."""

    def __init__(self, params: dict, threads: int):
        self.params, self.threads = params, threads

    def warm_up(self) -> None:
        """Compile what is compiled on first use. Not timed."""

    def prepare_training(self, X, Y, folder: Path):
        """Convert training data to what `train` takes. Not timed."""
        return X, Y

    def train(self, data, folder: Path):
        """Train a model. Timed."""
        raise NotImplementedError

    def save(self, model, folder: Path) -> None:
        """Write the model to a folder, where `train` did not. Not timed."""

    def prepare_model(self, folder: Path) -> None:
        """Convert the model on disk, once, to what `load` reads. Not timed."""

    def load(self, folder: Path) -> None:
        """Load the model for prediction. Timed."""
        raise NotImplementedError

    def prepare_queries(self, X):
        """Convert feature rows to what `search` takes. Not timed."""
        return X

    def search(self, queries, k: int):
        """Find the best k labels of each row. Timed."""
        raise NotImplementedError

    def as_topk(self, found, k: int):
        """Return label columns (n_rows, k), -1 where missing, and scores. Not timed."""
        return found


class Stopwatch:
    """CPU seconds of this process and its children, and wall seconds, since it was made."""

    def __init__(self):
        self.start = _cpu_seconds(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Return CPU and wall seconds."""
        return _cpu_seconds() - self.start[0], time.perf_counter() - self.start[1]


def main(runner_type: type[Runner]) -> None:
    """Carry out the command line's command."""
    args = _parser().parse_args()
    answer = _claim_stdout()
    runner = runner_type(json.loads(args.params), args.threads)
    folder, model = Path(args.data), Path(args.model)
    if args.command == "fit":
        answer(_fit(runner, folder, model))
        return
    X = sp.csr_matrix(sp.load_npz(folder / "X_test.npz"))
    loaded = _load(runner, X, model)
    if args.command == "serve":
        answer(loaded)
        for line in sys.stdin:
            asked = _command_parser().parse_args(shlex.split(line))
            answer(_answer(runner, X, asked))
    else:
        answer({**loaded, **_answer(runner, X, args)})


def pairs_to_topk(rows, k: int):
    """Arrays from a list of (label, score) pairs for each row, best first."""
    indices = np.full((len(rows), k), -1, dtype=np.int64)
    scores = np.full((len(rows), k), -np.inf, dtype=np.float32)
    for i, pairs in enumerate(rows):
        for j, (label, score) in enumerate(pairs[:k]):
            indices[i, j], scores[i, j] = label, score
    return indices, scores


def _fit(runner: Runner, data: Path, model: Path) -> dict:
    X, Y = (sp.csr_matrix(sp.load_npz(data / f"{part}_train.npz")) for part in "XY")
    shutil.rmtree(model, ignore_errors=True)
    model.mkdir(parents=True)
    runner.warm_up()
    prepared = runner.prepare_training(X, Y, model)
    _reset_peak()
    watch = Stopwatch()
    trained = runner.train(prepared, model)
    cpu, wall = watch.read()
    peak = _memory("VmHWM")
    runner.save(trained, model)
    size = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
    return {"fit_cpu_s": cpu, "fit_wall_s": wall, "peak_mb": peak, "model_mb": size / 1e6}


def _load(runner: Runner, X, model: Path) -> dict:
    runner.prepare_model(model)
    before = _memory("VmRSS")
    watch = Stopwatch()
    runner.load(model)
    cpu, wall = watch.read()
    first = runner.prepare_queries(X[:1])
    watch = Stopwatch()
    runner.search(first, 5)
    first_cpu = watch.read()[0]
    after = _memory("VmRSS")
    times = {"load_cpu_s": cpu, "load_wall_s": wall, "first_query_cpu_s": first_cpu}
    return {**times, "rss_mb": after, "model_rss_mb": after - before}


def _answer(runner: Runner, X, args) -> dict:
    X = X[: args.rows] if args.rows else X
    k = args.k
    return _single(runner, X, k) if args.command == "single" else _predict(runner, X, k, args)


def _predict(runner: Runner, X, k: int, args) -> dict:
    queries = runner.prepare_queries(X)
    runner.search(runner.prepare_queries(X[:WARM_UP_ROWS]), k)
    runs, watch = 0, Stopwatch()
    while True:
        found = runner.search(queries, k)
        runs += 1
        cpu, wall = watch.read()
        if wall >= args.seconds:
            break
    if args.out:
        indices, scores = runner.as_topk(found, k)
        np.savez_compressed(args.out, indices=indices.astype(np.int32), scores=scores)
    rows = runs * X.shape[0]
    rates = {"rows_per_cpu_s": rows / cpu, "rows_per_wall_s": rows / wall}
    return {"rows": X.shape[0], "runs": runs, "cpu_s": cpu, "wall_s": wall, **rates}


def _single(runner: Runner, X, k: int) -> dict:
    queries = [runner.prepare_queries(X[i : i + 1]) for i in range(X.shape[0])]
    for query in queries[:WARM_UP_ROWS]:
        runner.search(query, k)
    cpu, wall = np.empty(len(queries)), np.empty(len(queries))
    for i, query in enumerate(queries):
        cpu_start, wall_start = time.process_time_ns(), time.perf_counter_ns()
        runner.search(query, k)
        wall[i] = time.perf_counter_ns() - wall_start
        cpu[i] = time.process_time_ns() - cpu_start
    return {
        f"{what}_ms_p{percent}": float(np.percentile(times, percent)) / 1e6
        for what, times in (("cpu", cpu), ("wall", wall))
        for percent in (50, 99)
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("fit", "predict", "single", "serve"):
        command = commands.add_parser(name)
        command.add_argument("data")
        command.add_argument("model")
        command.add_argument("--params", default="{}", help="JSON object")
        command.add_argument("--threads", type=int, default=1)
        if name in ("predict", "single"):
            _add_search_options(command)
    return parser


def _command_parser() -> argparse.ArgumentParser:
    """Parse what `serve` reads on stdin."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("predict", "single"))
    _add_search_options(parser)
    return parser


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--rows", type=int, default=0, help="the first N test rows; 0 means all")
    parser.add_argument("--seconds", type=float, default=0.0, help="repeat for so long")
    parser.add_argument("--out", help="npz file for the labels found and their scores")


def _claim_stdout():
    """Keep stdout for answers: whatever a library prints goes to stderr."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(result: dict) -> None:
        print(json.dumps(result), file=channel, flush=True)

    return answer


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> float:
    """Read a field of the process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6
