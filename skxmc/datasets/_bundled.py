"""Real data that travels with the package."""

import lzma
import zlib
from collections.abc import Iterable
from importlib import resources

import numpy as np
import scipy.sparse as sp
from sklearn.utils import Bunch

_TEST_EVERY = 5


def load_debian_packages() -> Bunch:
    """Load the Debian packages: short texts, 37,891 labels, a split into train and test.

    Each row is a package of Debian 12; its text is name, section and one-line description, its
    labels are the packages it depends on or recommends. ``DESCR`` tells how the data was made and
    on what terms it is distributed. Takes about half a second; nothing is downloaded.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like, with the attributes:

        data_train, data_test : list of str
            45,618 and 10,991 texts.
        target_train, target_test : csr_array of shape (n_rows, n_labels), dtype int8
            1 where the row has the label. Each row has at least one label, and each label has at
            least one row of the training part.
        target_names : ndarray of shape (n_labels,), dtype str
            The labels in the order of the columns, sorted.
        names_train, names_test : ndarray of shape (n_rows,), dtype str
            The package of each row, sorted.
        DESCR : str
            Source, rules and licence.

    Raises
    ------
    FileNotFoundError
        If the installation lacks the data file.

    See Also
    --------
    make_xmc_classification : Synthetic data of any size.

    Notes
    -----
    A row is in the test part if the CRC-32 of the package name is divisible by 5, so the split is
    the same in every build.

    Examples
    --------
    >>> from skxmc.datasets import load_debian_packages
    >>> packages = load_debian_packages()
    >>> packages.target_train.shape
    (45618, 37891)
    >>> packages.data_train[7]
    '2to3 2to3 python 2to3 binary using python3'
    >>> packages.target_names[packages.target_train[[7]].indices].tolist()
    ['python3', 'python3-lib2to3']
    """
    folder = resources.files("skxmc.datasets") / "data"
    text = lzma.decompress((folder / "debian_packages.tsv.xz").read_bytes()).decode()
    records = [line.split("\t") for line in text.rstrip("\n").split("\n")]
    test = [record for record in records if _is_test(record[0])]
    train = [record for record in records if not _is_test(record[0])]
    # Test rows have no other labels than those of the training part.
    names = sorted({label for record in train for label in record[3].split(" ")})
    column = {label: i for i, label in enumerate(names)}
    return Bunch(
        data_train=[_text(*record[:3]) for record in train],
        data_test=[_text(*record[:3]) for record in test],
        target_train=_targets((record[3] for record in train), column),
        target_test=_targets((record[3] for record in test), column),
        target_names=np.array(names),
        names_train=np.array([record[0] for record in train]),
        names_test=np.array([record[0] for record in test]),
        DESCR=(folder / "debian_packages.rst").read_text(encoding="utf-8"),
    )


def _is_test(name: str) -> bool:
    return zlib.crc32(name.encode()) % _TEST_EVERY == 0


def _text(name: str, section: str, description: str) -> str:
    # A name may hold two hyphens in a row; the text has single blanks.
    return " ".join(f"{name} {name.replace('-', ' ')} {section} {description}".split())


def _targets(labels: Iterable[str], column: dict[str, int]) -> sp.csr_array:
    """Turn the blank-separated names of each row into 0/1 columns; names are sorted in a row."""
    rows = [[column[name] for name in names.split(" ")] for names in labels]
    indptr = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    indices = np.array([i for row in rows for i in row], dtype=np.int32)
    data = np.ones(len(indices), dtype=np.int8)
    return sp.csr_array((data, indices, indptr), shape=(len(rows), len(column)))
