"""Few categories from many: the largest keep their names, the others are one."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

LARGEST = 11
"""How many categories are left, "Other" included: as many as the paper's Amazon Books has."""
OTHER = "Other"
COUNTED_FROM = 5
"""Only items with so many events count: those that a 5-core can keep."""


_EVENTS, _MANY = "\0events", "\0many"


def with_few_categories(
    items: pl.LazyFrame, many: pl.Expr, interactions: Path, name: str, *, item_id: str = "item_id"
) -> tuple[pl.LazyFrame, dict[str, int]]:
    """Items that have events, with the column `name`: a category of at most `LARGEST`.

    Where the items have more categories than that, the ten that most items are in keep their names
    and all others, and items without one, are "Other". Counted are items with at least
    `COUNTED_FROM` events; of equals, the first by name is the larger.

    Args:
        items: with the column `item_id`; of rows that repeat an id the first stays.
        many: the text of the many categories, null where an item has none.
        interactions: Parquet file of the events, with the column `item_id`.
        name: the new column.
        item_id: the column of both that names the item.

    Returns:
        The items, not read yet, and the number of counted items by category, the largest first.
    """
    events = pl.scan_parquet(interactions, glob=False).group_by(item_id).len(name=_EVENTS)
    items = (
        items.with_columns(many.alias(_MANY))
        .unique(item_id, keep="first", maintain_order=True)
        .join(events, on=item_id, how="inner", maintain_order="left")
    )
    counted = items.filter(pl.col(_EVENTS) >= COUNTED_FROM).group_by(_MANY).len(name=_EVENTS)
    sizes = counted.collect(engine="streaming").sort(
        [_EVENTS, _MANY], descending=[True, False], nulls_last=True
    )
    named = sizes.drop_nulls(_MANY)[_MANY].to_list()
    if len(sizes) > LARGEST:
        named = named[: LARGEST - 1]
    reduced = pl.when(pl.col(_MANY).is_in(named)).then(_MANY).otherwise(pl.lit(OTHER)).alias(name)
    shares = sizes.group_by(reduced).agg(pl.col(_EVENTS).sum())
    rows = shares.sort([_EVENTS, name], descending=[True, False]).rows()
    return items.with_columns(reduced).drop(_EVENTS, _MANY), dict(rows)


def category_reason(categories: Mapping[str, int], source: str) -> str:
    """How the categories were made, and how many items each has, in a sentence.

    Args:
        categories: what `with_few_categories` counted.
        source: what the many categories were.
    """
    total = max(sum(categories.values()), 1)
    shares = ", ".join(f"{name} {count / total:.1%}" for name, count in categories.items())
    return (
        f"{source}, all but the largest as {OTHER}; of the items with {COUNTED_FROM} events or "
        f"more: {shares}"
    )
