"""Text files with one record a line, its fields cut by a separator; faults are named by line."""

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import polars as pl

from dualtower.data.rules import Rule
from dualtower.data.tables import reading
from dualtower.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = "\ufeff"
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a compressed file raises where it is truncated or damaged."""
_ZIP_MAGIC = b"PK\x03\x04"
_TEXT, _LINE, _MORE = "\0text", "\0line", "\0more"


@dataclass(frozen=True)
class Fields:
    """A file whose lines are cut into fields; nothing is read yet."""

    path: Path
    separator: str
    columns: tuple[str, ...]
    """What the fields are, in order."""
    frame: pl.LazyFrame
    """Each column as text, null where the line has too few fields; blank lines are left out."""


def open_fields(path: Path, separator: str, columns: Sequence[str], *, has_header: bool) -> Fields:
    """Cut the lines of a file, plain or gzipped, into fields. Quotes are characters like others.

    Args:
        path: the file.
        separator: what stands between two fields.
        columns: what the fields are.
        has_header: whether the first line is none of the data.

    Raises:
        DataError: no such file, or it is empty.
    """
    check_file(path)
    lines = pl.scan_lines(
        str(path), name=_TEXT, row_index_name=_LINE, row_index_offset=1, glob=False
    )
    if has_header:
        lines = lines.filter(pl.col(_LINE) > 1)
    text = pl.col(_TEXT).str.strip_prefix(BYTE_ORDER_MARK)
    lines = lines.with_columns(text).filter(pl.col(_TEXT).str.strip_chars() != "")
    cut = pl.col(_TEXT).str.split_exact(separator, len(columns)).struct
    fields = cut.rename_fields([*columns, _MORE]).struct.unnest()
    return Fields(path, separator, tuple(columns), lines.select(_LINE, _TEXT, fields))


def check_fields(fields: Fields, rules: Sequence[Rule]) -> int:
    """Check all lines in one pass.

    Returns:
        The number of lines, blank ones and a header left out.

    Raises:
        DataError: the file is damaged or has no lines, a line has too few or too many fields, or
            one breaks a rule; the message names file, line, column and value.
    """
    missing = pl.col(fields.columns[-1]).is_null() | pl.col(_MORE).is_not_null()
    flags = [rule.broken.fill_null(False).any().alias(str(n)) for n, rule in enumerate(rules)]
    with _reading_lines(fields.path):
        summary = fields.frame.select(pl.len(), missing.any().alias(_MORE), *flags)
        count, miscut, *broken = summary.collect(engine="streaming").row(0)
    if count == 0:
        raise DataError(f"{fields.path}: has no rows; at least one is needed")
    if miscut:
        line, text = _first(fields, missing, _TEXT)
        wanted = ", ".join(fields.columns)
        raise DataError(
            f"{fields.path}: line {line} has {text.count(fields.separator) + 1} fields between "
            f"{fields.separator!r}; there should be {len(fields.columns)}: {wanted}"
        )
    for rule, fault in zip(rules, broken, strict=True):
        if fault:
            line, value = _first(fields, rule.broken, rule.column)
            raise DataError(
                f"{fields.path}: line {line}, column {rule.column!r}: {value!r} {rule.problem}"
            )
    return int(count)


def read_header(path: Path, separator: str) -> list[str]:
    """The fields of a file's first line.

    Raises:
        DataError: no such file, it is empty or damaged, or a name stands there twice.
    """
    check_file(path)
    try:
        with open_bytes(path) as (_, file):
            line = file.readline().decode("utf-8")
    except (*DAMAGED, UnicodeDecodeError) as error:
        raise DataError(f"{path}: line 1 cannot be read: {error}") from None
    names = line.removeprefix(BYTE_ORDER_MARK).rstrip("\r\n").split(separator)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: line 1 names the column {twice[0]!r} twice")
    return names


def require_fields(path: Path, needed: Mapping[str, str], present: Sequence[str]) -> None:
    """Check that a header names all columns that are needed.

    Args:
        path: of the file, for the message.
        needed: column by what it is for.
        present: the header.

    Raises:
        DataError: one is missing.
    """
    for purpose, column in needed.items():
        if column not in present:
            raise DataError(
                f"{path}: line 1 names no column {column!r} ({purpose}); "
                f"the columns are: {', '.join(present)}"
            )


def check_file(path: Path) -> None:
    """Check that a file is there, holds something and is no archive.

    Raises:
        DataError: it is not so.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with open(path, "rb") as file:
        start = file.read(4)
    if not start:
        raise DataError(f"{path}: is empty (0 bytes)")
    if start == _ZIP_MAGIC:
        raise DataError(f"{path}: is a zip archive; unpack it first (gzip is read as it is)")


@contextmanager
def open_bytes(path: Path) -> Iterator[tuple[BufferedIOBase, BufferedIOBase]]:
    """Open a file, plain or gzipped.

    Yields:
        The file as it is on disk, whose `tell` says how far the reading is, and its content.
    """
    with open(path, "rb") as raw:
        compressed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if not compressed:
            yield raw, raw
            return
        with gzip.open(raw) as content:
            yield raw, content


@contextmanager
def _reading_lines(path: Path) -> Iterator[None]:
    """As `reading`, with the number of the line that is no text, where that is what is wrong."""
    try:
        with reading(str(path)):
            yield
    except DataError:
        number = _first_line_that_is_no_text(path)
        if number is None:
            raise
        raise DataError(f"{path}: line {number} is not text in UTF-8; it may be damaged") from None


def _first_line_that_is_no_text(path: Path) -> int | None:
    try:
        with open_bytes(path) as (_, file):
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    return number
    except DAMAGED:
        pass
    return None


def _first(fields: Fields, broken: pl.Expr, column: str) -> tuple[int, str]:
    with reading(str(fields.path)):
        faults = fields.frame.filter(broken).select(_LINE, column).head(1)
        line, value = faults.collect(engine="streaming").row(0)
    return line, value
