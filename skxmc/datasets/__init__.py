"""Data sets, and the file formats of extreme classification. Imports neither torch nor Numba."""

from skxmc.datasets._bundled import load_debian_packages
from skxmc.datasets._files import XMCFormatError
from skxmc.datasets._lf import apply_filter, load_filter_pairs, load_xmc_json
from skxmc.datasets._npz import dump_xmc_npz, load_xmc_npz
from skxmc.datasets._synthetic import make_xmc_classification
from skxmc.datasets._text_reader import load_sparse_file, load_xmc_file
from skxmc.datasets._text_writer import dump_sparse_file, dump_xmc_file

__all__ = [
    "XMCFormatError",
    "apply_filter",
    "dump_sparse_file",
    "dump_xmc_file",
    "dump_xmc_npz",
    "load_debian_packages",
    "load_filter_pairs",
    "load_sparse_file",
    "load_xmc_file",
    "load_xmc_json",
    "load_xmc_npz",
    "make_xmc_classification",
]
