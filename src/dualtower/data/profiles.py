"""What can be seen of a table without being told: names, types, uniqueness, cardinality."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dualtower.data.tables import (
    PARQUET_SUFFIXES,
    TEXT_SUFFIXES,
    Table,
    collect,
    find_files,
    open_table,
)
from dualtower.errors import DataError

SAMPLE_ROWS = 1_000_000
"""Columns are judged by this many first rows; a table that is longer is never called unique."""

QUERY_WORDS = (
    *("user", "query", "customer", "household", "member", "client", "visitor", "reviewer"),
    *("person", "shopper", "buyer", "viewer", "listener", "reader", "account", "uid", "session"),
)
"""Words in names of query columns and tables, the most telling first."""
ITEM_WORDS = (
    *("item", "product", "movie", "article", "book", "song", "track", "sku", "asin", "isbn"),
    *("video", "film", "game", "recipe", "news", "document", "business", "restaurant", "poi"),
    *("artist", "listing", "show", "content", "upc", "iid"),
)
"""Words in names of item columns and tables, the most telling first."""


@dataclass(frozen=True)
class Column:
    """One column as seen in the sample."""

    name: str
    dtype: pl.DataType
    rows: int
    """Rows of the sample."""
    filled: int
    """Rows that are not null."""
    distinct: int
    """Different values among them."""
    whole: bool = False
    """Whether they are decimal numbers, and each a whole one."""

    @property
    def words(self) -> tuple[str, ...]:
        """The words of its name."""
        return words(self.name)

    @property
    def is_list(self) -> bool:
        """Whether each row holds a list."""
        return isinstance(self.dtype, pl.List | pl.Array)

    @property
    def unique(self) -> bool:
        """Whether every row has a value of its own."""
        return self.filled == self.rows == self.distinct

    @property
    def may_be_id(self) -> bool:
        """Whether its type can be an id's: of those that `prepare` takes, all but dates and times
        and yes or no, which are hardly ever meant as one.
        """
        if isinstance(self.dtype, pl.Decimal):
            return self.dtype.scale == 0
        named = isinstance(self.dtype, pl.String | pl.Categorical | pl.Enum)
        return self.dtype.is_integer() or named or self.whole


@dataclass(frozen=True)
class Profile:
    """A table and its columns."""

    path: str
    """File, folder or glob, as a configuration names it."""
    table: Table
    sample: pl.DataFrame
    rows: int
    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        """The name of its file, or of the folder whose files it is."""
        path = Path(self.path)
        return _root(path).resolve().name if path.name.startswith("*") else path.name

    @property
    def words(self) -> tuple[str, ...]:
        """The words of its name."""
        return words(self.name.split(".")[0])

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)


def profile_tables(paths: Sequence[str | Path]) -> list[Profile]:
    """Profiles of files, globs, or the tables in folders.

    A folder whose tables all have the same columns is one table, named by a glob, so that other
    files may lie beside its own; otherwise each of its files and folders is a table. Files that are
    no tables are passed over.

    Raises:
        DataError: a path does not exist, a table cannot be read, or there is none.
    """
    profiles = []
    for path in paths:
        if Path(path).is_dir():
            profiles += _profile_folder(Path(path))
        else:
            profiles.append(_profile(str(path)))
    if not profiles:
        raise DataError("no tables given; name the files or the folder of your tables")
    return profiles


def words(name: str) -> tuple[str, ...]:
    """The lower-case words of a name, in the singular: movieId → movie, id."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    found: list[str] = []
    for word in re.findall(r"[a-z0-9]+", apart.lower()):
        if len(word) > 3 and word.endswith("id"):
            found += [word[:-2], "id"]
        elif len(word) > 3 and word.endswith("s") and word != "news":
            found.append(word[:-1])
        else:
            found.append(word)
    return tuple(found)


def word_score(of: Sequence[str], vocabulary: Sequence[str]) -> float:
    """How well words fit a vocabulary: 0 not at all, up to 2 for its first word beside "id"."""
    places = [vocabulary.index(word) for word in of if word in vocabulary]
    if not places:
        return 0.0
    is_id = any(word in ("id", "code", "key", "number", *vocabulary[-12:]) for word in of)
    return 1.0 + 0.5 * is_id + 0.5 * (1 - min(places) / len(vocabulary))


def _profile_folder(folder: Path) -> list[Profile]:
    files = [file for file in find_files(str(folder), "tables") if _looks_like_table(file)]
    if not files:
        raise DataError(f"{folder}: holds no Parquet, CSV or TSV file")
    columns = {frozenset(open_table(file, "table").schema.names()) for file in files}
    if len(files) > 1 and len(columns) == 1:
        return [_profile(_pattern(folder, files))]
    parts = dict.fromkeys(folder / file.relative_to(folder).parts[0] for file in files)
    return [
        profile
        for part in parts
        for profile in (_profile_folder(part) if part.is_dir() else [_profile(str(part))])
    ]


def _pattern(folder: Path, files: Sequence[Path]) -> str:
    """The glob of a folder's tables, or the folder where no glob stands for these alone."""
    ending = next(
        ending
        for ending in (*PARQUET_SUFFIXES, *TEXT_SUFFIXES)
        if files[0].name.lower().endswith(ending)
    )
    name = f"*{files[0].name[-len(ending) :]}"
    inner = name if all(file.parent == folder for file in files) else f"**/{name}"
    pattern = str(Path(glob.escape(str(folder))) / inner)
    return pattern if find_files(pattern, "tables") == tuple(files) else str(folder)


def _root(pattern: Path) -> Path:
    """The folder that `_pattern` is of."""
    return pattern.parents[1] if pattern.parent.name == "**" else pattern.parent


def _looks_like_table(file: Path) -> bool:
    return file.name.lower().endswith((*PARQUET_SUFFIXES, *TEXT_SUFFIXES))


def _profile(path: str) -> Profile:
    table = open_table(path, "table")
    sample = collect(table, table.frame.head(SAMPLE_ROWS))
    rows = int(collect(table, table.frame.select(pl.len())).item())
    columns = []
    for series in sample:
        filled = len(series) - series.null_count()
        distinct = 0
        if not series.dtype.is_nested() and series.dtype != pl.Object:
            distinct = series.drop_nulls().n_unique()
        columns.append(
            Column(series.name, series.dtype, rows, filled, distinct, _are_whole(series))
        )
    return Profile(path, table, sample, rows, tuple(columns))


def _are_whole(series: pl.Series) -> bool:
    if not series.dtype.is_float():
        return False
    numbers = series.fill_nan(None).drop_nulls()
    return len(numbers) > 0 and bool((numbers == numbers.round()).all())
