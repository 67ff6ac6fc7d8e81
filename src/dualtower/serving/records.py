"""An event as one row of a table, and back; the same for every store."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dualtower.errors import DataError, StoreError
from dualtower.serving.event import Event
from dualtower.serving.store import Block

COLUMNS = (
    "event_id",
    "query_id",
    "item_id",
    "timestamp",
    "kind",
    "value",
    "experiment",
    "arm",
    "latency",
    "asked",
)
"""In the order of a row."""
Row = tuple[Any, ...]


def row_of(event: Event) -> tuple[Any, ...]:
    """The values of `COLUMNS`; ids and timestamp as JSON, so that 7, "7" and 7.0 stay apart."""
    return (
        event.event_id,
        json.dumps(event.query_id, ensure_ascii=False),
        json.dumps(event.item_id, ensure_ascii=False),
        json.dumps(event.timestamp),
        event.kind,
        float(event.value),
        event.experiment,
        event.arm,
        event.latency,
        event.asked,
    )


def event_of(row: tuple[Any, ...]) -> Event:
    """The event of a row as `row_of` made it.

    Raises:
        DataError: the row was not made by `row_of`.
    """
    event_id, query_id, item_id, timestamp, kind, value, experiment, arm, latency, asked = row
    return Event(
        event_id,
        json.loads(query_id),
        json.loads(item_id),
        json.loads(timestamp),
        kind,
        value,
        experiment,
        arm,
        latency,
        asked,
    )


def blocks(
    read: Callable[[int], Sequence[Row]],
    after: int,
    failure: Callable[[str, Exception], StoreError],
) -> Iterator[Block]:
    """The events of a store in the order of their commit, a block for each read.

    Args:
        read: the next rows after a place, each with its place before the `COLUMNS`; none at the
            end.
        after: the place to begin behind.
        failure: the store's error, from what happened and its cause.

    Raises:
        StoreError: a row was not made by `row_of`.
    """
    while rows := read(after):
        after = rows[-1][0]
        try:
            events = [event_of(row[1:]) for row in rows]
        except (DataError, ValueError) as error:
            raise failure("holds a row that is no event", error) from error
        yield Block(events, after)
