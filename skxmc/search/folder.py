"""Arrays in a folder: one .npy file each, to be memory-mapped, and a small json that lists them."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_folder", "write_folder"]

_INDEX = "graph.json"
_FORMAT = "skxmc.SearchGraph"
_VERSION = 4


def write_folder(folder: str | os.PathLike, arrays: dict[str, np.ndarray], values: dict) -> None:
    """Write arrays and plain values into a folder that appears whole or not at all.

    Parameters
    ----------
    folder : path
        Created, or replaced if it is empty or was written by this function.
    arrays : dict of ndarray
        By name.
    values : dict
        What json can hold.

    Raises
    ------
    FileExistsError
        If there is something else under that name.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / _INDEX).is_file() and not _is_empty(folder):
        raise FileExistsError(
            f"{folder} exists and is no saved SearchGraph; name a folder that does not exist yet."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new, old = work / "new", work / "old"
        new.mkdir()
        for name, array in arrays.items():
            np.save(new / f"{name}.npy", array, allow_pickle=False)
        index = {"format": _FORMAT, "version": _VERSION, "arrays": sorted(arrays), "values": values}
        (new / _INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read_folder(folder: str | os.PathLike, *, mmap: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `write_folder` wrote.

    Parameters
    ----------
    folder : path
        The folder.
    mmap : bool
        Map the files into memory, read-only, instead of reading them.

    Returns
    -------
    arrays : dict of ndarray or memmap
    values : dict

    Raises
    ------
    FileNotFoundError
        If the folder or one of its files is not there.
    ValueError
        If the folder holds something else, or was written in another version of the format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; name one that SearchGraph.save wrote.")
    index = _read_index(folder)
    arrays: dict[str, Any] = {}
    for name in index["arrays"]:
        file = folder / f"{name}.npy"
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing, the copy is incomplete; copy it again.")
        arrays[name] = np.load(file, mmap_mode="r" if mmap else None, allow_pickle=False)
    return arrays, index["values"]


def _read_index(folder: Path) -> dict:
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        index = None
    if not isinstance(index, dict) or index.get("format") != _FORMAT:
        raise ValueError(f"{folder} holds no SearchGraph: its {_INDEX} is missing or foreign.")
    if index["version"] != _VERSION:
        raise ValueError(
            f"{folder} has version {index['version']!r} of the format, this skxmc reads "
            f"version {_VERSION}; use the skxmc that wrote it, or save it anew."
        )
    return index


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
