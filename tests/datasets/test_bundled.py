"""The bundled data, the rules of the script that builds it, and what importing costs."""

import importlib.util
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import skxmc.datasets
from skxmc.datasets import load_debian_packages

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(skxmc.datasets.__file__).parent / "data"


@pytest.fixture(scope="module")
def packages():
    return load_debian_packages()


@pytest.fixture(scope="module")
def builder():
    path = ROOT / "tools" / "build_debian_packages.py"
    spec = importlib.util.spec_from_file_location("build_debian_packages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_counts(packages):
    n_labels = len(packages.target_names)
    assert packages.target_train.shape == (len(packages.data_train), n_labels) == (45618, 37891)
    assert packages.target_test.shape == (len(packages.data_test), n_labels) == (10991, 37891)
    nnz = packages.target_train.nnz + packages.target_test.nnz
    # The description tells the same numbers.
    for number in ("45,618", "10,991", "37,891", f"{nnz / (45618 + 10991):.2f}"):
        assert number in packages.DESCR


def test_split(packages):
    for names, is_test in ((packages.names_train, False), (packages.names_test, True)):
        assert list(names) == sorted(set(names))
        assert all((zlib.crc32(name.encode()) % 5 == 0) == is_test for name in names.tolist())
    assert not set(packages.names_train) & set(packages.names_test)


def test_targets(packages):
    for Y in (packages.target_train, packages.target_test):
        assert Y.dtype == np.int8
        assert Y.indices.dtype == Y.indptr.dtype == np.int32
        assert Y.has_canonical_format
        assert (Y.data == 1).all()
        assert np.diff(Y.indptr).min() >= 1
    assert np.bincount(packages.target_train.indices).min() >= 1
    names = packages.target_names.tolist()
    assert names == sorted(set(names))
    assert not [name for name in names if re.search(r"[\s:|(<\[,]", name)]


def test_texts(packages):
    for texts, names in (
        (packages.data_train, packages.names_train),
        (packages.data_test, packages.names_test),
    ):
        assert all(text == " ".join(text.split()) for text in texts)
        assert all(t.startswith(f"{n} ") for t, n in zip(texts, names.tolist(), strict=True))


def test_known_row(packages):
    row = packages.names_train.tolist().index("2to3")
    assert packages.data_train[row] == "2to3 2to3 python 2to3 binary using python3"
    labels = packages.target_names[packages.target_train[[row]].indices]
    assert labels.tolist() == ["python3", "python3-lib2to3"]


def test_description_states_the_licence(packages):
    assert (DATA / "debian_packages.rst").read_text(encoding="utf-8") == packages.DESCR
    for words in ("Licence", "copyright", "maintainers", "Debian Free Software Guidelines"):
        assert words in packages.DESCR


def test_size_in_the_wheel():
    assert sum(path.stat().st_size for path in DATA.iterdir()) <= 4 * 2**20
    assert {path.name for path in DATA.iterdir()} == {
        "debian_packages.rst",
        "debian_packages.tsv.xz",
    }


def test_import_is_light():
    code = (
        "import sys, skxmc.datasets as d; d.load_debian_packages(); d.make_xmc_classification();"
        "sys.exit(' '.join({'torch', 'numba'} & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def stanza(package, version="1", **fields):
    lines = {"Package": package, "Version": version, "Section": "misc", "Description": "a  b"}
    return "".join(f"{key}: {value}\n" for key, value in {**lines, **fields}.items())


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg compares the versions")
def test_builder_applies_its_rules(builder):
    # Of these names, CRC-32 puts p2, p8 and p11 into the test part.
    index = "\n".join(
        [
            stanza("p3", Depends="z (>= 1)"),
            stanza("p1", Depends="x, y"),
            stanza("p0"),
            stanza("p2", Depends="x, only-in-test"),
            stanza("p8", Depends="only-in-test"),
            stanza("p1", "10", Depends="x"),
            stanza("p1", "9", Depends="w", Tag="one,\n two: three"),
        ]
    )
    records = builder.make_records(builder.parse_index(index))
    assert builder.to_text(records) == (
        "p1\tmisc\ta b\tx\n"  # the highest version
        "p2\tmisc\ta b\tx\n"  # without the label that no row for training has
        "p3\tmisc\ta b\tz\n"
    )


def test_builder_reads_relations(builder):
    fields = {
        "Depends": "libc6 (>= 2.3), a:any | b [amd64], c <!nocheck>, libc6 (<< 3)",
        "Pre-Depends": "dpkg (>= 1)",
        "Recommends": "virtual",
        "Suggests": "never",
    }
    expected = {"libc6", "a", "b", "c", "dpkg", "virtual"}
    assert builder.dependencies(fields) == expected
