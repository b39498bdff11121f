"""Smoke test of an installed wheel: `python -I tools/smoke_wheel.py skxmc-*.whl`.

Run it from outside the source tree by the Python of a clean environment that has the wheel
installed; `make wheel-smoke` does. It checks what is packed, that the installed copy is the one
imported, and that the bundled data loads and a model trains.
"""

import sys
import zipfile
from pathlib import Path

MAX_DATA_BYTES = 4 * 2**20


def check_contents(wheel: Path) -> None:
    """Check that the wheel holds type marker, data and licence, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    strangers = [name for name in sizes if not name.startswith(("skxmc/", "skxmc-"))]
    data = [name for name in sizes if name.startswith("skxmc/datasets/data/")]
    assert not strangers, f"packed by mistake: {strangers}"
    assert "skxmc/py.typed" in sizes, "py.typed is missing"
    assert any(name.endswith("/LICENSE") for name in sizes), "LICENSE is missing"
    assert data, "skxmc/datasets/data is missing"
    total = sum(sizes[name] for name in data)
    assert total <= MAX_DATA_BYTES, f"the data files hold {total} bytes, {MAX_DATA_BYTES} allowed"
    print(f"wheel: {len(sizes)} files, {len(data)} of them data ({total / 2**20:.2f} MB)")


def check_imports() -> None:
    """Check that the installed copy is imported, and that light modules stay light."""
    import skxmc
    import skxmc.datasets
    import skxmc.metrics

    assert "site-packages" in Path(skxmc.__file__).parts, f"imported from {skxmc.__file__}"
    assert "torch" not in sys.modules, "skxmc.datasets or skxmc.metrics imports torch"
    print(f"skxmc {skxmc.__version__} imported from the environment")


def check_use() -> None:
    """Load the bundled data; train a small model and predict."""
    from skxmc import EliasClassifier
    from skxmc.datasets import load_debian_packages, make_xmc_classification

    packages = load_debian_packages()
    print("load_debian_packages:", ", ".join(sorted(packages)))

    X, Y = make_xmc_classification(n_samples=300, n_features=100, n_labels=40, random_state=0)[:2]
    model = EliasClassifier(random_state=0).fit(X, Y)
    top = model.predict_topk(X, k=3)
    assert top.indices.shape == top.scores.shape == (300, 3)
    assert model.predict(X).shape == Y.shape
    score = model.score(X, Y)
    assert score > 0.5, f"precision@1 on its own training data is {score:.2f}"
    print(f"EliasClassifier: precision@1 on its training data {score:.2f}")


if __name__ == "__main__":
    check_contents(Path(sys.argv[1]))
    check_imports()
    check_use()
    print("smoke test passed")
