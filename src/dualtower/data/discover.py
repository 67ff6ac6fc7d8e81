"""Guessing what the user's tables and columns are, for `dualtower init`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dualtower.config import DataConfig, RunConfig
from dualtower.data.feature_guess import guess_category, guess_features, holds_items
from dualtower.data.interactions import SPLIT_VALUES
from dualtower.data.profiles import (
    ITEM_WORDS,
    QUERY_WORDS,
    Column,
    Profile,
    profile_tables,
    word_score,
)
from dualtower.data.rules import first_fault
from dualtower.data.split_guess import guess_split
from dualtower.data.tables import collect
from dualtower.data.times import calendar_form, microseconds
from dualtower.errors import DataError
from dualtower.schema import Feature, Schema

TIME_WORDS = ("timestamp", "datetime", "time", "date", "ts", "created", "at")
POSITION_WORDS = ("position", "order", "rank", "index", "step", "seq", "sequence")
WEIGHT_WORDS = ("weight", "rating", "star", "overall", "score", "value", "quantity", "count")
"""The first is the weight as it stands; the others are only suggested."""
SPLIT_WORDS = ("split", "fold", "subset", "partition", "set")
_EARLIEST_EPOCH = 100_000_000
"""Whole numbers below this (1973 in seconds) in a time column are places, not times."""

_MOST_COVERED = 0.9
"""A column that holds this share of the ids names them, whatever it is called."""
_MOST_CONTEXTS = 10_000
"""A column of the interactions with more different values is no context."""


@dataclass(frozen=True)
class Guess:
    """What `discover` found."""

    config: RunConfig
    """A configuration that runs as it is; its paths are as the tables were named."""
    reasons: dict[str, str]
    """Why, by setting (`columns.query_id`)."""
    context_candidates: tuple[Feature, ...] = ()
    """Columns of the interactions that may be context, if they are known at request time."""
    query_candidates: tuple[Feature, ...] = ()
    """Columns of the queries table with lists of items, if these are none of the query's events."""
    weight_candidate: str | None = None
    """A column of the interactions that may be meant as a weight, such as a rating or quantity."""

    @property
    def notes(self) -> list[str]:
        """One line for each thing guessed."""
        return [f"{setting}: {reason}" for setting, reason in self.reasons.items()]


def discover(tables: Sequence[str | Path]) -> Guess:
    """Look at tables and guess which is which and what their columns mean.

    Args:
        tables: files, globs or folders; Parquet or CSV.

    Raises:
        DataError: a table cannot be read, or none looks like interactions.
    """
    profiles = profile_tables(tables)
    interactions, query, item = _find_interactions(profiles)
    reasons = {
        "data.interactions": f"{interactions.name} has {interactions.rows:,} rows with "
        f"both a query ({query.name}) and an item ({item.name})",
        "columns.query_id": _distinct(interactions, query),
        "columns.item_id": _distinct(interactions, item),
    }
    others = [profile for profile in profiles if profile is not interactions]
    items = _find_side_table(others, interactions, item, ITEM_WORDS, QUERY_WORDS)
    if items is not None:
        others = [profile for profile in others if profile is not items[0]]
    queries = _find_side_table(others, interactions, query, QUERY_WORDS, ITEM_WORDS)
    query_candidates: tuple[Feature, ...] = ()
    values: dict[str, Any] = {"query_id": query.name, "item_id": item.name}
    used = {query.name, item.name}
    for setting, (name, reason) in _order_and_split(interactions, used).items():
        values[setting] = name
        reasons[f"columns.{setting}"] = reason
        used.add(name)
    if not {"timestamp", "position"} & values.keys():
        fault = _nearly_time(interactions, used, values.get("split"))
        if fault is not None:
            reasons["columns.timestamp"] = fault
    weight = _find_weight(interactions, used, values.get("split"))
    if weight is not None:
        used.add(weight.name)
        if weight.words == WEIGHT_WORDS[:1]:
            values["weight"] = weight.name
            reasons["columns.weight"] = f"{weight.name} is a number, 0 or more, in every row"
            weight = None
    if items is not None:
        profile, key = items
        reasons["data.items"] = f"{profile.name} has one row per {key.name} ({profile.rows:,})"
        values["item_id_in_items"] = key.name if key.name != item.name else None
        category = guess_category(profile, key)
        if category is not None:
            values["category"] = category.name
            reasons["columns.category"] = (
                f"{category.name}: one of {category.distinct:,} values per item"
            )
        item_ids = interactions.sample[item.name]
        values["item_features"], found = guess_features(profile, {key.name}, item_ids)
        reasons |= {f"columns.item_features.{name}": why for name, why in found.items()}
    if queries is not None:
        profile, key = queries
        reasons["data.queries"] = f"{profile.name} has one row per {key.name} ({profile.rows:,})"
        values["query_id_in_queries"] = key.name if key.name != query.name else None
        item_ids = interactions.sample[item.name]
        features, found = guess_features(profile, {key.name}, item_ids)
        query_candidates = tuple(
            feature for feature in features if holds_items(profile, feature, item_ids)
        )
        values["query_features"] = tuple(
            feature for feature in features if feature not in query_candidates
        )
        for feature in query_candidates:
            found[feature.name] += (
                ": not set, since it may hold items, and among them those that are to be predicted"
            )
        reasons |= {f"columns.query_features.{name}": why for name, why in found.items()}
    used |= {column.name for column in interactions.columns if column.distinct > _MOST_CONTEXTS}
    context, _ = guess_features(interactions, used, interactions.sample[item.name])
    columns = Schema.model_validate(values)
    split, found = guess_split(interactions, columns)
    reasons |= {f"split.{setting}": why for setting, why in found.items()}
    config = RunConfig(
        data=DataConfig(
            interactions=interactions.path,
            items=items[0].path if items is not None else None,
            queries=queries[0].path if queries is not None else None,
        ),
        columns=columns,
        split=split,
    )
    weight_candidate = None if weight is None else weight.name
    return Guess(config, reasons, context, query_candidates, weight_candidate)


