"""Amazon reviews, release of 2023: the 5-core CSV files and `meta_NAME.jsonl.gz`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dualtower.data.readers.amazon import (
    ITEM_COLUMNS,
    RATINGS_SUFFIXES,
    Release,
    import_release,
)
from dualtower.data.readers.fields import Fields, open_fields, read_header, require_fields
from dualtower.data.readers.folder import Imported, check_kinds, one_file
from dualtower.data.readers.records import (
    Record,
    identifier,
    json_value,
    price,
    text,
    texts,
)
from dualtower.errors import DataError

METADATA_SUFFIXES = (".jsonl", ".jsonl.gz")
_RENAMED = {"parent_asin": "item_id"}
_NEEDED = ("user_id", "parent_asin", "rating", "timestamp")


def import_amazon_2023(
    files: Sequence[str | Path],
    folder: str | Path,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> Imported:
    """Ratings and metadata of the 2023 release into tables and a configuration.

    Args:
        files: the ratings (CSV with the header user_id,parent_asin,rating,timestamp, the last in
            milliseconds since 1970; other columns, such as `history`, are left out), in one file or
            in the parts that the release offers (train, valid, test), and for features and
            categories the metadata file (JSON a line, with `parent_asin`, `title`,
            `main_category`, `categories`, `store` and `price`); each may be gzipped.
        folder: where the tables and `dualtower.toml` go.
        overwrite: whether those that are there may be replaced.
        progress: show bars.

    Raises:
        ConfigError: `folder` already holds such files and they may not be replaced.
        DataError: a file is not as it should be; the message names file and line.
    """
    paths = [Path(file) for file in files]
    check_kinds(paths, RATINGS_SUFFIXES + METADATA_SUFFIXES)
    ratings = [path for path in paths if path.name.lower().endswith(RATINGS_SUFFIXES)]
    if not ratings:
        raise DataError(
            f"the ratings: a file that ends in {' or '.join(RATINGS_SUFFIXES)} is needed"
        )
    others = [path for path in paths if path not in ratings]
    metadata = one_file(others, METADATA_SUFFIXES, "the metadata") if others else None
    return import_release(
        _RELEASE,
        [_open_ratings(path) for path in ratings],
        metadata,
        Path(folder),
        overwrite=overwrite,
        progress=progress,
    )


def _open_ratings(path: Path) -> Fields:
    header = read_header(path, ",")
    require_fields(path, {f"the {name} of a rating": name for name in _NEEDED}, header)
    columns = [_RENAMED.get(name, name) for name in header]
    return open_fields(path, ",", columns, has_header=True)


def _row(record: Record) -> tuple[Any, ...]:
    path = texts(record.get("categories"), "categories")
    return (
        identifier(record, "parent_asin"),
        text(record, "title"),
        price(record, "price"),
        list(dict.fromkeys(path)),
        path[1] if len(path) > 1 else None,
        text(record, "store"),
        text(record, "main_category"),
    )


_RELEASE = Release(
    command="`dualtower import amazon-2023`",
    ticks_per_second=1000,
    parse=json_value,
    row=_row,
    columns={**ITEM_COLUMNS, "store": pl.String(), "main_category": pl.String()},
    features={
        "category": "One of the eleven",
        "categories": "All names of the item's category path",
        "store": "Brand, author or publisher",
        "main_category": "The department",
        "price": "In dollars",
    },
)
