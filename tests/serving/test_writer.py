import asyncio
import itertools
from collections.abc import Iterator, Sequence

import pytest

from dualtower.errors import StoreError, StoreUnsureError
from dualtower.serving import writer as writers
from dualtower.serving.event import Event
from dualtower.serving.store import Block
from dualtower.serving.writer import EventWriter


class Memory:
    """A store that says how events were grouped."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.known: set[str] = set()
        self.fails = False
        self.breaks = False

    def append(self, events: Sequence[Event]) -> list[bool]:
        if self.fails:
            raise StoreError("the disk is full")
        self.groups.append([event.event_id for event in events])
        fresh = []
        for event in events:
            fresh.append(event.event_id not in self.known)
            self.known.add(event.event_id)
        if self.breaks:  # after the commit
            self.breaks = False
            raise StoreUnsureError("the connection was lost")
        return fresh

    def replay(self, after: int = 0) -> Iterator[Block]:
        return iter(())

    def close(self) -> None: ...


def event(name: str) -> Event:
    return Event(name, "q", "i", 1.0)


def test_events_that_wait_together_are_committed_together() -> None:
    store, applied = Memory(), list[str]()

    async def work() -> list[list[bool]]:
        writer = EventWriter(
            store, lambda events: applied.extend(event.event_id for event in events)
        )
        writer.start()
        found = await asyncio.gather(
            writer.write([event("a"), event("b")]), writer.write([event("b"), event("c")])
        )
        await writer.stop()
        return found

    assert asyncio.run(work()) == [[True, True], [False, True]]
    assert store.groups == [["a", "b", "b", "c"]]
    assert applied == ["a", "b", "c"]


def test_others_get_their_turn_while_a_group_is_applied() -> None:
    turns = list[int]()

    async def other() -> None:
        while True:
            turns.append(0)
            await asyncio.sleep(0)

    async def work() -> list[bool]:
        writer = EventWriter(Memory(), lambda events: turns.append(len(events)))
        writer.start()
        beside = asyncio.create_task(other())
        found = await writer.write([event(str(number)) for number in range(20)])
        beside.cancel()
        await writer.stop()
        return found

    assert asyncio.run(work()) == [True] * 20
    assert [turn for turn in turns if turn] == [8, 8, 4]
    places = [place for place, turn in enumerate(turns) if turn]
    assert all(0 in turns[first:last] for first, last in itertools.pairwise(places))


def test_only_so_many_events_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "MOST_WAITING", 3)
    store, lost = Memory(), list[BaseException]()

    async def work() -> None:
        writer = EventWriter(store, lambda events: None)
        waiting = [asyncio.create_task(writer.write([event(name)])) for name in "ab"]
        await asyncio.sleep(0)
        writer.post([event("c"), event("d")], lost.append)
        with pytest.raises(StoreError, match="too slow: 2 events wait for it"):
            await writer.write([event("c"), event("d")])
        writer.start()
        assert await asyncio.gather(*waiting) == [[True], [True]]
        assert await writer.write([event("c"), event("d"), event("e")]) == [True] * 3
        await writer.stop()

    asyncio.run(work())
    assert store.groups == [["a", "b"], ["c", "d", "e"]]
    assert len(lost) == 1


def test_after_a_lost_connection_the_store_is_asked_what_it_holds() -> None:
    store, done = Memory(), list[str]()

    async def renew() -> None:
        done.append("renewed")

    async def work() -> None:
        writer = EventWriter(
            store, lambda events: done.extend(event.event_id for event in events), renew
        )
        writer.start()
        store.breaks = True
        with pytest.raises(StoreUnsureError):
            await writer.write([event("a")])
        assert await writer.write([event("a"), event("b")]) == [False, True]
        assert await writer.write([event("c")]) == [True]
        await writer.stop()

    asyncio.run(work())
    assert done == ["renewed", "b", "c"]


def test_what_was_written_and_not_applied_is_applied_before_the_next_group() -> None:
    done, fails = list[str](), [False, True]

    def apply(events: Sequence[Event]) -> None:
        if fails.pop(0):
            raise MemoryError
        done.extend(event.event_id for event in events)

    async def renew() -> None:
        done.append("renewed")

    async def work() -> None:
        writer = EventWriter(Memory(), apply, renew)
        writer.start()
        with pytest.raises(MemoryError):
            await writer.write([event(str(number)) for number in range(10)])
        fails.append(False)
        assert await writer.write([event("9"), event("a")]) == [False, True]
        await writer.stop()

    asyncio.run(work())
    assert done == [*"01234567", "renewed", "a"]


def test_nothing_is_acknowledged_or_applied_where_the_store_fails() -> None:
    store, applied, lost = Memory(), list[Event](), list[BaseException]()
    store.fails = True

    async def work() -> None:
        writer = EventWriter(store, applied.extend)
        writer.start()
        writer.post([event("x")], lost.append)
        with pytest.raises(StoreError, match="the disk is full"):
            await writer.write([event("a")])
        store.fails = False
        assert await writer.write([event("a")]) == [True]
        await writer.stop()

    asyncio.run(work())
    assert [found.event_id for found in applied] == ["a"]
    assert len(lost) == 1
