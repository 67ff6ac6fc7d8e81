"""One writer for all events: those that wait together are committed together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from dualtower.errors import StoreError, StoreUnsureError
from dualtower.serving.event import Event
from dualtower.serving.store import EventStore

_MOST_TOGETHER = 1_024
_APPLIED_AT_ONCE = 8
"""Events; one of a new item takes a run of the item tower, about as long as an answer."""
MOST_WAITING = 100_000
"""Events; with so many a store that hangs takes some hundred megabytes of memory, and no more."""


class EventWriter:
    """Appends events to the store, acknowledges them after the commit, and then applies them.

    Whoever awaits `write` goes on when the events are durable and the next answer reflects them.
    """

    def __init__(
        self,
        store: EventStore,
        apply: Callable[[Sequence[Event]], None],
        renew: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Write to `store`.

        Args:
            store: of the events.
            apply: gets the new ones in the order of their commit, a few at a time, between which
                other requests get their turn.
            renew: awaited before that, where a group before may have been written without being
                applied: brings what was applied up to the store, this group not included.
        """
        self._store = store
        self._apply = apply
        self._renew = renew
        self._unsure = False
        self._waiting: list[tuple[list[Event], asyncio.Future[list[bool]]]] = []
        self._count = 0
        """Events in `_waiting`."""
        self._wakes = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.gate = asyncio.Lock()
        """Held during a commit and what follows it; whoever holds it sees no event half done."""

    def start(self) -> None:
        """Begin to write; from within the event loop."""
        self._task = asyncio.create_task(self._run())

    async def write(self, events: list[Event]) -> list[bool]:
        """Make events durable and let them take effect.

        Returns:
            For each whether it is new.

        Raises:
            StoreError: nothing was acknowledged; sending the same events again is safe.
        """
        return await self._queued(events)

    def post(self, events: list[Event], failed: Callable[[BaseException], None]) -> None:
        """As `write`, for a caller who does not wait; `failed` hears of an error."""

        def done(future: "asyncio.Future[list[bool]]") -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                failed(error)

        self._queued(events).add_done_callback(done)

    async def stop(self) -> None:
        """Write what waits, and end."""
        while self._waiting:
            await asyncio.sleep(0.005)
        async with self.gate:
            if self._task is not None:
                self._task.cancel()

    def _queued(self, events: list[Event]) -> "asyncio.Future[list[bool]]":
        future: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        if self._count + len(events) > MOST_WAITING:
            message = f"the event store is too slow: {self._count:,} events wait for it"
            future.set_exception(StoreError(message))
            return future
        self._waiting.append((events, future))
        self._count += len(events)
        self._wakes.set()
        return future

    async def _run(self) -> None:
        while True:
            await self._wakes.wait()
            self._wakes.clear()
            while self._waiting:
                async with self.gate:
                    await self._commit(self._next_group())

    def _next_group(self) -> list[tuple[list[Event], "asyncio.Future[list[bool]]"]]:
        count = total = 0
        for events, _ in self._waiting:
            total += len(events)
            if count and total > _MOST_TOGETHER:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._count -= sum(len(events) for events, _ in group)
        return group

    async def _commit(self, group: list[tuple[list[Event], "asyncio.Future[list[bool]]"]]) -> None:
        together = [event for events, _ in group for event in events]
        written = False
        try:
            if self._unsure and self._renew is not None:
                await self._renew()
            self._unsure = False
            fresh = await asyncio.to_thread(self._store.append, together)
            written = True
            applied = [event for event, new in zip(together, fresh, strict=True) if new]
            for start in range(0, len(applied), _APPLIED_AT_ONCE):
                self._apply(applied[start : start + _APPLIED_AT_ONCE])
                await asyncio.sleep(0)  # requests get their turn
        except Exception as error:
            # What is written is known already when sent again, and would never be applied.
            self._unsure |= written or isinstance(error, StoreUnsureError)
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        start = 0
        for events, future in group:
            if not future.done():
                future.set_result(fresh[start : start + len(events)])
            start += len(events)
