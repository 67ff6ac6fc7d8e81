"""The event store in a PostgreSQL database, for several servers with one log."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from dualtower.errors import ConfigError, StoreError, StoreUnsureError
from dualtower.serving.event import Event
from dualtower.serving.records import COLUMNS, blocks, row_of
from dualtower.serving.store import BLOCK_EVENTS, Block

_ORDER_LOCK = 0x64747770
"""Held from insert to commit, so that places are taken in the order of the commits: a sequence
alone gives numbers out before, and a reader could pass one whose commit comes later."""
_CREATE = """
CREATE TABLE IF NOT EXISTS dualtower_events (
    sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    query_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    kind TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    experiment TEXT,
    arm TEXT,
    latency DOUBLE PRECISION,
    asked INTEGER
)
"""
# Asked first, so that who may not alter the table can still read and write it.
_IS_OLD = """
SELECT NOT EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = to_regclass('dualtower_events') AND attname = 'asked' AND NOT attisdropped
)
"""
_SINCE_VERSION_1 = """
ALTER TABLE dualtower_events
ADD COLUMN IF NOT EXISTS latency DOUBLE PRECISION, ADD COLUMN IF NOT EXISTS asked INTEGER
"""
_TAKE_TURN = f"SELECT pg_advisory_xact_lock({_ORDER_LOCK})"
# A server may have the setting off, and then a commit returns before it is durable.
_DURABLE = "SET LOCAL synchronous_commit = on"
_INSERT = (
    f"INSERT INTO dualtower_events ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join(['%s'] * len(COLUMNS))}) ON CONFLICT (event_id) DO NOTHING"
)
_SELECT = (
    f"SELECT sequence, {', '.join(COLUMNS)} FROM dualtower_events WHERE sequence > %s "
    f"ORDER BY sequence LIMIT {BLOCK_EVENTS}"
)
T = TypeVar("T")


class PostgresStore:
    """Events in the table `dualtower_events`, made or given its newer columns when opened.

    A connection that breaks is made anew at the next call.
    """

    def __init__(self, url: str) -> None:
        """Connect, and make the table.

        Args:
            url: `postgresql://USER:PASSWORD@HOST/DATABASE`; PostgreSQL's own environment
                variables and password file count too.

        Raises:
            ConfigError: the library psycopg is not installed.
            StoreError: no connection, or no right to make the table.
        """
        try:
            import psycopg
        except ImportError as error:
            raise ConfigError(
                "events: postgresql:// needs the library psycopg; "
                'install it with pip install "dualtower[postgres]"'
            ) from error
        self._failure: type[Exception] = psycopg.Error
        self._connect: Callable[[], Any] = lambda: psycopg.connect(url, autocommit=True)
        self._connection: Any = None
        self._lock = threading.Lock()
        self._transaction("cannot be opened", _prepare)

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Write a group of events as one transaction; all are durable when it returns.

        Returns:
            For each event whether its `event_id` is new.

        Raises:
            StoreUnsureError: as below, but the group may be written, for the connection was lost.
            StoreError: nothing is acknowledged: send the same group again.
        """
        if not events:
            return []
        rows = [row_of(event) for event in events]

        def write(cursor: Any) -> list[bool]:
            return [cursor.execute(_INSERT, row).rowcount == 1 for row in rows]

        return self._transaction("did not take the events", write)

    def replay(self, after: int = 0) -> Iterator[Block]:
        """The events in the order of their commit, in blocks.

        Args:
            after: skip the events up to this place.

        Raises:
            StoreError: the table cannot be read, or holds a row that is no event.
        """
        return blocks(self._read, after, _error)

    def close(self) -> None:
        """Let go of the connection; what was acknowledged stays."""
        with self._lock:
            self._drop()

    def _read(self, after: int) -> list[tuple[Any, ...]]:
        def read(connection: Any) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = connection.execute(_SELECT, (after,)).fetchall()
            return rows

        return self._reported("cannot be read", read)

    def _transaction(self, what: str, work: Callable[[Any], T]) -> T:
        def run(connection: Any) -> T:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(_DURABLE)
                cursor.execute(_TAKE_TURN)
                return work(cursor)

        return self._reported(what, run)

    def _reported(self, what: str, work: Callable[[Any], T]) -> T:
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = self._connect()
                return work(self._connection)
            except self._failure as error:
                lost = self._connection is not None and self._connection.closed
                self._drop()
                if lost:
                    raise StoreUnsureError(str(_error(what, error))) from error
                raise _error(what, error) from error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _prepare(cursor: Any) -> None:
    cursor.execute(_CREATE)
    if cursor.execute(_IS_OLD).fetchone()[0]:
        cursor.execute(_SINCE_VERSION_1)


def _error(what: str, error: Exception) -> StoreError:
    return StoreError(f"the event store in PostgreSQL {what} ({error})")
