"""Amazon reviews, release of 2014: `ratings_NAME.csv` and `meta_NAME.json.gz`."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from dualtower.data.readers.amazon import (
    ITEM_COLUMNS,
    RATINGS_SUFFIXES,
    Release,
    import_release,
)
from dualtower.data.readers.fields import BYTE_ORDER_MARK, DAMAGED, open_bytes, open_fields
from dualtower.data.readers.folder import Imported, check_kinds, one_file
from dualtower.data.readers.records import (
    Record,
    identifier,
    price,
    python_literal,
    text,
    texts,
)
from dualtower.errors import DataError

METADATA_SUFFIXES = (".json", ".json.gz")
_RATINGS = ("user_id", "item_id", "rating", "timestamp")
_ITEM_LENGTH = 10
"""Of an ASIN."""
_LINES_LOOKED_AT = 1000


def import_amazon_2014(
    files: Sequence[str | Path],
    folder: str | Path,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> Imported:
    """Ratings and metadata of the 2014 release into tables and a configuration.

    Args:
        files: the ratings file (CSV without a header: user, item, rating, seconds since 1970) and,
            for features and categories, the metadata file (a Python literal a line, with `asin`,
            `categories`, `title`, `brand` and `price`); each may be gzipped.
        folder: where the tables and `dualtower.toml` go.
        overwrite: whether those that are there may be replaced.
        progress: show bars.

    Raises:
        ConfigError: `folder` already holds such files and they may not be replaced.
        DataError: a file is not as it should be; the message names file and line.
    """
    paths = [Path(file) for file in files]
    check_kinds(paths, RATINGS_SUFFIXES + METADATA_SUFFIXES)
    ratings = one_file(paths, RATINGS_SUFFIXES, "the ratings")
    others = [path for path in paths if path != ratings]
    metadata = one_file(others, METADATA_SUFFIXES, "the metadata") if others else None
    fields = open_fields(ratings, ",", _RATINGS, has_header=False)
    _check_order(ratings)
    return import_release(
        _RELEASE,
        [fields],
        metadata,
        Path(folder),
        overwrite=overwrite,
        progress=progress,
    )


def _check_order(ratings: Path) -> None:
    """Items have ten characters and most users more: the release of 2018 names the item first."""
    try:
        with open_bytes(ratings) as (_, content):
            head = [line.decode("utf-8", "replace") for line in islice(content, _LINES_LOOKED_AT)]
    except DAMAGED:
        return  # what reads it all says what is wrong with it
    rows = [line.removeprefix(BYTE_ORDER_MARK).split(",") for line in head]
    fields = [row[:2] for row in rows if len(row) == len(_RATINGS)]
    first, second = ({len(row[place]) for row in fields} for place in (0, 1))
    if first == {_ITEM_LENGTH} and _ITEM_LENGTH not in second:
        raise DataError(
            f"{ratings}: its first field looks like items ({fields[0][0]!r}) and its second like "
            f"users ({fields[0][1]!r}), as in the release of 2018; here the user comes first: swap "
            "the two fields"
        )


def _row(record: Record) -> tuple[Any, ...]:
    """An item may stand in several places: the names of all, and the second of the first path
    that has two."""
    value = record.get("categories")
    if value is not None and not isinstance(value, list):
        raise ValueError("'categories' is not a list of lists of texts")
    paths = [texts(path, "categories") for path in value or ()]
    names = dict.fromkeys(name for path in paths for name in path)
    second = next((path[1] for path in paths if len(path) > 1), None)
    return (
        identifier(record, "asin"),
        text(record, "title"),
        price(record, "price"),
        list(names),
        second,
        text(record, "brand"),
    )


_RELEASE = Release(
    command="`dualtower import amazon-2014`",
    ticks_per_second=1,
    parse=python_literal,
    row=_row,
    columns={**ITEM_COLUMNS, "brand": pl.String()},
    features={
        "category": "One of the eleven",
        "categories": "All names of the item's category paths",
        "brand": "Brand, where the metadata has one",
        "price": "In dollars",
    },
)
