"""Build the bundled data set `debian_packages` from the package index of this machine's apt.

Run `apt-get update` on a Debian 12 (bookworm) system, then::

    python tools/build_debian_packages.py

The same index gives the same records byte for byte, and with the same liblzma the same file. Only
the index of the release itself is read (component main), not those of security and updates: it
changes with a point release only.

One line of the output is one package, four fields divided by tabs: name, section, one-line
description, and the packages it depends on, divided by blanks. The lines are sorted by name. How
the records are made:

1. One record for each package name; of several versions the highest counts.
2. Its dependencies are the names in Pre-Depends, Depends and Recommends. Every alternative of
   `a | b` counts. Version bounds, architecture lists and suffixes such as `:any` are dropped.
   Virtual packages and packages absent from the index stay: they are names as others are.
3. A record whose CRC-32 of the name is divisible by 5 is for testing. Dependencies that no record
   for training has are taken out of the records for testing.
4. Records left without a dependency are left out.
"""

import argparse
import hashlib
import logging
import lzma
import re
import subprocess
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger("build_debian_packages")

OUTPUT = Path(__file__).parents[1] / "skxmc" / "datasets" / "data" / "debian_packages.tsv.xz"
RELATIONS = ("Pre-Depends", "Depends", "Recommends")
TEST_EVERY = 5
# The name ends where a version bound, an architecture list, a profile or a suffix begins.
NAME_END = re.compile(r"[\s(\[<:]")


class Package(NamedTuple):
    """One line of the output."""

    name: str
    section: str
    description: str
    dependencies: frozenset[str]

    @property
    def is_test(self) -> bool:
        """Whether the record belongs to the test part."""
        return zlib.crc32(self.name.encode()) % TEST_EVERY == 0


def read_index() -> str:
    """Return the package index of bookworm main as apt keeps it, uncompressed."""
    filters = ("Created-By: Packages", "Codename: bookworm", "Component: main")
    listing = ("apt-get", "indextargets", "--format", "$(FILENAME)", *filters)
    files = _run(*listing).split()
    if len(files) != 1:
        raise SystemExit(
            f"apt knows {len(files)} package indexes of bookworm main, 1 is needed. Run "
            "`apt-get update` on Debian 12, or give the file by --index."
        )
    return _run("/usr/lib/apt/apt-helper", "cat-file", files[0])


def parse_index(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each stanza; continuation lines are of no use here."""
    for stanza in text.split("\n\n"):
        lines = (line.partition(":") for line in stanza.split("\n") if line and line[0] != " ")
        fields = {key: value.strip() for key, _, value in lines}
        if fields:
            yield fields


def newest(stanzas: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Keep the highest version of each package name."""
    found: dict[str, dict[str, str]] = {}
    for stanza in stanzas:
        other = found.get(stanza["Package"])
        if other is None or _is_newer(stanza["Version"], other["Version"]):
            found[stanza["Package"]] = stanza
    return list(found.values())


def dependencies(stanza: dict[str, str]) -> frozenset[str]:
    """Return the names in the relation fields, all alternatives among them."""
    clauses = ",".join(stanza.get(field, "") for field in RELATIONS).replace("|", ",").split(",")
    names = (NAME_END.split(clause.strip(), maxsplit=1)[0] for clause in clauses)
    return frozenset(name for name in names if name)


def make_records(stanzas: Iterable[dict[str, str]]) -> list[Package]:
    """Apply the rules of the module's docstring; sorted by name."""
    packages = []
    for stanza in newest(stanzas):
        description = " ".join(stanza["Description"].split())
        name, section = stanza["Package"], stanza["Section"]
        packages.append(Package(name, section, description, dependencies(stanza)))
    known = frozenset().union(*(p.dependencies for p in packages if not p.is_test))
    kept = (p._replace(dependencies=p.dependencies & known) for p in packages)
    return sorted(p for p in kept if p.dependencies)


def to_text(records: Iterable[Package]) -> str:
    """Write the records as lines of four fields divided by tabs."""
    lines = []
    for record in records:
        fields = (*record[:3], " ".join(sorted(record.dependencies)))
        lines.append("\t".join(fields) + "\n")
    return "".join(lines)


def main() -> None:
    """Read the index, write the file, and log its sizes."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="Build the data set debian_packages.")
    parser.add_argument("--index", type=Path, help="uncompressed Packages file; default: apt's own")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    index = args.index.read_text(encoding="utf-8") if args.index else read_index()
    records = make_records(parse_index(index))
    text = to_text(records).encode()
    packed = lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
    args.output.write_bytes(packed)
    n_test = sum(record.is_test for record in records)
    labels = frozenset().union(*(record.dependencies for record in records))
    logger.info("%d train, %d test, %d labels", len(records) - n_test, n_test, len(labels))
    logger.info("%d bytes of text, sha256 %s", len(text), hashlib.sha256(text).hexdigest())
    logger.info("%d bytes compressed", len(packed))


def _is_newer(version: str, other: str) -> bool:
    command = ("dpkg", "--compare-versions", version, "gt", other)
    return subprocess.run(command, check=False).returncode == 0


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True).stdout.decode()


if __name__ == "__main__":
    main()
