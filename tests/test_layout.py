"""The layout of the package: which room may import which, and what an import may do.

The picture is in CONTRIBUTING.md: rooms stand on floors, and imports go downwards only.
"""

import ast
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "skxmc"

# room (a module or a folder right under skxmc) -> floor
FLOORS = {
    "_numba_cache": 0,
    "_plain_row": 1,
    "_sparse": 0,
    "_targets": 1,
    "_validation": 0,
    "_threads": 0,
    "topk": 0,
    "ops": 1,
    "encoders": 1,
    "losses": 1,
    "negatives": 1,
    "index": 2,
    "heads": 2,
    "datasets": 2,
    "search": 3,
    "metrics": 3,
    "training": 4,
    "base": 4,
    "inspection": 4,
    "model_selection": 4,
    "_trained": 5,
    "elias": 6,
    "snm": 6,
    "calibration": 7,
}
# (importer, imported) on one floor: allowed one by one, never in both directions
SAME_FLOOR = {
    ("topk", "_sparse"),
    ("topk", "_validation"),
    ("encoders", "ops"),
    ("losses", "ops"),
    ("negatives", "ops"),
    ("heads", "index"),
}
# what the package itself hands on, that a room may take from `skxmc`
ROOT_NAMES = {"__version__"}
# `_kernels.py` files may import these besides the standard library, other kernels, `_vectors` (what
# is spelt out for LLVM) and where Numba keeps its cache
KERNEL_IMPORTS = {"numba", "numpy"}
KERNEL_MODULES = ("._kernels", "._vectors", "._numba_cache")
WITHOUT_TORCH = ["skxmc", "skxmc.metrics", "skxmc.datasets", "skxmc.model_selection"]
WITHOUT_TORCH += ["skxmc.search.beam", "skxmc.search.exhaustive"]
MAX_LINES = 450

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(path: Path) -> str:
    """The room a file belongs to; "" for the package's own __init__."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports_of(path: Path) -> Iterator[tuple[str, str | None, int]]:
    """Every import statement, wherever it stands: (module, name or None, line)."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name, node.lineno) for alias in node.names)


def imported_rooms(path: Path) -> Iterator[tuple[str, int]]:
    for module, name, line in imports_of(path):
        parts = module.split(".")
        if parts[0] != "skxmc":
            continue
        if len(parts) > 1:
            yield parts[1], line
        elif name not in ROOT_NAMES:
            yield name or "the package skxmc itself", line


def may_import(importer: str, imported: str) -> bool:
    if importer == imported or (importer, imported) in SAME_FLOOR:
        return True
    return FLOORS[imported] < FLOORS[importer]


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in MODULES} - {""}
    unknown = sorted(rooms - FLOORS.keys())
    assert not unknown, (
        f"rooms without a floor: {unknown}. Add them to FLOORS in {Path(__file__).name} and to "
        "the table in CONTRIBUTING.md: one floor above the highest room they import."
    )


def test_contributing_shows_the_same_floors():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = {
        room: int(floor)
        for floor, cell in re.findall(r"^\| (\d) \| (.*) \|$", text, flags=re.MULTILINE)
        for room in re.findall(r"`(\w+)`", cell)
    }
    assert shown == FLOORS


def test_same_floor_exceptions_are_sound():
    for importer, imported in SAME_FLOOR:
        assert FLOORS[importer] == FLOORS[imported]
        assert (imported, importer) not in SAME_FLOOR, f"{importer} and {imported} go in a circle"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_downwards(path):
    room = room_of(path)
    if room == "":
        return  # the package's __init__ hands on estimators, lazily
    wrong = []
    for imported, line in imported_rooms(path):
        if imported not in FLOORS:
            wrong.append(f"line {line}: {imported} has no floor in {Path(__file__).name}")
        elif not may_import(room, imported):
            wrong.append(
                f"line {line}: {room} (floor {FLOORS[room]}) imports "
                f"{imported} (floor {FLOORS[imported]})"
            )
    assert not wrong, f"{path.relative_to(ROOT)}: " + "; ".join(wrong)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_private_module_of_scikit_learn(path):
    private = [
        f"line {line}: {module}.{name or ''}"
        for module, name, line in imports_of(path)
        if module.split(".")[0] == "sklearn"
        and any(re.match(r"_(?!_)", part) for part in [*module.split("."), name or ""])
    ]
    assert not private, f"{path.relative_to(ROOT)}: {private}"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name == "_kernels.py"], ids=module_name
)
def test_kernels_import_numba_and_numpy_only(path):
    allowed = KERNEL_IMPORTS | sys.stdlib_module_names
    others = [
        f"line {line}: {module}"
        for module, _, line in imports_of(path)
        if module.split(".")[0] not in allowed and not module.endswith(KERNEL_MODULES)
    ]
    assert not others, f"{path.relative_to(ROOT)}: {others}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_files_stay_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: is there a room to split out?"


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_imports_without_torch(module):
    loaded = run_python(f"import sys, {module}; print('torch' in sys.modules)")
    assert loaded.strip() == "False", f"`import {module}` loads torch"


def outside_modules() -> list[str]:
    """What the package imports from elsewhere, as far as it is installed here."""
    names = {module for path in MODULES for module, _, _ in imports_of(path)}
    return sorted(name for name in names if name.split(".")[0] not in ("skxmc", "__future__"))


