"""Guessing which columns are features, and of which kind."""

from collections.abc import Set

import polars as pl

from dualtower.data.encode import LIST_SEPARATOR
from dualtower.data.profiles import Column, Profile
from dualtower.schema import Feature, FeatureKind

CATEGORY_WORDS = ("category", "department", "genre", "class", "section", "type", "topic", "group")
CODE_WORDS = ("id", "code", "zip", "postcode", "postal", "type", "class", "occupation", "region")
HISTORY_WORDS = ("history", "item", "clicked", "bought", "viewed", "watched", "similar", "related")
_MOST_CATEGORIES = 1_000
_MOST_DISTINCT_SHARE = 0.5
"""A text of which more than this share of the rows have a value of their own is no category."""
_FEW_NUMBERS = 50
"""Whole numbers with at most so many different values are taken as categories."""
_LONGEST_TEXT = 40
"""Texts longer than this on average are prose."""


def guess_category(profile: Profile, key: Column) -> Column | None:
    """The item's category: a column so named with one value per item, the coarsest of them."""
    fitting = [
        column
        for column in profile.columns
        if set(CATEGORY_WORDS).intersection(column.words)
        and column.name != key.name
        and (column.dtype.is_integer() or column.dtype in (pl.String, pl.Categorical))
        and 2 <= column.distinct <= min(_MOST_CATEGORIES, max(2, column.filled // 5))
        and not _is_joined_list(profile.sample[column.name])
    ]
    return min(
        fitting,
        key=lambda column: (column.name.lower() != "category", column.distinct),
        default=None,
    )


def guess_features(
    profile: Profile, used: Set[str], item_ids: pl.Series
) -> tuple[tuple[Feature, ...], dict[str, str]]:
    """The feature columns of a table.

    Args:
        profile: the table.
        used: columns that are something else.
        item_ids: item ids of the interactions, to tell sequences of items from other lists.

    Returns:
        The features, and why, by name.
    """
    features, reasons = [], {}
    for column in profile.columns:
        if column.name in used or not column.filled:
            continue
        guess = _guess(profile, column, item_ids)
        if guess is not None:
            kind, reason = guess
            features.append(Feature(name=column.name, kind=kind))
            reasons[column.name] = f"{kind.value}, {reason}"
    return tuple(features), reasons


def holds_items(profile: Profile, feature: Feature, item_ids: pl.Series) -> bool:
    """Whether a feature's lists, or texts that join values, may be of items for the most part.

    Small codes of something else are among the item ids too where these are numbered from 1 on, so
    lists whose name tells of no items must reach over most of the ids.
    """
    if feature.kind == FeatureKind.SEQUENCE:
        return True
    if feature.kind != FeatureKind.MULTI_VALUED:
        return False
    values = profile.sample[feature.name].drop_nulls()
    if values.dtype == pl.String:
        values = values.str.split(LIST_SEPARATOR)
    lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
    named = bool(set(HISTORY_WORDS).intersection(profile.column(feature.name).words))
    return _are_items(lists, item_ids) and (named or _reach_over_most(lists, item_ids))


def _guess(profile: Profile, column: Column, item_ids: pl.Series) -> tuple[FeatureKind, str] | None:
    values = profile.sample[column.name]
    if column.is_list:
        return _guess_list(column, values, item_ids)
    few = column.distinct <= max(_FEW_NUMBERS, _MOST_DISTINCT_SHARE * column.filled)
    if column.distinct < 2:
        return None
    if column.dtype == pl.Boolean:
        return FeatureKind.CATEGORICAL, "yes or no"
    if column.dtype in (pl.String, pl.Categorical):
        if column.dtype == pl.String and _is_joined_list(values):
            return FeatureKind.MULTI_VALUED, f'texts that join values by "{LIST_SEPARATOR}"'
        long = values.cast(pl.String).str.len_chars().mean()
        if not few or column.unique or (isinstance(long, float) and long > _LONGEST_TEXT):
            return None
        return FeatureKind.CATEGORICAL, f"{column.distinct:,} different values"
    if column.dtype.is_integer():
        if column.distinct <= _FEW_NUMBERS or set(CODE_WORDS).intersection(column.words):
            if not few or column.unique:
                return None
            return FeatureKind.CATEGORICAL, f"{column.distinct:,} different values"
        return FeatureKind.NUMERIC, f"{column.distinct:,} different whole numbers"
    if column.dtype.is_float() and values.drop_nulls().is_finite().all():
        return FeatureKind.NUMERIC, "decimal numbers"
    return None


def _guess_list(
    column: Column, values: pl.Series, item_ids: pl.Series
) -> tuple[FeatureKind, str] | None:
    inner = column.dtype.inner  # type: ignore[attr-defined]
    if inner.is_nested():
        return None
    present = values.drop_nulls()
    lists = present.arr.to_list() if isinstance(column.dtype, pl.Array) else present
    if inner.is_float():
        lengths = lists.list.len().n_unique()
        finite = lists.explode().is_finite().all() if lengths == 1 else False
        return (FeatureKind.VECTOR, "lists of numbers, all of one length") if finite else None
    if set(HISTORY_WORDS).intersection(column.words) and _are_items(lists, item_ids):
        return FeatureKind.SEQUENCE, "lists of item ids"
    return FeatureKind.MULTI_VALUED, "lists of values"


def _are_items(lists: pl.Series, item_ids: pl.Series) -> bool:
    """Whether most of the values in lists are ids of items."""
    flat = lists.explode().drop_nulls().cast(item_ids.dtype, strict=False)
    return int(flat.is_in(item_ids.unique().implode()).sum()) > len(flat) / 2


def _reach_over_most(lists: pl.Series, item_ids: pl.Series) -> bool:
    """Whether most ids lie between the least and the largest in lists; true where ids are texts."""
    ids = item_ids.drop_nulls().unique()
    flat = lists.explode().drop_nulls().cast(ids.dtype, strict=False)
    found = flat.filter(flat.is_in(ids.implode()))
    numbers = [part.cast(pl.String).cast(pl.Float64, strict=False) for part in (found, ids)]
    if numbers[1].has_nulls():
        return True
    listed, every = numbers
    return int(every.is_between(listed.min(), listed.max()).sum()) > len(every) / 2


def _is_joined_list(values: pl.Series) -> bool:
    if values.dtype != pl.String:
        return False
    share = values.drop_nulls().str.contains(LIST_SEPARATOR, literal=True).mean()
    return isinstance(share, float) and share > 0.1
