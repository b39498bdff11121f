"""What all file formats share: the error, compression by suffix, and writing all or nothing."""

import bz2
import gzip
import io
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_BLOCK_BYTES = 4 * 2**20


class XMCFormatError(ValueError):
    """A file does not follow its format.

    Attributes
    ----------
    path : str
        The file, as it was given.
    line : int or None
        The line, counted from 1; None if the trouble is not in one line.
    reason : str
        What was found and what is allowed.

    Examples
    --------
    >>> from skxmc.datasets import XMCFormatError
    >>> print(XMCFormatError("train.txt", 3, "label id 12 is out of range"))
    train.txt, line 3: label id 12 is out of range
    """

    def __init__(self, path, line: int | None, reason: str):
        super().__init__(path, line, reason)
        self.path = os.fspath(path)
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}, line {self.line}"
        return f"{place}: {self.reason}"


def read_blocks(path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield a file in blocks of lines, each with the number of its first line, from 1.

    Unpacks .gz and .bz2. Damaged or truncated compressed data raises an XMCFormatError.
    """
    number = 1
    with open(path, "rb") as raw, _unpack(raw, Path(path).suffix) as file:
        while lines := _read_lines(file, path, number):
            yield number, lines
            number += len(lines)


def iterate_lines(path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers, from 1; otherwise as `read_blocks`."""
    for first, lines in read_blocks(path):
        yield from enumerate(lines, start=first)


@contextmanager
def replace_file(path, *, compress: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the place of `path` once all is written.

    Until then, and if writing fails, `path` stays as it was. Packs by the suffix, .gz or .bz2,
    unless `compress` is False; equal content gives equal bytes.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "xb") as raw, _pack(raw, path.suffix if compress else "") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _unpack(raw: IO[bytes], suffix: str):
    if suffix == ".gz":
        # GzipFile reads lines in Python, BufferedReader in C.
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))
    return bz2.BZ2File(raw) if suffix == ".bz2" else raw


def _pack(raw: IO[bytes], suffix: str):
    if suffix == ".gz":
        # Neither name nor time in the header, so that equal content gives equal bytes.
        return gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0)
    return bz2.BZ2File(raw, "wb") if suffix == ".bz2" else raw


def _read_lines(file: IO[bytes], path, number: int) -> list[bytes]:
    try:
        return file.readlines(_BLOCK_BYTES)
    except EOFError as error:
        reason = "the compressed data ends too early, in this line or after it; get the file anew"
        raise XMCFormatError(path, number, reason) from error
    except (zlib.error, OSError) as error:
        # Only the decompressors raise an OSError without a number; others are about the disk.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = f"the compressed data is damaged, in this line or after it ({error})"
        raise XMCFormatError(path, number, reason) from error
