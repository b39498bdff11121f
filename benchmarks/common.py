"""What the benchmark scripts share: the machine's name, data, tables and result files."""

import argparse
import datetime
import json
import os
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from peers.environments import cache_folder

HERE = Path(__file__).resolve().parent
PARTS = ("X_train", "Y_train", "X_test", "Y_test")
# what is measured of every method compared; coverage is the share of labels hit at least once
METRICS = {
    "precision": (1, 3, 5),
    "ndcg": (5,),
    "psp": (1, 3, 5),
    "recall": (10, 100),
    "coverage": (5,),
}
SHORT = {"precision": "P", "ndcg": "nDCG", "psp": "PSP", "recall": "R", "coverage": "cov"}


def describe_machine() -> dict:
    """Name the machine, the versions and the commit that a figure belongs to."""
    packages = ("numpy", "scipy", "scikit-learn", "torch", "numba")
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def load_folder(folder: Path):
    """Read X_train.npz, Y_train.npz, X_test.npz, Y_test.npz as CSR."""
    return tuple(sp.csr_array(sp.load_npz(folder / f"{part}.npz")) for part in PARTS)


def load_bundled():
    """TF-IDF features and labels of the bundled Debian packages."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    from skxmc.datasets import load_debian_packages

    data = load_debian_packages()
    vectorizer = TfidfVectorizer(
        sublinear_tf=True,
        min_df=2,
        ngram_range=(1, 2),
        token_pattern=r"(?u)\b\w+\b",
        dtype=np.float32,
    )
    X_train = vectorizer.fit_transform(data.data_train)
    X_test = vectorizer.transform(data.data_test)
    return X_train, data.target_train, X_test, data.target_test


def data_folders(named: list[str]) -> list[Path]:
    """Return the folders named on the command line, or one with the bundled data."""
    if named:
        return [Path(name) for name in named]
    folder = cache_folder() / "data" / "bundled"
    folder.mkdir(parents=True, exist_ok=True)
    for part, matrix in zip(PARTS, load_bundled(), strict=True):
        sp.save_npz(folder / f"{part}.npz", sp.csr_matrix(matrix))
    return [folder]


def competitor_parser(description: str) -> argparse.ArgumentParser:
    """Make the command line that scripts with competitors share."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("folders", nargs="*", help="data folders; the bundled data by default")
    parser.add_argument("--only", nargs="+", help="`ours`, `peers`, names of competitors")
    parser.add_argument("--models", type=Path, default=cache_folder() / "models")
    return parser


def find_quality(session, folder: Path) -> tuple[dict, dict[str, float]]:
    """Ask a session for the best 100 labels of all test rows; return its costs and metrics."""
    k = min(100, n_labels(folder))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "top.npz"
        return session.ask(f"predict --k {k} --out {out}"), quality(folder, out)


def n_labels(folder: Path) -> int:
    """Count the labels of a data folder."""
    return sp.load_npz(folder / "Y_train.npz").shape[1]


def quality(folder: Path, found: Path) -> dict[str, float]:
    """Metrics in percent of label columns that a competitor wrote to an npz file, best first."""
    from skxmc.metrics import evaluate_topk, propensities
    from skxmc.topk import TopK

    _, Y_train, _, Y_test = load_folder(folder)
    with np.load(found) as file:
        top = TopK(file["indices"].astype(np.int64), file["scores"])
    Y_test, deepest = Y_test[: top.indices.shape[0]], top.indices.shape[1]
    values: dict[str, float] = {}
    for metric, ks in METRICS.items():
        ks = sorted({min(k, deepest) for k in ks})
        values |= evaluate_topk(Y_test, top, ks, [metric], propensities=propensities(Y_train))
    return {
        f"{SHORT[metric]}@{k}": 100 * values[f"{metric}_at_{min(k, deepest)}"]
        for metric, ks in METRICS.items()
        for k in ks
    }


def load_results(name: str) -> list[dict]:
    """Return what an earlier run wrote, nothing if there was none."""
    target = HERE / "results" / f"{name}.json"
    return json.loads(target.read_text())["results"] if target.exists() else []


def save(name: str, results) -> Path:
    """Write results/<name>.json beside this file."""
    target = HERE / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"machine": describe_machine(), "results": results}, indent=1))
    return target


def print_machine() -> None:
    """Print what `describe_machine` tells."""
    for key, value in describe_machine().items():
        print(f"{key}: {value}")


def print_table(rows: list[dict]) -> None:
    """Print dicts with the same keys as a table."""
    widths = {key: max(len(key), *(len(_cell(row[key])) for row in rows)) for key in rows[0]}
    print("  ".join(key.rjust(width) for key, width in widths.items()))
    for row in rows:
        print("  ".join(_cell(row[key]).rjust(width) for key, width in widths.items()))


def _cell(value) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((li.split(":")[1].strip() for li in lines if li.startswith("model name")), "?")
