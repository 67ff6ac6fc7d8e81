"""Metadata files with one record a line (JSON or a Python literal), read in blocks."""

import ast
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import polars as pl

from dualtower.data.readers.fields import BYTE_ORDER_MARK, DAMAGED, check_file, open_bytes
from dualtower.data.tables import writing
from dualtower.errors import DataError
from dualtower.progress import progress_bar

BLOCK_RECORDS = 50_000
"""Records held as Python objects at a time."""
LONGEST_LINE = 1 << 24
"""Bytes; a longer line is not a record."""

Record = Mapping[str, Any]


def python_literal(line: str) -> Any:
    """The value of a Python literal; nothing in it is ever run.

    Raises:
        ValueError: it is not one.
    """
    try:
        return ast.literal_eval(line)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a Python literal: {error}") from None


def json_value(line: str) -> Any:
    """The value of a line of JSON.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def write_records(
    path: Path,
    parse: Callable[[str], Any],
    row: Callable[[Record], tuple[Any, ...]],
    schema: Mapping[str, pl.DataType],
    scratch: Path,
    *,
    progress: bool = True,
) -> pl.LazyFrame:
    """Read a file of records, plain or gzipped, and write a row for each, block by block.

    Args:
        path: the file.
        parse: a line's record, a dict; ValueError where it is none.
        row: what is kept of a record, in the order of `schema`; ValueError where it does not fit.
        schema: the columns.
        scratch: an empty folder for the blocks.
        progress: show a bar.

    Returns:
        All rows in the order of the lines, on disk.

    Raises:
        DataError: no such file, empty, truncated or damaged, or a line is not a record; the message
            names the line.
        OSError: the disk is full.
    """
    check_file(path)
    size = path.stat().st_size
    with (
        open_bytes(path) as (raw, content),
        progress_bar(f"Reading {path.name}", size, "bytes", shown=progress) as bar,
    ):
        read = 0
        for number, block in enumerate(_blocks(path, content, parse, row)):
            frame = pl.DataFrame(block, schema=dict(schema), orient="row")
            part = scratch / f"{number:06}.parquet"
            with writing(part):
                frame.write_parquet(part, compression="lz4")
            bar.advance(raw.tell() - read)
            read = raw.tell()
    files = sorted(scratch.glob("*.parquet"))
    if not files:
        raise DataError(f"{path}: has no records; at least one is needed")
    return pl.scan_parquet(files, glob=False)


def identifier(record: Record, key: str) -> str:
    """A record's id.

    Raises:
        ValueError: it has none.
    """
    value = text(record, key)
    if value is None:
        raise ValueError(f"it has no {key!r}, which names the item")
    return value


def text(record: Record, key: str) -> str | None:
    """A text of a record; a number is written out, and an empty text is none.

    Raises:
        ValueError: it is neither.
    """
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{key!r} is a {type(value).__name__}; it should be a text")
    return _clean(str(value)) or None


def price(record: Record, key: str) -> float | None:
    """A price of a record, 0 or more; a text that is no number, such as "from 14.99", is none.

    Raises:
        ValueError: it is a list, a dict or a truth value.
    """
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise ValueError(f"{key!r} is a {type(value).__name__}; it should be a number")
    try:
        number = math.nan if value is None else float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < math.inf else None


def texts(value: Any, key: str) -> list[str]:
    """A list of texts; none is the empty list.

    Raises:
        ValueError: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError(f"{key!r} does not hold a list of texts")
    return [part for part in map(_clean, value) if part]


def _clean(value: str) -> str:
    """The text without space around it and without what UTF-8 cannot hold (half a character)."""
    return value.encode("utf-8", "replace").decode("utf-8").strip()


def _blocks(
    path: Path,
    content: BufferedIOBase,
    parse: Callable[[str], Any],
    row: Callable[[Record], tuple[Any, ...]],
) -> Iterator[list[tuple[Any, ...]]]:
    block = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        for number, line in _lines(path, content):
            try:
                record = parse(line.decode("utf-8").removeprefix(BYTE_ORDER_MARK).strip())
                if not isinstance(record, dict):
                    raise ValueError(f"a {type(record).__name__}, not a record with named values")
                block.append(row(record))
            except ValueError as error:
                raise DataError(f"{path}: line {number} cannot be read: {error}") from None
            if len(block) == BLOCK_RECORDS:
                yield block
                block = []
    if block:
        yield block


def _lines(path: Path, content: BufferedIOBase) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
    number = 0
    while True:
        number += 1
        try:
            line = content.readline(LONGEST_LINE + 1)
        except DAMAGED as error:
            raise DataError(
                f"{path}: damaged or truncated at line {number}: {error}; copy it again"
            ) from None
        if not line:
            return
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{path}: line {number} has more than {LONGEST_LINE:,} bytes; a metadata file has "
                "one record a line"
            )
        if line.strip():
            yield number, line
