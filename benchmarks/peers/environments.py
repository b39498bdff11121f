"""A virtual environment for each peer, made by recipe outside the source tree.

    python benchmarks/peers/environments.py             # all of them
    python benchmarks/peers/environments.py pecos ...   # some of them

They go below the folder named by the environment variable SKXMC_BENCH_CACHE, by default
``~/.cache/skxmc-bench``. This is the only part of the benchmarks that fetches anything, from the
package index that pip is set up with.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Arguments of one `pip install` after the other. The libpecos wheel declares torch, transformers
# and more, which its linear models never import; it does need the old numpy and scipy.
RECIPES: dict[str, list[list[str]]] = {
    "pecos": [["numpy<2", "scipy<1.14", "scikit-learn"], ["--no-deps", "libpecos==1.2.8"]],
    "omikuji": [["omikuji==0.5.2", "numpy", "scipy"]],
    "napkinxc": [["napkinxc==0.7.2", "numpy", "scipy"]],
}


class PeerMissing(RuntimeError):
    """The environment of a peer was not made, or by another recipe."""


def cache_folder() -> Path:
    """Where environments, models and converted data are kept."""
    return Path(os.environ.get("SKXMC_BENCH_CACHE", "~/.cache/skxmc-bench")).expanduser()


def python_of(name: str) -> Path:
    """Return the interpreter of a peer's environment."""
    folder = _folder(name)
    if _recipe_of(folder) != RECIPES[name]:
        raise PeerMissing(
            f"there is no environment for {name} in {folder.parent}; make it with "
            f"`python {Path(os.path.relpath(__file__))} {name}`, or set SKXMC_BENCH_CACHE"
        )
    return folder / "bin" / "python"


def make(name: str) -> Path:
    """Make the environment of a peer, unless it is there."""
    folder = _folder(name)
    if _recipe_of(folder) == RECIPES[name]:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    for arguments in RECIPES[name]:
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, "--disable-pip-version-check", *arguments], check=True)
    (folder / "recipe.json").write_text(json.dumps(RECIPES[name]))
    return folder


def _folder(name: str) -> Path:
    return cache_folder() / "environments" / name


def _recipe_of(folder: Path):
    path = folder / "recipe.json"
    return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    for peer in sys.argv[1:] or RECIPES:
        if peer not in RECIPES:
            sys.exit(f"{peer!r} is no peer; known are {', '.join(RECIPES)}")
        print(peer, make(peer))
