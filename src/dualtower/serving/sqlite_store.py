"""The event store in one SQLite file beside the server: the default."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dualtower.errors import StoreError
from dualtower.files import sync
from dualtower.serving.event import Event
from dualtower.serving.records import COLUMNS, blocks, row_of
from dualtower.serving.store import BLOCK_EVENTS, Block

APPLICATION = 0x64747770
"""Marks a file as ours ("dtwp"), in SQLite's header."""
VERSION = 2
"""Of the table's columns; a file of an earlier one is given what it lacks when it is opened."""
_WAIT_SECONDS = 30.0
_TABLE = """
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    query_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    kind TEXT NOT NULL,
    value REAL NOT NULL,
    experiment TEXT,
    arm TEXT,
    latency REAL,
    asked INTEGER
)
"""
_SINCE_VERSION_1 = ("latency REAL", "asked INTEGER")
_INSERT = (
    f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (event_id) DO NOTHING"
)
_SELECT = (
    f"SELECT sequence, {', '.join(COLUMNS)} FROM events WHERE sequence > ? "
    f"ORDER BY sequence LIMIT {BLOCK_EVENTS}"
)
T = TypeVar("T")


class SqliteStore:
    """Events in a write-ahead log, synced at every commit.

    Commits are one after the other, of all processes that have the file open, so the order of the
    rows is the order of the commits. The file must be on a disk of this machine: SQLite's log
    does not work over network file systems.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it and its folder.

        Raises:
            StoreError: it cannot be opened or written, or is not an event store.
        """
        self.path = path
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connected()
        except (OSError, sqlite3.Error) as error:
            raise self._error("cannot be opened", error) from error
        try:
            self._reported("cannot be opened", self._prepare)
            sync(path.parent)
            # Whoever reads the whole log, at the lowest priority, holds up no commit.
            self._reader = self._reported("cannot be opened", self._connected_to_read)
        except BaseException:
            self._connection.close()
            raise

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Write a group of events as one transaction; all are durable when it returns.

        Returns:
            For each event whether its `event_id` is new.

        Raises:
            StoreError: nothing is acknowledged: send the same group again.
        """
        if not events:
            return []
        rows = [row_of(event) for event in events]

        def write() -> list[bool]:
            return [self._connection.execute(_INSERT, row).rowcount == 1 for row in rows]

        with self._lock:
            return self._reported("did not take the events", lambda: self._transaction(write))

    def replay(self, after: int = 0) -> Iterator[Block]:
        """The events in the order of their commit, in blocks.

        Args:
            after: skip the events up to this place.

        Raises:
            StoreError: the file cannot be read, or holds a row that is no event.
        """
        return blocks(self._read, after, self._error)

    def close(self) -> None:
        """Let go of the file; what was acknowledged stays."""
        with self._reading:
            self._reader.close()
        with self._lock:
            self._connection.close()

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )

    def _connected_to_read(self) -> sqlite3.Connection:
        connection = self._connected()
        try:
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _read(self, after: int) -> list[tuple[Any, ...]]:
        def read() -> list[tuple[Any, ...]]:
            return self._reader.execute(_SELECT, (after,)).fetchall()

        with self._reading:
            return self._reported("cannot be read", read)

    def _prepare(self) -> None:
        execute = self._connection.execute
        # Looked at before anything is written: the file may be somebody else's.
        self._check(*self._marks())
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        self._transaction(self._create)

    def _create(self) -> None:
        application, version, tables = self._marks()
        self._check(application, version, tables)
        if tables == 0:
            self._connection.execute(_TABLE)
            self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
        elif version == 1:
            for column in _SINCE_VERSION_1:
                self._connection.execute(f"ALTER TABLE events ADD COLUMN {column}")
        if version != VERSION:
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def _marks(self) -> tuple[int, int, int]:
        """The file's application and version, and how many tables it has."""
        application, version, tables = (
            self._connection.execute(statement).fetchone()[0]
            for statement in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT COUNT(*) FROM sqlite_master",
            )
        )
        return application, version, tables

    def _check(self, application: int, version: int, tables: int) -> None:
        if tables > 0 and application != APPLICATION:
            raise StoreError(
                f"{self.path}: a database of another program; name a new file for the events"
            )
        if application == APPLICATION and not 1 <= version <= VERSION:
            raise StoreError(
                f"{self.path}: an event store of version {version}, and this dualtower reads "
                f"versions up to {VERSION}"
            )

    def _transaction(self, work: Callable[[], T]) -> T:
        """Do `work` and commit it, or leave all as it was."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            result = work()
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return result

    def _reported(self, what: str, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            raise self._error(what, error) from error

    def _error(self, what: str, error: Exception) -> StoreError:
        return StoreError(f"{self.path}: the event store {what} ({error})")
