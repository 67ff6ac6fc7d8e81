"""What an import leaves: the plain tables and a configuration that runs as it is."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dualtower.config import DataConfig, FilterConfig, RunConfig
from dualtower.data.config_text import config_text
from dualtower.data.discover import Guess
from dualtower.data.tables import reading
from dualtower.errors import ConfigError, DataError
from dualtower.files import replacing_file, write_text
from dualtower.schema import Feature, Schema

TABLES = ("interactions", "items", "queries")
CONFIG = "dualtower.toml"
CORE = 5
"""Users and items with fewer events are dropped: the paper's filter for Amazon Books."""

_PROTOCOL = {
    "filter.min_query_events": "The paper's filter: users with at least five items",
    "filter.min_item_events": "The paper's filter: items with at least five users",
    "filter.duplicates": "An item that a user comes back to is no new one: its first event counts",
    "split.by": "The paper's split: each user's last item is the test, the last but one the "
    "validation",
}


@dataclass(frozen=True)
class Imported:
    """What an import wrote."""

    config: Path
    """The configuration; `dualtower prepare` and all after it take it as it is."""
    rows: dict[str, int]
    """Rows by table: interactions, and if the files had them items and queries."""
    categories: dict[str, int]
    """Items with at least five events by category, the largest first; empty without categories."""
    notes: tuple[str, ...]
    """What was decided and why, one line each."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**asdict(self), "config": str(self.config)}


@contextmanager
def importing(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A scratch folder in `folder` for the tables, gone at the end, whatever happens.

    Raises:
        ConfigError: `folder` is a file, or holds a table or configuration that an import would
            replace and may not.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder")
    names = [*(_file_name(table) for table in TABLES), CONFIG]
    taken = [folder / name for name in names if (folder / name).exists()]
    if taken and not overwrite:
        raise ConfigError(f"{taken[0]} exists; name another folder, or replace it with --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".import-") as scratch:
        yield Path(scratch)


def table_path(scratch: Path, table: str) -> Path:
    """Where an import writes a table."""
    return scratch / _file_name(table)


def write_table(scratch: Path, table: str, frame: pl.LazyFrame) -> int:
    """Write a table's Parquet file without holding its rows in memory; the number of rows.

    Raises:
        DataError: what it comes from cannot be read to its end.
        OSError: the disk is full.
    """
    path = table_path(scratch, table)
    with reading(table, into=path):
        frame.sink_parquet(path)
    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


def finish(
    scratch: Path,
    command: str,
    rows: Mapping[str, int],
    schema: Schema,
    reasons: Mapping[str, str],
    *,
    categories: Mapping[str, int],
    context: Iterable[Feature] = (),
) -> Imported:
    """Put the tables in their place and write the configuration: 5-core, leave-last-out.

    What an earlier import left is removed; the configuration comes last, so that a kill before it
    leaves none.

    Args:
        scratch: what `importing` gave; it holds the tables.
        command: that imported it.
        rows: of each table that was written.
        schema: what the columns are.
        reasons: why, by setting.
        categories: number of items by category.
        context: columns of the interactions that may be context.
    """
    folder = scratch.parent
    (folder / CONFIG).unlink(missing_ok=True)
    for table in TABLES:
        if table in rows:
            with replacing_file(folder / _file_name(table)) as beside:
                os.replace(table_path(scratch, table), beside)
        else:
            (folder / _file_name(table)).unlink(missing_ok=True)
    paths = {table: str(folder / _file_name(table)) for table in rows}
    config = RunConfig(
        data=DataConfig.model_validate(paths),
        columns=schema,
        filter=FilterConfig(min_query_events=CORE, min_item_events=CORE, duplicates="first"),
    )
    guess = Guess(config, {**reasons, **_PROTOCOL}, tuple(context))
    path = folder / CONFIG
    write_text(path, config_text(guess, path, written_by=command))
    return Imported(path, dict(rows), dict(categories), tuple(guess.notes))


def one_file(files: Sequence[Path], suffixes: Sequence[str], what: str) -> Path:
    """The one file of `files` whose name ends in one of `suffixes`.

    Raises:
        DataError: there is none, or more than one.
    """
    found = [file for file in files if file.name.lower().endswith(tuple(suffixes))]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(
            f"{what}: one file that ends in {' or '.join(suffixes)} is needed; given: {names}"
        )
    return found[0]


def check_kinds(files: Sequence[Path], suffixes: Sequence[str]) -> None:
    """Check that the name of every file says what it is.

    Raises:
        DataError: one does not.
    """
    for file in files:
        if not file.name.lower().endswith(tuple(suffixes)):
            raise DataError(
                f"{file}: not a known kind of file; its name should end in one of "
                f"{', '.join(suffixes)}"
            )


def _file_name(table: str) -> str:
    return f"{table}.parquet"
