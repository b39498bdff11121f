"""Data sets, and the file formats of extreme classification. Imports neither torch nor Numba."""

from skxmc.datasets._bundled import load_debian_packages
from skxmc.datasets._synthetic import make_xmc_classification

__all__ = ["load_debian_packages", "make_xmc_classification"]