def _find_interactions(profiles: Sequence[Profile]) -> tuple[Profile, Column, Column]:
    found = []
    for profile in profiles:
        query, item = _best(profile, QUERY_WORDS), _best(profile, ITEM_WORDS)
        if query is not None and item is not None and query.name != item.name:
            found.append((profile, query, item))
    if not found:
        found = [pair for profile in profiles for pair in _by_repetition(profile)]
    if not found:
        seen = "; ".join(
            f"{profile.path}: "
            + ", ".join(f"{column.name} ({column.dtype})" for column in profile.columns)
            for profile in profiles
        )
        raise DataError(
            "no table looks like interactions, with one column that names the query (user_id) and "
            "one that names the item (item_id), both whole numbers or texts, with repeats. "
            f"Seen: {seen}. "
            "Rename two columns so, or write the configuration by hand."
        )
    return max(found, key=lambda entry: entry[0].rows)


def _best(profile: Profile, vocabulary: Sequence[str]) -> Column | None:
    """The id column with repeats whose name fits best.

    Decimal numbers not called ids, which are rather ratings or prices, come after all others.
    """
    fitting = [
        column
        for column in profile.columns
        if column.may_be_id and not column.unique and word_score(column.words, vocabulary)
    ]
    return max(
        fitting,
        key=lambda column: (
            not column.whole or "id" in column.words,
            word_score(column.words, vocabulary),
        ),
        default=None,
    )


def _by_repetition(profile: Profile) -> list[tuple[Profile, Column, Column]]:
    """Without telling names: the two columns of most values that repeat, in their order.

    Decimal numbers, which are rather prices than ids, come after all others.
    """
    taken = {*TIME_WORDS, *POSITION_WORDS, *WEIGHT_WORDS, *SPLIT_WORDS}
    candidates = [
        column
        for column in profile.columns
        if column.may_be_id
        and not column.unique
        and column.distinct > 1
        and not taken.intersection(column.words)
    ]
    if len(candidates) < 2:
        return []
    most = sorted(candidates, key=lambda column: (column.whole, -column.distinct))[:2]
    query, item = (column for column in profile.columns if column in most)
    return [(profile, query, item)]


def _find_side_table(
    profiles: Sequence[Profile],
    interactions: Profile,
    key: Column,
    own: Sequence[str],
    other: Sequence[str],
) -> tuple[Profile, Column] | None:
    """The table with one row per id, and its id column."""
    ids = interactions.sample[key.name].drop_nulls().unique()
    found: list[tuple[float, Profile, Column]] = []
    for profile in profiles:
        for column in profile.columns:
            if not (column.may_be_id and column.unique):
                continue
            score = 4.0 if column.name == key.name else word_score(column.words, own)
            if word_score(column.words, other) and column.name != key.name:
                continue
            if not score and not word_score(profile.words, other):
                score = word_score(profile.words, own) * ("id" in column.words)
            covered, used = _overlap(ids, profile.sample[column.name])
            if (score and used) or covered >= _MOST_COVERED:
                found.append((score + max(covered, used), profile, column))
    if not found:
        return None
    _, profile, column = max(found, key=lambda entry: (entry[0], entry[1].rows))
    return profile, column


def _overlap(ids: pl.Series, values: pl.Series) -> tuple[float, float]:
    """The share of the ids that are among the values, and of the values among the ids."""
    cast = values.cast(ids.dtype, strict=False).drop_nulls().unique()
    if cast.is_empty() or ids.is_empty():
        return 0.0, 0.0
    both = int(ids.is_in(cast.implode()).sum())
    return both / len(ids), both / len(cast)


