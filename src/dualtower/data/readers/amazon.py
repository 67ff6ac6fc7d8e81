"""What the two Amazon releases share: ratings and metadata into tables and a configuration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dualtower.data.readers.categories import category_reason, with_few_categories
from dualtower.data.readers.fields import Fields, check_fields
from dualtower.data.readers.folder import (
    CORE,
    Imported,
    finish,
    importing,
    table_path,
    write_table,
)
from dualtower.data.readers.records import Record, write_records
from dualtower.data.rules import Rule
from dualtower.errors import DataError
from dualtower.progress import progress_bar
from dualtower.schema import Feature, FeatureKind, Schema

RATINGS_SUFFIXES = (".csv", ".csv.gz")
_EARLIEST, _LATEST = 631_152_000, 4_102_444_800
"""1990 and 2100 in seconds since 1970: a time outside them is in another unit, or cut off."""
_IDS = ("user_id", "item_id")
_CATEGORY = "category"
_SECOND = "second_category"


@dataclass(frozen=True)
class Release:
    """How one release writes its files."""

    command: str
    """The command that imports it."""
    ticks_per_second: int
    """The unit of its timestamps."""
    parse: Callable[[str], Any]
    """A metadata line's record."""
    row: Callable[[Record], tuple[Any, ...]]
    """What is kept of a metadata record, in the order of `columns`."""
    columns: Mapping[str, pl.DataType]
    """The columns of the items table; `categories` and `second_category` among them."""
    features: Mapping[str, str]
    """Why each item feature is one, by name."""


_KINDS = {
    "categories": FeatureKind.MULTI_VALUED,
    "price": FeatureKind.NUMERIC,
}
"""Kind of each item feature that is not categorical."""
ITEM_COLUMNS: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "price": pl.Float64(),
    "categories": pl.List(pl.String()),
    _SECOND: pl.String(),
}
"""What both releases know of an item."""


def import_release(
    release: Release,
    ratings: Sequence[Fields],
    metadata: Path | None,
    folder: Path,
    *,
    overwrite: bool,
    progress: bool,
) -> Imported:
    """Write interactions and items of a release, and the configuration.

    Args:
        release: how its files are written.
        ratings: files with at least the fields user_id, item_id, rating and timestamp.
        metadata: the file of the items, if there is one.
        folder: where the tables and the configuration go.
        overwrite: whether those that are there may be replaced.
        progress: show bars.

    Raises:
        ConfigError: `folder` already holds such files and they may not be replaced.
        DataError: a file is not as it should be; the message names file and line.
    """
    with importing(folder, overwrite) as scratch:
        names = ", ".join(fields.path.name for fields in ratings)
        rows = {"interactions": _write_ratings(release, ratings, scratch, progress)}
        reasons = {
            "data.interactions": f"{rows['interactions']:,} ratings of {names}, each a positive",
            "columns.timestamp": "When it was rated; ratings of one time keep the file's order",
        }
        schema = Schema(timestamp="timestamp")
        if metadata is None:
            return finish(scratch, release.command, rows, schema, reasons, categories={})
        rows["items"], categories = _write_items(release, metadata, scratch, progress)
        if rows["items"] == 0:
            raise DataError(
                f"{metadata}: none of its items is rated in {names}; are both of one department?"
            )
        features = tuple(
            Feature(
                name=name,
                kind=_KINDS.get(name, FeatureKind.CATEGORICAL),
                min_count=1 if name in (_CATEGORY, "price") else CORE,
            )
            for name in release.features
        )
        schema = schema.model_copy(update={"category": _CATEGORY, "item_features": features})
        reasons |= {
            "data.items": f"{rows['items']:,} rated items of {metadata.name}",
            "columns.category": category_reason(
                categories, "The second level of the category path"
            ),
            **{f"columns.item_features.{name}": why for name, why in release.features.items()},
        }
        return finish(scratch, release.command, rows, schema, reasons, categories=categories)


def _write_ratings(
    release: Release, ratings: Sequence[Fields], scratch: Path, progress: bool
) -> int:
    with progress_bar("Reading ratings", 2 * len(ratings), "passes", shown=progress) as bar:
        for fields in ratings:
            check_fields(fields, _rules(release))
            bar.advance()
        events = pl.concat([fields.frame.select(**_events()) for fields in ratings])
        rows = write_table(scratch, "interactions", events)
        bar.advance(len(ratings))
    return rows


def _write_items(
    release: Release, metadata: Path, scratch: Path, progress: bool
) -> tuple[int, dict[str, int]]:
    blocks = scratch / "metadata"
    blocks.mkdir()
    records = write_records(
        metadata, release.parse, release.row, release.columns, blocks, progress=progress
    )
    if not records.select((pl.col("categories").list.len() > 0).any()).collect().item():
        raise DataError(
            f"{metadata}: no line has 'categories'; is it the metadata file, and of this release?"
        )
    items, categories = with_few_categories(
        records, pl.col(_SECOND), table_path(scratch, "interactions"), _CATEGORY
    )
    return write_table(scratch, "items", items.drop(_SECOND)), categories


def _rules(release: Release) -> list[Rule]:
    rating, time = _events()["rating"], pl.col("timestamp").cast(pl.Int64, strict=False)
    unit = {1: "seconds", 1000: "milliseconds"}[release.ticks_per_second]
    first, last = (limit * release.ticks_per_second for limit in (_EARLIEST, _LATEST))
    return [
        *(Rule(name, pl.col(name) == "", "is empty; an id is needed") for name in _IDS),
        Rule(
            "rating", ~rating.is_between(0, 5).fill_null(False), "is not a number of stars, 0 to 5"
        ),
        Rule(
            "timestamp",
            ~time.is_between(first, last).fill_null(False),
            f"is not a time in {unit} since 1970 between 1990 and 2100",
        ),
    ]


def _events() -> dict[str, pl.Expr]:
    return {
        **{name: pl.col(name) for name in _IDS},
        "rating": pl.col("rating").cast(pl.Float64, strict=False),
        "timestamp": pl.col("timestamp").cast(pl.Int64, strict=False),
    }
