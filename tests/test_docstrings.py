"""Public names have full numpydoc docstrings, and the API reference is complete.

Public is what docs/api.rst lists; rooms it does not show are for those who work on the package.
"""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from numpydoc.validate import validate

import skxmc

API_PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.rst"

# numpydoc's checks that the house style does without.
IGNORED = {
    "GL01",  # the summary starts on the line of the opening quotes (pydocstyle's D212)
    "ES01",  # an extended summary only where there is more to say
    "SA01",  # "See Also" only where there is something to see
    "SA04",  # ... and names that speak for themselves need no description there
    "RT02",  # a single return value may have a name, as in scikit-learn
    "EX01",  # examples: required below, of functions and classes but not of each method
}


def public_modules():
    yield skxmc
    for info in pkgutil.walk_packages(skxmc.__path__, "skxmc."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            yield importlib.import_module(info.name)


def exported_names() -> dict[str, object]:
    """`module.name` -> object, for each function and class in the `__all__` of a public module."""
    found = {}
    for module in public_modules():
        for name in getattr(module, "__all__", []):
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found[f"{module.__name__}.{name}"] = thing
    return found


def documented_names() -> dict[str, object]:
    """The same for what docs/api.rst lists: the entries under each `currentmodule`."""
    found, module = {}, None
    for line in API_PAGE.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\.\. currentmodule:: ([\w.]+)", line):
            module = importlib.import_module(match[1])
        elif match := re.fullmatch(r"   ([A-Za-z_]\w*)", line):
            found[f"{module.__name__}.{match[1]}"] = getattr(module, match[1])
    return found


def own_methods(qualified: str, cls: type):
    """Public methods and properties defined in skxmc, inherited ones among them."""
    for name, member in inspect.getmembers_static(cls):
        function = member.fget if isinstance(member, property) else inspect.unwrap(member)
        function = getattr(function, "__func__", function)
        defined_here = getattr(function, "__module__", "") or ""
        if name.startswith("_") or not defined_here.startswith("skxmc"):
            continue
        if inspect.isfunction(function):
            yield f"{qualified}.{name}"


EXPORTED = exported_names()
DOCUMENTED = documented_names()
PUBLIC = DOCUMENTED
METHODS = sorted(
    method
    for name, thing in PUBLIC.items()
    if inspect.isclass(thing)
    for method in own_methods(name, thing)
)


def complaints(name: str, ignored: set[str]) -> list[str]:
    return [f"{code} {text}" for code, text in validate(name)["errors"] if code not in ignored]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_functions_and_classes(name):
    ignored = IGNORED - {"EX01"}
    if inspect.isclass(PUBLIC[name]) and issubclass(PUBLIC[name], (tuple, Exception)):
        ignored |= {"PR01"}  # what a NamedTuple or an exception holds stands under Attributes
    if getattr(PUBLIC[name], "_is_protocol", False) or name.endswith(".Encoder"):
        ignored |= {"PR01"}  # an interface is not called
    assert not complaints(name, ignored)


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    assert not complaints(name, IGNORED)


def test_api_page_is_complete():
    """Of a module that the page shows, it shows every exported name."""
    shown = {name.rpartition(".")[0] for name in DOCUMENTED}
    assert "skxmc" in shown
    missing = [
        name for name in EXPORTED.keys() - DOCUMENTED.keys() if name.rpartition(".")[0] in shown
    ]
    assert not missing, f"docs/api.rst lacks {sorted(missing)}"
