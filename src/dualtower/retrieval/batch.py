"""Recommendations for many queries into one file; memory does not grow with their number."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from dualtower.data.tables import collect, open_table, require_columns
from dualtower.errors import ConfigError
from dualtower.files import replacing_file
from dualtower.progress import progress_bar
from dualtower.retrieval.bundle import Bundle

_QUERIES_AT_ONCE = 8_192
_WRITERS: dict[str, Callable[[str, pa.Schema], Any]] = {
    ".parquet": pyarrow.parquet.ParquetWriter,
    ".csv": pyarrow.csv.CSVWriter,
}


def read_ids(path: Path, column: str) -> pl.Series:
    """The ids in a column of a Parquet or CSV file, in its order.

    Raises:
        DataError: the file cannot be read or has no such column.
    """
    table = open_table(path, "queries", id_columns=(column,))
    require_columns(
        table,
        {"the ids of the queries": column},
        remedy=f"Rename the one that holds the ids to {column!r}.",
    )
    return collect(table, table.frame.select(column))[column]


def write_recommendations(
    bundle: Bundle, ids: pl.Series, path: Path, *, n: int, progress: bool = True, **options: Any
) -> int:
    """Write what `bundle.recommend` gives for `ids` to a Parquet or CSV file, block by block.

    Args:
        bundle: the loaded bundle.
        ids: query ids, known or not.
        path: ends in .parquet or .csv.
        n: items per query.
        progress: show a progress bar.
        options: passed on to `recommend`.

    Returns:
        The number of rows written.

    Raises:
        ConfigError: `path` ends otherwise, or an option is out of range.
        DataError: an unknown category.
    """
    if path.suffix not in _WRITERS:
        raise ConfigError(f"{path}: name a file that ends in {' or '.join(_WRITERS)}")

    def block(start: int) -> pa.Table:
        part = ids.slice(start, _QUERIES_AT_ONCE)
        return bundle.recommend(part, n=n, progress=False, **options).to_arrow()

    first = block(0)
    rows: int = first.num_rows
    with (
        progress_bar("Recommending", len(ids), "queries", shown=progress) as bar,
        replacing_file(path) as beside,
        _WRITERS[path.suffix](str(beside), first.schema) as writer,
    ):
        writer.write_table(first)
        bar.advance(min(_QUERIES_AT_ONCE, len(ids)))
        for start in range(_QUERIES_AT_ONCE, len(ids), _QUERIES_AT_ONCE):
            table = block(start)
            writer.write_table(table)
            rows += table.num_rows
            bar.advance(min(_QUERIES_AT_ONCE, len(ids) - start))
    return rows
