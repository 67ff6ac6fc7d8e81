"""Opening the user's tables lazily: files, folders and globs, or frames in memory."""

import difflib
import errno
import glob
import gzip
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dualtower.errors import DataError

PARQUET_MAGIC = b"PAR1"
PARQUET_SUFFIXES = (".parquet", ".pq")
TEXT_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_READING_ERRORS = (pl.exceptions.PolarsError, OSError, UnicodeDecodeError, EOFError, ValueError)


@dataclass(frozen=True)
class Table:
    """A table that was opened but not read."""

    name: str
    """What messages call it: the path, or "interactions (in memory)"."""
    frame: pl.LazyFrame
    """All rows, in the order of the files' names and of the rows in each."""
    parts: tuple[tuple[str, pl.LazyFrame], ...]
    """Name and rows of each file, to say which file a faulty row is in."""
    files: tuple[Path, ...] = ()
    """The files it is read from; empty for a table in memory."""

    @property
    def schema(self) -> pl.Schema:
        """Column names and types."""
        return self.frame.collect_schema()


def open_table(source: Any, what: str, *, id_columns: Sequence[str] = ()) -> Table:
    """Open a table without reading its rows.

    Args:
        source: a path (file, folder or glob of Parquet, CSV or TSV, these also gzipped), a pandas
            or Polars frame (lazy too), or an Arrow table.
        what: what the table is ("interactions"), for messages.
        id_columns: columns kept as text in CSV files if a value there has leading zeros, an
            exponent (1e5 is a code, not a number) or more digits than 64 bits hold.

    Raises:
        DataError: no such file, not a table, empty, truncated, or files that do not fit together.
    """
    if isinstance(source, str | Path):
        table = _open_files(str(source), what, id_columns)
    else:
        frame = _in_memory(source, what).lazy()
        table = Table(f"{what} (in memory)", frame, ((f"{what} (in memory)", frame),))
    with reading(table.name):
        if not table.schema:
            raise DataError(f"{table.name}: has no columns; a table with a header is needed")
        if table.frame.head(1).collect().is_empty():
            raise DataError(f"{table.name}: has no rows; at least one is needed")
    return table


def collect(table: Table, frame: pl.LazyFrame) -> pl.DataFrame:
    """Run a query on `table` in the streaming engine; what goes wrong there is a `DataError`."""
    with reading(table.name):
        return frame.collect(engine="streaming")


