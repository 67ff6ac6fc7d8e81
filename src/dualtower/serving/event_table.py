"""The events of a store as a table, for the report of an experiment."""

from pathlib import Path

import polars as pl

from dualtower.errors import DataError
from dualtower.serving.store import EventStore, open_store

_SQLITE = b"SQLite format 3\x00"
_SCHEMA = {
    "query_id": pl.String,
    "experiment": pl.String,
    "arm": pl.String,
    "kind": pl.String,
    "timestamp": pl.Float64,
    "value": pl.Float64,
    "latency": pl.Float64,
    "asked": pl.Int64,
}


def is_store(source: str | Path) -> bool:
    """Whether `source` is the address of an event store, and not the path of a table."""
    if "://" in str(source):
        return True
    path = Path(source)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def event_table(source: str | Path) -> pl.DataFrame:
    """All events of a store, in the order of their commit.

    Columns are query_id (as text), experiment, arm, kind, timestamp, value, latency and asked;
    each event id is in a store once, so they are left out.

    Args:
        source: as `open_store` takes it; the server that writes to it may be running.

    Raises:
        ConfigError: as `open_store`.
        DataError: it holds no events.
        StoreError: it cannot be read.
    """
    store = open_store(source)
    try:
        return events_of(store)
    except DataError:
        raise DataError(f"{source}: holds no events") from None
    finally:
        store.close()


def events_of(store: EventStore) -> pl.DataFrame:
    """As `event_table`, of a store that is open and stays so.

    Raises:
        DataError: it holds no events.
        StoreError: it cannot be read.
    """
    blocks = [
        pl.DataFrame(
            [
                (
                    str(event.query_id),
                    event.experiment,
                    event.arm,
                    event.kind,
                    float(event.timestamp),
                    float(event.value),
                    event.latency,
                    event.asked,
                )
                for event in block.events
            ],
            schema=_SCHEMA,
            orient="row",
        )
        for block in store.replay()
    ]
    if not blocks:
        raise DataError("events: the store holds none yet")
    return pl.concat(blocks)