def _order_and_split(interactions: Profile, used: set[str]) -> dict[str, tuple[str, str]]:
    """The columns for order and split, with why."""
    found: dict[str, tuple[str, str]] = {}
    free = [column for column in interactions.columns if column.name not in used]
    for column in _by_words(free, SPLIT_WORDS):
        text = interactions.sample[column.name]
        if text.dtype == pl.String and set(text.drop_nulls().str.to_lowercase().unique()) <= set(
            SPLIT_VALUES
        ):
            found["split"] = (column.name, f"{column.name} says train, validation or test")
            break
    has_split = _has_split(found["split"][0] if "split" in found else None)
    times = [column for column in free if column.dtype.is_temporal()]
    times.sort(key=lambda column: column.dtype == pl.Date)
    for column in dict.fromkeys([*times, *_by_words(free, TIME_WORDS)]):
        if _is_time(interactions, column, has_split):
            found["timestamp"] = (column.name, f"{column.name} is a time in every row")
            break
    if "timestamp" not in found:
        for column in _by_words(free, (*POSITION_WORDS, *TIME_WORDS)):
            missing = pl.col(column.name).is_null()
            if column.dtype.is_integer() and not _any(interactions, missing & has_split):
                found["position"] = (column.name, f"{column.name} is a whole number in every row")
                break
    return found


def _find_weight(interactions: Profile, used: set[str], split: str | None) -> Column | None:
    """The column that is or may be meant as a weight."""
    free = [column for column in interactions.columns if column.name not in used]
    fitting = (
        column
        for column in _by_words(free, WEIGHT_WORDS)
        if _is_weight(interactions, column, _has_split(split))
    )
    return next(fitting, None)


def _has_split(split: str | None) -> pl.Expr:
    """The rows that are kept: without a mark in the split column a row is left out."""
    return pl.lit(True) if split is None else pl.col(split).is_not_null()


def _by_words(columns: Sequence[Column], vocabulary: Sequence[str]) -> list[Column]:
    fitting = [column for column in columns if set(vocabulary).intersection(column.words)]
    return sorted(
        fitting,
        key=lambda column: min(
            vocabulary.index(word) for word in column.words if word in vocabulary
        ),
    )


def _is_time(profile: Profile, column: Column, rows: pl.Expr) -> bool:
    if not (column.dtype.is_numeric() or column.dtype.is_temporal() or column.dtype == pl.String):
        return False
    if column.dtype.is_numeric():
        smallest = profile.sample[column.name].cast(pl.Float64).min()
        is_recent = isinstance(smallest, float) and smallest >= _EARLIEST_EPOCH
        if not is_recent and calendar_form(profile.table, column.name) is None:
            return False
    try:
        _, rule, _ = microseconds(profile.table, column.name)
    except DataError:
        return False
    return not _any(profile, rule.among(rows).broken)


def _nearly_time(interactions: Profile, used: set[str], split: str | None) -> str | None:
    """What is wrong with a column that is a time in most rows and not in all; None without one."""
    free = [column for column in interactions.columns if column.name not in used]
    temporal = [column for column in free if column.dtype.is_temporal()]
    table, rows = interactions.table, _has_split(split)
    for column in dict.fromkeys([*temporal, *_by_words(free, TIME_WORDS)]):
        if column.dtype.is_numeric():
            continue  # a small number may be anything
        try:
            _, rule, _ = microseconds(table, column.name)
        except DataError:
            continue
        rule = rule.among(rows)
        broken = int(collect(table, table.frame.select(rule.broken.sum())).item())
        if broken <= interactions.rows / 2:
            fault = first_fault(table, rule)
            return (
                f"not set, so events stand in the order of the rows: {column.name} is a time in "
                f"all but {broken:,} of {interactions.rows:,} rows. Mend or remove these and run "
                f"init again, or set it and see prepare refuse them. The first is {fault}"
            )
    return None


def _is_weight(profile: Profile, column: Column, rows: pl.Expr) -> bool:
    if not column.dtype.is_numeric():
        return False
    value = pl.col(column.name).cast(pl.Float64)
    good = (value.is_finite() & (value >= 0)).fill_null(False)
    return not _any(profile, ~good & rows)


def _any(profile: Profile, flag: pl.Expr) -> bool:
    return bool(collect(profile.table, profile.table.frame.select(flag.any())).item())


def _distinct(profile: Profile, column: Column) -> str:
    of = (
        "" if len(profile.sample) == profile.rows else f" in the first {len(profile.sample):,} rows"
    )
    return f"{column.name}: {column.distinct:,} different values{of}"
