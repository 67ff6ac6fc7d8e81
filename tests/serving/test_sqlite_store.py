import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from dualtower.errors import StoreError
from dualtower.serving.event import Event
from dualtower.serving.sqlite_store import SqliteStore
from dualtower.serving.store import BLOCK_EVENTS


def event(number: int, *, item: int | str = 1, **fields: object) -> Event:
    return Event(f"e{number}", "u1", item, number, **fields)  # type: ignore[arg-type]


def all_of(store: SqliteStore, after: int = 0) -> list[Event]:
    return [event for block in store.replay(after) for event in block.events]


def test_events_come_back_as_they_were_in_the_order_of_commits(tmp_path: Path) -> None:
    events = [
        Event("b", "ü1", 7, 1.5),
        Event("a", 12, "12", 2**60 + 1, "order", 9.25, "april", "new"),
        Event("c", "12", "x" * 1000, -3.0, "exposure", 3.0, "april", "new", 0.25, 10),
        Event("d", "12", None, -3.0, "error", 0.0, "april", "new", 0.5),
    ]
    store = SqliteStore(tmp_path / "deep" / "events.sqlite")
    assert store.append(events[:2]) == [True, True]
    assert store.append(events[2:]) == [True, True]
    found = all_of(store)
    assert found == events
    assert [type(one.timestamp) for one in found] == [float, int, float, float]
    store.close()
    again = SqliteStore(tmp_path / "deep" / "events.sqlite")
    assert all_of(again) == events


def test_a_repeated_event_id_is_the_same_event(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    assert store.append([event(1), event(2), event(1, item=9)]) == [True, True, False]
    assert store.append([event(2), event(3)]) == [False, True]
    assert store.append([]) == []
    assert all_of(store) == [event(1), event(2), event(3)]


def test_replay_goes_on_behind_a_block(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    store.append([event(number) for number in range(BLOCK_EVENTS + 10)])
    blocks = list(store.replay())
    assert [len(block.events) for block in blocks] == [BLOCK_EVENTS, 10]
    store.append([event(BLOCK_EVENTS + 10)])
    later = list(store.replay(after=blocks[-1].last))
    assert [block.events for block in later] == [[event(BLOCK_EVENTS + 10)]]
    assert list(store.replay(after=later[-1].last)) == []


def test_where_the_reader_cannot_be_set_up_both_connections_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[sqlite3.Connection]()

    class Refusing(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if "query_only" in sql:
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)

    def connected(self: SqliteStore) -> sqlite3.Connection:
        opened.append(sqlite3.connect(self.path, isolation_level=None, factory=Refusing))
        return opened[-1]

    monkeypatch.setattr(SqliteStore, "_connected", connected)
    with pytest.raises(StoreError, match=r"cannot be opened .*disk I/O error"):
        SqliteStore(tmp_path / "events.sqlite")
    assert len(opened) == 2
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.total_changes  # noqa: B018


def test_every_commit_is_synced(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    pragma = store._connection.execute
    assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)
    assert pragma("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_a_group_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    store.append([event(1)])
    store._connection.execute(
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON events WHEN NEW.event_id = 'e3' "
        "BEGIN SELECT RAISE(ABORT, 'disk on fire'); END"
    )
    with pytest.raises(StoreError, match=r"did not take the events .*disk on fire"):
        store.append([event(2), event(3)])
    assert all_of(store) == [event(1)]
    store._connection.execute("DROP TRIGGER refuse")
    assert store.append([event(2), event(3)]) == [True, True]


def test_threads_and_a_second_store_append_to_one_log(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / "events.sqlite") for _ in range(2)]
    new: list[bool] = []

    def work(store: SqliteStore) -> None:
        for number in range(50):
            new.extend(store.append([event(number)]))

    threads = [threading.Thread(target=work, args=(store,)) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == 50
    assert len(new) == 200
    assert all_of(stores[0]) == all_of(stores[1])
    assert len(all_of(stores[0])) == 50


def test_who_reads_holds_up_no_commit(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    store.append([event(number) for number in range(100)])
    added: list[bool] = []

    def commit() -> int:
        if not added:
            added.extend(store.append([event(100)]))
        return 0

    store._reader.set_progress_handler(commit, 10)  # while a read goes on
    assert len(all_of(store)) >= 100
    assert added == [True]
    assert len(all_of(store)) == 101
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store._reader.execute("DELETE FROM events")


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database " * 100)
    with pytest.raises(StoreError, match=r"notes\.txt: the event store cannot be opened"):
        SqliteStore(text)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    before = other.read_bytes()
    with pytest.raises(StoreError, match="a database of another program"):
        SqliteStore(other)
    assert other.read_bytes() == before
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteStore(tmp_path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "events.sqlite").close()
    with sqlite3.connect(tmp_path / "events.sqlite") as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreError, match="of version 9, and this dualtower reads versions up to 2"):
        SqliteStore(tmp_path / "events.sqlite")


def test_a_store_of_version_1_is_given_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(
            """
            CREATE TABLE events (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE,
                query_id TEXT NOT NULL, item_id TEXT NOT NULL, timestamp TEXT NOT NULL,
                kind TEXT NOT NULL, value REAL NOT NULL, experiment TEXT, arm TEXT
            );
            PRAGMA application_id = 0x64747770;
            PRAGMA user_version = 1;
            INSERT INTO events VALUES (1, 'e1', '"u1"', '1', '1', 'click', 0.0, NULL, NULL);
            """
        )
    store = SqliteStore(path)
    later = Event("x", "u1", None, 2, "empty", 0.0, "april", "new", 0.5, 10)
    store.append([later])
    assert all_of(store) == [event(1), later]
    store.close()
    assert all_of(SqliteStore(path)) == [event(1), later]


def test_a_row_that_is_no_event_is_reported(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    store.append([event(1)])
    store._connection.execute("UPDATE events SET kind = 'dance'")
    with pytest.raises(StoreError, match=r"holds a row that is no event .*dance"):
        all_of(store)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    store.close()
    with pytest.raises(StoreError, match="did not take the events"):
        store.append([event(1)])
    with pytest.raises(StoreError, match="cannot be read"):
        all_of(store)
