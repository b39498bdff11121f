"""Make data sets that no default was chosen on, from WordNet's definitions.

    python benchmarks/make_wordnet_sets.py WORDNET OUT

WORDNET holds `data.noun` and `data.verb` of WordNet 3.0, as Debian's package wordnet-base has them;
`dpkg -x` unpacks it anywhere. In OUT each set gets a folder that the other scripts take:

- hypernyms: TF-IDF of definitions to hypernyms of synsets and the hypernyms of these;
- lemma-words: to the words, used twice at least, of a synset's names and its direct hypernyms';
- lemma-words-svd: the same labels, from the first 200 singular vectors of the features: dense.

Definitions are short, a dozen words. Half of the synsets are taken, and test rows are a fifth of
these, both drawn by a checksum of the set of words of the definition, so that synsets which are
defined in the same words (the species of a genus) come to the same side.
"""

import re
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from make_debian_sets import indicator, write
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize


class Synset(NamedTuple):
    """What WordNet says of a set of synonyms."""

    names: list[str]
    hypernyms: list[str]
    definition: str


def read_synsets(folder: Path) -> dict[str, Synset]:
    """Read nouns and verbs, keyed by part of speech and place in their file."""
    read = {}
    for kind in ("noun", "verb"):
        for line in (folder / f"data.{kind}").read_text(encoding="utf8").splitlines():
            if line.startswith("  "):
                continue  # the licence
            fields, definition = line.split(" | ", 1)
            place, _, part, n_names, *rest = fields.split()
            names = rest[: 2 * int(n_names, 16) : 2]
            hypernyms = [f"{part}{to}" for to in re.findall(r"@i? (\d{8}) [nv]", fields)]
            read[part + place] = Synset(names, hypernyms, definition)
    return read


def words(names: list[str]) -> set[str]:
    """Split names into words."""
    return {word for name in names for word in re.findall(r"[a-z]{2,}", name.lower())}


def main(wordnet: str, out: str) -> None:
    """Make all sets."""
    synsets, folder = read_synsets(Path(wordnet)), Path(out)
    keyed = {}
    for key, synset in synsets.items():
        defined = " ".join(sorted(words([synset.definition.split(";")[0]])))
        if synset.hypernyms and zlib.crc32(defined.encode()) % 2:
            keyed[key] = zlib.crc32(defined.encode()) // 2 % 5 == 0
    chosen, is_test = [synsets[key] for key in keyed], np.array(list(keyed.values()))
    texts = [synset.definition for synset in chosen]
    tf_idf = {"sublinear_tf": True, "min_df": 2, "token_pattern": r"(?u)\b\w+\b"}
    above = [[synsets[key] for key in synset.hypernyms] for synset in chosen]
    chains = [
        sorted({*synset.hypernyms, *(key for one in direct for key in one.hypernyms)})
        for synset, direct in zip(chosen, above, strict=True)
    ]
    write(folder / "hypernyms", texts, TfidfVectorizer(**tf_idf), indicator(chains), is_test)
    named = [
        sorted(words([name for one in (synset, *direct) for name in one.names]))
        for synset, direct in zip(chosen, above, strict=True)
    ]
    Y = indicator(named)
    Y = sp.csr_array(sp.csc_array(Y)[:, np.asarray(Y.sum(axis=0)).ravel() > 1])
    write(folder / "lemma-words", texts, TfidfVectorizer(**tf_idf), Y, is_test)
    write_svd(folder / "lemma-words", folder / "lemma-words-svd")


def write_svd(source: Path, folder: Path) -> None:
    """Write a set again with dense features: 200 singular vectors, rows of unit length."""
    folder.mkdir(parents=True, exist_ok=True)
    X_train, X_test = (sp.load_npz(source / f"X_{part}.npz") for part in ("train", "test"))
    svd = TruncatedSVD(min(200, X_train.shape[1]), random_state=0).fit(X_train)
    for part, X in (("train", X_train), ("test", X_test)):
        dense = normalize(svd.transform(X)).astype(np.float32)
        sp.save_npz(folder / f"X_{part}.npz", sp.csr_matrix(dense))
        labels = (source / f"Y_{part}.npz").read_bytes()
        (folder / f"Y_{part}.npz").write_bytes(labels)


if __name__ == "__main__":
    main(*sys.argv[1:])
