"""Guessing how to divide the events, for `dualtower init`."""

import polars as pl

from dualtower.config import SplitConfig
from dualtower.data.profiles import Profile
from dualtower.data.splits import DAY
from dualtower.data.tables import collect
from dualtower.data.times import microseconds, show_time
from dualtower.schema import Schema

_ENOUGH_EVENTS = 3
"""Queries with fewer events are in no test of leave-last-out."""
_FEWEST_TESTED = 0.05
"""With a smaller share of tested queries leave-last-out says nothing about the others."""
_MANY_TESTED = 0.5
_TRAINING_SHARE, _TRAINING_AND_VALIDATION_SHARE = 0.8, 0.9


def guess_split(interactions: Profile, columns: Schema) -> tuple[SplitConfig, dict[str, str]]:
    """The split that suits the table.

    The split column where there is one; else leave-last-out, unless next to no query has the three
    events that it needs and the table has times: then the last tenth of the events by time is the
    test, and the tenth before it the validation.

    Args:
        interactions: the interactions table.
        columns: what its columns mean.

    Returns:
        The split, and why, by setting.
    """
    if columns.split is not None:
        reason = f"column {columns.split} says which part each event is in"
        return SplitConfig(by="column"), {"by": reason}
    queries, tested = _count_queries(interactions, columns.query_id)
    share = tested / max(1, queries)
    reason = "each query's last event is the test, the last but one the validation"
    few = f"only {tested:,} of {queries:,} queries have {_ENOUGH_EVENTS} events or more"
    if share < _FEWEST_TESTED:
        starts = _time_starts(interactions, columns)
        if starts is not None:
            validation_start, test_start = starts
            return SplitConfig(
                by="time", validation_start=validation_start, test_start=test_start
            ), {
                "by": f"{few}, too few for leave_last_out, which tests no others",
                "validation_start": "about the last tenth but one of the events by time",
                "test_start": "about the last tenth of the events by time",
            }
        reason += f"; but {few}, and others are not tested"
        if columns.timestamp is None:
            reason += "; with a column of times a split by time would be better"
    elif share < _MANY_TESTED:
        reason += f"; {few}, and others are not tested (by = time tests them all)"
    return SplitConfig(by="leave_last_out"), {"by": reason}


def _count_queries(interactions: Profile, query_id: str) -> tuple[int, int]:
    """How many queries there are, and how many have enough events for leave-last-out."""
    lengths = interactions.table.frame.group_by(query_id).len()
    named = lengths.filter(pl.col(query_id).is_not_null())
    counts = named.select(pl.len(), tested=(pl.col("len") >= _ENOUGH_EVENTS).sum())
    queries, tested = collect(interactions.table, counts).row(0)
    return queries, tested


def _time_starts(interactions: Profile, columns: Schema) -> tuple[str, str] | None:
    """Where validation and test begin, to the day where that leaves no part empty."""
    if columns.timestamp is None:
        return None
    time, _, _ = microseconds(interactions.table, columns.timestamp)
    shares = (0.0, _TRAINING_SHARE, _TRAINING_AND_VALIDATION_SHARE)
    quantiles = (time.quantile(share, "lower").alias(f"{share}") for share in shares)
    kept = interactions.table.frame.drop_nulls([columns.query_id, columns.item_id])
    found = collect(interactions.table, kept.select(quantiles)).row(0)
    if None in found:
        return None
    for unit in (DAY, 1_000_000):
        first, validation, test = (int(value) for value in found)
        validation, test = validation - validation % unit, test - test % unit
        if first < validation < test:
            times = show_time(validation), show_time(test)
            return times if unit < DAY else (times[0][:10], times[1][:10])
    return None