@contextmanager
def reading(name: str, *, into: Path | None = None) -> Iterator[None]:
    """Turn an error of the reader into a `DataError` that names the table.

    Args:
        name: what messages call the table.
        into: where its rows are written to meanwhile, if they are.

    Raises:
        DataError: it cannot be read.
        OSError: the disk takes no more of what is written.
    """
    try:
        yield
    except _READING_ERRORS as error:
        full = _disk_error(error, into)
        if full is not None:
            raise full from error
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise DataError(
            f"{name}: cannot be read: {reason}; it may be damaged, truncated or of another format"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of Polars' writers into an `OSError`, as other writers raise them."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise (_disk_error(error, path) or OSError(f"{path}: {error}")) from error


def _disk_error(error: Exception, path: Path | None) -> OSError | None:
    """The system's own error where a disk takes no more, which no reading gives; else None.

    Polars says its number in a text: "underlying IO error: No space left on device (os error 28)".
    """
    number = error.errno if isinstance(error, OSError) else None
    said = re.search(r"\(os error (\d+)\)", str(error))
    if number is None and said is not None:
        number = int(said[1])
    if number is None or number not in _DISK_ERRORS:
        return None
    return OSError(number, os.strerror(number), None if path is None else str(path))


def require_columns(
    table: Table, columns: Mapping[str, str], *, remedy: str = "Set {purpose} to the right one."
) -> None:
    """Check that columns exist.

    Args:
        table: the table.
        columns: column name by what it is for (the setting that names it).
        remedy: what to do, for the message; `{purpose}` stands for the setting.

    Raises:
        DataError: one does not; the message lists what is there and the nearest name.
    """
    present = table.schema.names()
    for purpose, column in columns.items():
        if column not in present:
            near = difflib.get_close_matches(column, present, n=1, cutoff=0.5)
            wanted_for = "" if purpose == column else f" ({purpose})"
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise DataError(
                f"{table.name}: no column {column!r}{wanted_for}{hint} "
                f"The columns are: {', '.join(present)}. {remedy.format(purpose=purpose)}"
            )


def find_files(pattern: str, what: str) -> tuple[Path, ...]:
    """The files that a path, folder or glob stands for, by name; hidden ones left out.

    Raises:
        DataError: there are none.
    """
    path = Path(pattern)
    if path.is_file():
        return (path,)
    if path.is_dir():
        found = [
            file
            for file in sorted(path.rglob("*"))
            if file.is_file()
            and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
        ]
        if not found:
            raise DataError(f"{pattern}: the folder of the {what} table holds no files")
        return tuple(found)
    found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    found = [file for file in found if file.is_file()]
    if not found:
        raise DataError(f"{pattern}: no such file, folder or glob for {_the_table(what)}")
    return tuple(found)


def _the_table(what: str) -> str:
    return "the table" if what == "table" else f"the {what} table"


def _open_files(pattern: str, what: str, id_columns: Sequence[str]) -> Table:
    files = find_files(pattern, what)
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        formats = ", ".join(sorted({"".join(file.suffixes[-2:]) for file in files}))
        raise DataError(
            f"{pattern}: holds files of different formats ({formats}); one table is all Parquet "
            "or all CSV, so put the others elsewhere or name the right ones by a glob"
        )
    for file in files:
        if file.stat().st_size == 0:
            raise DataError(
                f"{file}: is empty (0 bytes); {_the_table(what)} needs a header and rows"
            )
    if kinds == {"parquet"}:
        for file in files:
            _check_parquet(file)
        parts = [pl.scan_parquet(file, glob=False, hive_partitioning=False) for file in files]
    else:
        parts = _scan_text(files, id_columns)
    names = [str(file) for file in files]
    schemas = []
    for name, part in zip(names, parts, strict=True):
        with reading(name):
            schemas.append(part.collect_schema())
    for name, schema in zip(names, schemas, strict=True):
        if set(schema) != set(schemas[0]):
            odd = sorted(set(schema) ^ set(schemas[0]))
            raise DataError(
                f"{name}: its columns differ from those of {names[0]} in {', '.join(odd)}; "
                "all files of one table need the same columns"
            )
    if any(schema != schemas[0] for schema in schemas):
        parts = [part.select(schemas[0].names()) for part in parts]
        with reading(pattern):
            common = pl.concat(parts, how="vertical_relaxed").collect_schema()
        parts = [part.cast(common) for part in parts]
    frame = parts[0] if len(parts) == 1 else pl.concat(parts)
    return Table(pattern, frame, tuple(zip(names, parts, strict=True)), files)


def _kind(file: Path) -> str:
    name = file.name.lower()
    if name.endswith(PARQUET_SUFFIXES):
        return "parquet"
    if name.endswith(TEXT_SUFFIXES):
        return "text"
    with open(file, "rb") as opened:
        if opened.read(4) == PARQUET_MAGIC:
            return "parquet"
    known = ", ".join((*PARQUET_SUFFIXES, *TEXT_SUFFIXES))
    raise DataError(f"{file}: not a known kind of table; its name should end in one of {known}")


def _check_parquet(file: Path) -> None:
    with open(file, "rb") as opened:
        head = opened.read(4)
        opened.seek(max(0, file.stat().st_size - 4))
        tail = opened.read(4)
    if head != PARQUET_MAGIC:
        raise DataError(f"{file}: is not a Parquet file, though its name says so")
    if tail != PARQUET_MAGIC:
        raise DataError(f"{file}: is a truncated Parquet file (its end is missing); copy it again")


def _scan_text(files: Sequence[Path], id_columns: Sequence[str]) -> list[pl.LazyFrame]:
    """CSV scans with types inferred from all rows of all files, the same for each."""
    scans: list[pl.LazyFrame] = []
    types: dict[str, pl.DataType] = {}
    separators = [_separator(file) for file in files]
    for file, separator in zip(files, separators, strict=True):
        with reading(str(file)):
            scan = pl.scan_csv(file, separator=separator, infer_schema_length=None, glob=False)
            for column, dtype in scan.collect_schema().items():
                types[column] = _wider(types.get(column, dtype), dtype)
    for file, separator in zip(files, separators, strict=True):
        with reading(str(file)):
            for column in id_columns:
                if types.get(column) == pl.Int128:
                    types[column] = pl.String()
                elif column in types and types[column].is_numeric():
                    text = pl.scan_csv(
                        file, separator=separator, schema_overrides={column: pl.String}, glob=False
                    )
                    codes = text.select(pl.col(column).str.contains(r"^0\d|[eE]").any())
                    if codes.collect(engine="streaming").item():
                        types[column] = pl.String()
    for file, separator in zip(files, separators, strict=True):
        scans.append(pl.scan_csv(file, separator=separator, schema_overrides=types, glob=False))
    return scans


def _wider(first: pl.DataType, second: pl.DataType) -> pl.DataType:
    if first == second:
        return first
    if first.is_numeric() and second.is_numeric():
        if first.is_float() or second.is_float():
            return pl.Float64()
        return pl.Int128() if pl.Int128 in (first, second) else pl.Int64()
    return pl.String()


def _separator(file: Path) -> str:
    if ".tsv" in file.suffixes:
        return "\t"
    with reading(str(file)):
        if file.suffix == ".gz":
            with gzip.open(file, "rt", encoding="utf-8-sig") as opened:
                header = opened.readline()
        else:
            with open(file, encoding="utf-8-sig") as opened:
                header = opened.readline()
    return max((",", "\t", ";", "|"), key=header.count)


def _in_memory(source: Any, what: str) -> pl.DataFrame | pl.LazyFrame:
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        return source
    try:
        if type(source).__module__.split(".")[0] == "pandas":
            return pl.from_pandas(source)
        if hasattr(source, "__arrow_c_stream__"):
            return pl.DataFrame(source)
    except Exception as error:  # the converters raise many kinds
        raise DataError(
            f"{what} (in memory): a column cannot be converted: {error}; give each column one type"
        ) from error
    raise DataError(
        f"{what}: a {type(source).__name__} is not a table; give a path, or a pandas, Polars or "
        "Arrow table"
    )
