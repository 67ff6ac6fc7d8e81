"""Ratings alone, as who rated what how, from any of the forms that they come in."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.readers.fields import check_fields, open_fields
from dualtower.data.readers.recbole import open_atomic
from dualtower.data.rules import Rule, check_rules
from dualtower.data.tables import Table, collect, open_table
from dualtower.errors import DataError
from dualtower.files import sha256

NAMES = {
    "user": ("user_id", "userId", "UserID", "user"),
    "item": ("item_id", "movieId", "movie_id", "MovieID", "item"),
    "rating": ("rating", "Rating"),
}
"""What the columns of a table may be called."""
_MOVIELENS = ("user", "item", "rating", "timestamp")
_IN_FOLDER = ("interactions.parquet", "ratings.dat", "ratings.csv", "*.inter")


@dataclass(frozen=True)
class Ratings:
    """Who rated what, and how."""

    name: str
    """Of the folder or file they come from."""
    sha256: str
    """Of the file."""
    users: npt.NDArray[np.int64]
    """Number of each rating's user, from 0, `[ratings]`."""
    items: npt.NDArray[np.int64]
    """Number of each rating's item, from 0, `[ratings]`."""
    values: npt.NDArray[np.float64]
    """The ratings, finite, `[ratings]`."""


def read_ratings(path: str | Path) -> Ratings:
    """Read ratings from a file, or from the file of ratings in a folder.

    Args:
        path: MovieLens' `ratings.dat` (user::item::rating::time), RecBole's `.inter`, or a Parquet
            or CSV file with columns such as user_id, item_id and rating; or a folder with
            `interactions.parquet`, `ratings.dat`, `ratings.csv` or one `.inter`, the first that is
            there.

    Raises:
        DataError: there is no such file, it has no column of ratings, or a row lacks user, item or
            rating.
    """
    source = Path(path)
    file = _find(source) if source.is_dir() else source
    table = _open(file)
    present = table.schema.names()
    columns = {}
    for what, names in NAMES.items():
        name = next((name for name in names if name in present), None)
        if name is None:
            raise DataError(
                f"{file}: no column of the {what}s; one of {', '.join(names)} is needed. "
                f"The columns are: {', '.join(present)}"
            )
        columns[what] = name
    _check(table, columns)
    frame = collect(
        table,
        table.frame.select(
            user=pl.col(columns["user"]).rank("dense").cast(pl.Int64) - 1,
            item=pl.col(columns["item"]).rank("dense").cast(pl.Int64) - 1,
            rating=pl.col(columns["rating"]).cast(pl.Float64),
        ),
    )
    return Ratings(
        name=source.name if source.is_dir() else source.stem,
        sha256=sha256(file),
        users=frame["user"].to_numpy(),
        items=frame["item"].to_numpy(),
        values=frame["rating"].to_numpy(),
    )


def _find(folder: Path) -> Path:
    for pattern in _IN_FOLDER:
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    raise DataError(f"{folder}: holds no ratings; looked for {', '.join(_IN_FOLDER)}")


def _open(file: Path) -> Table:
    if file.suffix == ".dat":
        fields = open_fields(file, "::", _MOVIELENS, has_header=False)
        rating = pl.col("rating").cast(pl.Float64, strict=False)
        check_fields(fields, [Rule("rating", rating.is_null(), "is not a number of stars")])
        frame = fields.frame.select("user", "item", rating)
    elif file.suffix == ".inter":
        atomic = open_atomic(file, ())
        atomic.check()
        frame = atomic.frame
    else:
        return open_table(file, "ratings")
    return Table(str(file), frame, ((str(file), frame),), (file,))


def _check(table: Table, columns: dict[str, str]) -> None:
    rating = columns["rating"]
    if not table.schema[rating].is_numeric():
        raise DataError(
            f"{table.name}: column {rating!r} is of type {table.schema[rating]}; a rating is a "
            "number"
        )
    rules = [
        Rule(
            columns[what], pl.col(columns[what]).is_null(), f"is no {what}; every rating needs one"
        )
        for what in ("user", "item")
    ]
    good = pl.col(rating).cast(pl.Float64).is_finite().fill_null(False)
    check_rules(table, [*rules, Rule(rating, ~good, "is not a rating; it should be a number")])