@pytest.mark.parametrize(("value", "kept"), [("1", True), ("0", False)])
def test_the_environment_says_whether_compiled_code_is_kept(value, kept):
    """Where no cache can be written Numba refuses kernels that want one when they are imported."""
    kernels = [module_name(path) for path in MODULES if path.name == "_kernels.py"]
    found = run_python(f"""
        import os
        os.environ["SKXMC_NUMBA_CACHE"] = {value!r}
        import importlib
        from numba.core.caching import NullCache
        from numba.core.dispatcher import Dispatcher
        for name in {[*kernels, "skxmc._plain_row"]}:
            for kernel in vars(importlib.import_module(name)).values():
                if isinstance(kernel, Dispatcher):
                    print(kernel.__name__, not isinstance(kernel._cache, NullCache))
    """)
    lines = found.splitlines()
    assert len(lines) > 100
    assert {line.split()[1] for line in lines} == {str(kept)}, found


def test_imports_leave_global_state_alone():
    """Import every module one by one after all that they import from elsewhere."""
    code = f"""
        import contextlib, importlib, json, logging, os, random, warnings

        import numba, numpy, sklearn, torch

        for name in {outside_modules()!r}:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)

        def state():
            loggers = [None, "skxmc", "sklearn", "torch", "numba"]
            return {{
                "warnings filters": repr(warnings.filters),
                "logging": [
                    (logging.getLogger(n).level, repr(logging.getLogger(n).handlers))
                    for n in loggers
                ],
                "logging.disable": logging.root.manager.disable,
                "environment": repr(sorted(os.environ.items())),
                "random": repr(random.getstate()),
                "numpy random": repr([part if isinstance(part, (int, float, str)) else
                                      part.tolist() for part in numpy.random.get_state()]),
                "numpy errors": repr(numpy.geterr()),
                "numpy print": repr(numpy.get_printoptions()),
                "torch random": torch.get_rng_state().tolist(),
                "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
                "torch modes": repr((torch.is_grad_enabled(), torch.get_default_dtype(),
                                     torch.are_deterministic_algorithms_enabled(),
                                     torch.get_float32_matmul_precision())),
                "numba": (numba.config.THREADING_LAYER, numba.config.NUMBA_NUM_THREADS,
                          numba.get_num_threads()),
                "numba threading layer": layer(),
                "scikit-learn": repr(sklearn.get_config()),
            }}

        def layer():
            try:
                return numba.threading_layer()
            except ValueError:
                return "not started"

        numba.get_num_threads()  # starts numba's threads, which may set torch's number
        changed = []
        for name in {[module_name(path) for path in MODULES]!r}:
            before = state()
            importlib.import_module(name)
            after = state()
            changed += [(name, key) for key in before if before[key] != after[key]]
        print(json.dumps(changed))
    """
    changed = json.loads(run_python(code))
    assert not changed, f"importing changes global state: {changed}"


# --- files that repeat each other


def pins_in(text: str) -> dict[str, str]:
    return dict(re.findall(r"([A-Za-z0-9_.-]+)==([A-Za-z0-9_.]+)", text))


def constraints(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return pins_in("\n".join(line for line in lines if not line.startswith("#")))


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_pre_commit_and_lint_extra_have_the_same_pins(pyproject):
    declared = pins_in("\n".join(pyproject["project"]["optional-dependencies"]["lint"]))
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    dependencies = re.findall(r"additional_dependencies: \[(.*)\]", text)
    assert len(dependencies) == text.count("language: python")
    pins = [pin for line in dependencies for pin in pins_in(line).items()]
    assert pins
    for name, version in pins:
        assert declared.get(name) == version, f"{name}: pre-commit pins {version}"


def test_constraints_fit_the_declared_dependencies(pyproject):
    extras = pyproject["project"]["optional-dependencies"]
    exact = constraints("constraints.txt")
    for requirement in [
        *pyproject["build-system"]["requires"],
        *pyproject["project"]["dependencies"],
        *(line for lines in extras.values() for line in lines),
    ]:
        name, rule, version = re.fullmatch(r"([\w\[\].-]+?)(?:(==|>=)(.+))?", requirement).groups()
        if name.startswith("skxmc["):
            continue
        known = {key.lower().replace("_", "-"): value for key, value in exact.items()}
        pinned = known.get(name.lower().replace("_", "-"))
        assert pinned is not None, f"constraints.txt lacks {name}"
        if rule == "==":
            assert pinned == version, f"constraints.txt has {name} {pinned}"


def test_oldest_constraints_are_the_declared_floors(pyproject):
    extras = pyproject["project"]["optional-dependencies"]
    declared = [
        *pyproject["build-system"]["requires"],
        *pyproject["project"]["dependencies"],
        *extras["plot"],
        *extras["test"],
    ]
    oldest = constraints("constraints-oldest.txt")
    for requirement in declared:
        name, floor = requirement.split(">=")
        if name == "torch":
            continue  # the file says why
        assert name in oldest, f"constraints-oldest.txt lacks {name}"
        same = f"{oldest[name]}.".startswith(f"{floor}.")
        assert same, f"{name}: declared >={floor}, tested {oldest[name]}"
