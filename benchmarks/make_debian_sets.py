"""Make data sets that no default was chosen on, from Debian's own package lists.

    python benchmarks/make_debian_sets.py PACKAGES TRANSLATION_EN OUT

PACKAGES and TRANSLATION_EN are the files `Packages` and `Translation-en` of a Debian release, which
`apt-get -o Acquire::Languages=en -o Acquire::GzipIndexes=false update` keeps among its lists. In
OUT each set gets a folder that the other scripts take:

- tags: long descriptions (TF-IDF) to debtags: 590 labels, 3.7 a row;
- tags-2k: the same, with 2,000 training rows;
- maintainers: to the one maintainer of the package: 2,008 labels;
- deps-counts: raw counts of words to the packages depended on: 36,646 labels, most of them rare;
- title-words: TF-IDF of words and pairs to the words of the one-line description: 16,130 labels.

Test rows are the packages of a fifth of the sources, drawn by a checksum of their names, so that no
source has packages on both sides. The numbers are those of Debian 12.
"""

import re
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import MultiLabelBinarizer

SHORTEST = 60  # characters of a description that is worth reading


class Package(NamedTuple):
    """What the lists say of a package."""

    source: str
    description: str
    tags: list[str]
    dependencies: list[str]
    maintainer: str


def read_packages(packages: Path, translation: Path) -> list[Package]:
    """Read both lists; packages with short descriptions are left out."""
    descriptions = {}
    for paragraph in paragraphs(translation):
        found = re.match(r"Package: (\S+)\n.*?Description-en: (.*)", paragraph, re.DOTALL)
        if found:
            descriptions[found[1]] = found[2]
    read = []
    for paragraph in paragraphs(packages):
        fields = dict(re.findall(r"^(\S+?): ?(.*(?:\n .*)*)", paragraph, re.MULTILINE))
        description = descriptions.get(fields.get("Package", ""), "")
        if len(description) > SHORTEST:
            source = fields.get("Source", fields["Package"]).split()[0]
            needs = f"{fields.get('Depends', '')},{fields.get('Recommends', '')}"
            tags = re.findall(r"[\w:+.-]+", fields.get("Tag", ""))
            maintainer = fields.get("Maintainer", "")
            read.append(Package(source, description, tags, names(needs), maintainer))
    return read


def paragraphs(path: Path) -> list[str]:
    """Split a list into what it says of each package."""
    return path.read_text(encoding="utf8").split("\n\n")


def names(needs: str) -> list[str]:
    """Names of packages, of alternatives the first, without versions."""
    found = {part.split("|")[0].strip().split(" ")[0].split(":")[0] for part in needs.split(",")}
    return sorted(found - {""})


def write(folder: Path, texts: list[str], vectorizer, Y: sp.csr_array, is_test, n_train=None):
    """Write features and labels; labels without training rows and rows without labels go."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    X_train = vectorizer.fit_transform([texts[i] for i in train])
    X_test = vectorizer.transform([texts[i] for i in test])
    if n_train is not None:
        few = np.random.RandomState(0).permutation(train.size)[:n_train]
        train, X_train = train[few], X_train[few]
    known = np.asarray(Y[train].sum(axis=0)).ravel() > 0
    for part, X, rows in (("train", X_train, train), ("test", X_test, test)):
        own = sp.csr_array(sp.csc_array(Y[rows])[:, known])
        labelled = np.diff(own.indptr) > 0
        sp.save_npz(folder / f"X_{part}.npz", sp.csr_matrix(X[labelled], dtype=np.float32))
        sp.save_npz(folder / f"Y_{part}.npz", sp.csr_matrix(own[labelled], dtype=np.int8))
        print(f"{folder.name}: {np.count_nonzero(labelled)} {part} rows, {own.shape[1]} labels")


def indicator(labels: list[list[str]]) -> sp.csr_array:
    """Make columns of lists of names."""
    return sp.csr_array(MultiLabelBinarizer(sparse_output=True).fit_transform(labels))


def main(packages: str, translation: str, out: str) -> None:
    """Make all sets."""
    read, folder = read_packages(Path(packages), Path(translation)), Path(out)
    tf_idf = {"sublinear_tf": True, "min_df": 2}

    def sources_of(chosen):
        return np.array([zlib.crc32(package.source.encode()) % 5 == 0 for package in chosen])

    tagged = [package for package in read if package.tags]
    texts, Y = [package.description for package in tagged], indicator([p.tags for p in tagged])
    for name, n_train in (("tags", None), ("tags-2k", 2000)):
        vectorizer = TfidfVectorizer(**tf_idf)
        write(folder / name, texts, vectorizer, Y, sources_of(tagged), n_train)
    needy = [package for package in read if package.dependencies]
    texts, is_test = [package.description for package in needy], sources_of(needy)
    Y = indicator([[package.maintainer] for package in needy])
    write(folder / "maintainers", texts, TfidfVectorizer(**tf_idf), Y, is_test)
    Y = indicator([package.dependencies for package in needy])
    write(folder / "deps-counts", texts, CountVectorizer(min_df=2), Y, is_test)
    words = CountVectorizer(binary=True, token_pattern=r"(?u)\b[a-z][a-z]+\b", stop_words="english")
    Y = sp.csr_array(words.fit_transform([text.split("\n")[0] for text in texts]))
    bodies = [" ".join(text.split("\n")[1:]) for text in texts]
    pairs = TfidfVectorizer(ngram_range=(1, 2), max_features=200_000)
    write(folder / "title-words", bodies, pairs, Y, is_test)


if __name__ == "__main__":
    main(*sys.argv[1:])
