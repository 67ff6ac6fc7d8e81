"""An event as one row of a table, and back; the same for every store."""

import json
from typing import Any

from dualtower.serving.event import Event

COLUMNS = (
    "event_id",
    "query_id",
    "item_id",
    "timestamp",
    "kind",
    "value",
    "experiment",
    "arm",
)
"""In the order of a row."""


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
    )


def event_of(row: tuple[Any, ...]) -> Event:
    """The event of a row as `row_of` made it.

    Raises:
        DataError: the row was not made by `row_of`.
    """
    event_id, query_id, item_id, timestamp, kind, value, experiment, arm = row
    return Event(
        event_id,
        json.loads(query_id),
        json.loads(item_id),
        json.loads(timestamp),
        kind,
        value,
        experiment,
        arm,
    )
