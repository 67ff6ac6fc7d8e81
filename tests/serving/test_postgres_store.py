"""Against a server of its own, where PostgreSQL is installed; else only what needs none."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dualtower.errors import ConfigError, StoreError, StoreUnsureError
from dualtower.serving.event import LONGEST_EVENT_ID, Event
from dualtower.serving.postgres_store import PostgresStore
from dualtower.serving.store import BLOCK_EVENTS, open_store

USER = "postgres"


def event(number: int, *, item: int | str = 1) -> Event:
    return Event(f"e{number}", "u1", item, number)


def all_of(store: PostgresStore, after: int = 0) -> list[Event]:
    return [event for block in store.replay(after) for event in block.events]


def test_the_library_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install .dualtower\[postgres\]"):
        open_store("postgresql://me@host/events")


def _as_user(*command: str | Path) -> list[str]:
    """PostgreSQL refuses to run as root."""
    words = [str(word) for word in command]
    return ["runuser", "-u", USER, "--", *words] if os.getuid() == 0 else words


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("psycopg")
    if not shutil.which("initdb") or not shutil.which("pg_ctl"):
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        data = folder / "data"
        made = subprocess.run(
            _as_user("initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync"),
            capture_output=True,
        )
        if made.returncode:
            pytest.skip(f"PostgreSQL cannot be set up here: {made.stderr.decode()[-200:]}")
        options = f"-k {folder} -c listen_addresses= -c synchronous_commit=off"
        log = folder / "log"
        begin = _as_user("pg_ctl", "-D", data, "-o", options, "-l", log, "-w", "start")
        subprocess.run(begin, check=True, stdout=subprocess.DEVNULL)
        try:
            yield f"postgresql://{USER}@/postgres?host={folder}"
        finally:
            end = _as_user("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
            subprocess.run(end, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    import psycopg

    opened = open_store(url)
    assert isinstance(opened, PostgresStore)
    yield opened
    opened.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS dualtower_events")


def test_events_come_back_as_they_were(store: PostgresStore, url: str) -> None:
    events = [
        Event("b", "ü1", 7, 1.5),
        Event("a", 12, "12", 2**60 + 1, "order", 9.25, "april", "new"),
        Event("c", "12", "x" * 1000, -3.0, "exposure", 3.0, "april", "new", 0.25, 10),
        Event("d", "12", None, -3.0, "error", 0.0, "april", "new", 0.5),
    ]
    assert store.append(events) == [True, True, True, True]
    assert store.append([]) == []
    found = all_of(store)
    assert found == events
    assert [type(one.timestamp) for one in found] == [float, int, float, float]
    again = PostgresStore(url)
    assert all_of(again) == events
    again.close()


def test_a_table_of_version_1_is_given_what_it_lacks(store: PostgresStore, url: str) -> None:
    import psycopg

    store.append([event(1)])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE dualtower_events DROP COLUMN latency, DROP COLUMN asked")
    again = PostgresStore(url)
    later = Event("x", "u1", None, 2, "empty", 0.0, "april", "new", 0.5, 10)
    again.append([later])
    assert all_of(again) == [event(1), later]
    again.close()


def test_a_repeated_event_id_is_the_same_event(store: PostgresStore) -> None:
    assert store.append([event(1), event(2), event(1, item=9)]) == [True, True, False]
    assert store.append([event(2), event(3)]) == [False, True]
    assert all_of(store) == [event(1), event(2), event(3)]


def test_replay_goes_on_behind_a_block(store: PostgresStore) -> None:
    store.append([event(number) for number in range(BLOCK_EVENTS + 10)])
    blocks = list(store.replay())
    assert [len(block.events) for block in blocks] == [BLOCK_EVENTS, 10]
    assert list(store.replay(after=blocks[-1].last)) == []


def test_a_reader_beside_several_writers_misses_nothing(store: PostgresStore, url: str) -> None:
    """Places are taken in the order of the commits, so going on behind the last one is safe."""
    new: list[bool] = []

    def work(first: int) -> None:
        own = PostgresStore(url)
        for number in range(first, first + 60):
            new.extend(own.append([event(number)]))
        own.close()

    threads = [threading.Thread(target=work, args=(40 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    found: list[Event] = []
    last = 0
    while any(thread.is_alive() for thread in threads):
        for block in store.replay(after=last):
            found += block.events
            last = block.last
    found += all_of(store, last)
    assert sum(new) == 180
    assert sorted(one.event_id for one in found) == sorted(f"e{number}" for number in range(180))


def test_a_broken_connection_is_reported_and_made_anew(store: PostgresStore, url: str) -> None:
    import psycopg

    store.append([event(1)])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = 'postgres'"
        )
    with pytest.raises(StoreUnsureError, match="in PostgreSQL did not take the events"):
        store.append([event(2)])
    assert store.append([event(2)]) == [True]
    assert all_of(store) == [event(1), event(2)]


def test_the_longest_event_id_fits_its_index(store: PostgresStore) -> None:
    letters = random.Random(0).choices([chr(place) for place in range(0x20000, 0x2A000)], k=1_000)
    longest = Event("".join(letters[: LONGEST_EVENT_ID // 4]), "u1", 1, 1)
    assert store.append([longest]) == [True]
    assert all_of(store) == [longest]
    with pytest.raises(StoreError, match="did not take the events"):
        store.append([event(2), Event("".join(letters), "u1", 1, 1)])


def test_a_group_is_written_as_a_whole_or_not_at_all(store: PostgresStore, url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE dualtower_events ADD CHECK (event_id <> 'e3')")
    with pytest.raises(StoreError, match="did not take the events") as raised:
        store.append([event(2), event(3)])
    assert type(raised.value) is StoreError  # the server said so: nothing was written
    assert all_of(store) == []


def test_a_row_that_is_no_event_is_reported(store: PostgresStore, url: str) -> None:
    import psycopg

    store.append([event(1)])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE dualtower_events SET kind = 'dance'")
    with pytest.raises(StoreError, match=r"holds a row that is no event .*dance"):
        all_of(store)


def test_no_server_is_reported() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match="in PostgreSQL cannot be opened"):
        PostgresStore("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2")
