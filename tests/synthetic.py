"""Small tables whose right answers are known: every user stays within one category of items."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

USERS, ITEMS, CATEGORIES, EVENTS = 60, 40, 4, 8


def interactions() -> pl.DataFrame:
    """Users `u1` … with eight different items each of the user's own category, one a day."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(1, USERS + 1):
        own = np.arange(user % CATEGORIES, ITEMS, CATEGORIES) + 1
        for day, item in enumerate(random.permutation(own)[:EVENTS]):
            moment = datetime(2024, 3, 1 + day) + timedelta(minutes=user)
            rows.append((f"u{user}", int(item), moment))
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def items() -> pl.DataFrame:
    """Items 1 … 40; item i is of category `c{(i - 1) % 4}`, and of a brand of two."""
    ids = list(range(1, ITEMS + 1))
    return pl.DataFrame(
        {
            "item_id": ids,
            "category": [category_of(item) for item in ids],
            "brand": [f"b{item % 2}" for item in ids],
        }
    )


def category_of(item: int) -> str:
    """The category of an item id."""
    return f"c{(item - 1) % CATEGORIES}"


def write_tables(folder: Path) -> tuple[Path, Path]:
    """Write the tables as Parquet and CSV into `folder`; their paths."""
    events, catalogue = folder / "events.parquet", folder / "catalogue.csv"
    interactions().write_parquet(events)
    items().write_csv(catalogue)
    return events, catalogue
