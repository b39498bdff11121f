"""scikit-learn compatible estimators for extreme multi-label classification."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skxmc.elias import EliasClassifier
    from skxmc.snm import SNMClassifier

try:
    __version__ = version("skxmc")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["EliasClassifier", "SNMClassifier", "__version__"]

# Estimators are loaded on first use, so that `skxmc.metrics` and `skxmc.datasets` never pay for
# importing torch.
_ESTIMATORS = {"EliasClassifier": "skxmc.elias", "SNMClassifier": "skxmc.snm"}


def __getattr__(name: str) -> Any:
    if name in _ESTIMATORS:
        return getattr(import_module(_ESTIMATORS[name]), name)
    raise AttributeError(f"module 'skxmc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
