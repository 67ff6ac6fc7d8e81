"""What the routes share: the served bundles, the events, the counters and the limits."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from dualtower.errors import ConfigError, DataError
from dualtower.experiments.assignment import Experiment
from dualtower.experiments.observations import NOTHING_KINDS
from dualtower.serving.bodies import RecommendBody
from dualtower.serving.deck import Deck, Served, Stamp, load_quietly, load_served, stamp_of
from dualtower.serving.engine import Answer
from dualtower.serving.event import LONGEST_EVENT_ID, SENT_KINDS, Event, Id, first_named
from dualtower.serving.metrics import Metrics
from dualtower.serving.new_items import MOST_NEW_ITEMS
from dualtower.serving.ranking import Ranking, RankingTask, first_within
from dualtower.serving.refusals import Refusals
from dualtower.serving.settings import ServeConfig
from dualtower.serving.store import EventStore
from dualtower.serving.writer import EventWriter

_QUIET_SECONDS = 60.0


class Server:
    """A running service without its HTTP; all methods are called within one event loop."""

    def __init__(
        self,
        deck: Deck,
        store: EventStore | None,
        settings: ServeConfig,
        note: Callable[[str], None] = lambda message: None,
        *,
        ranking: Ranking | None = None,
    ) -> None:
        """Serve `deck`.

        Args:
            deck: what answers.
            store: of events, or none.
            settings: the limits.
            note: tells the operator something.
            ranking: orders the candidates of every answer; none leaves them as retrieved.
        """
        self._note = note
        self.ranking = ranking
        self.deck = deck
        self.settings = settings
        self.metrics = Metrics()
        self.store = store
        self.stopping = False
        self._writer = None if store is None else EventWriter(store, self._apply, self._renew)
        self._quiet_until = 0.0
        self._swapping = asyncio.Lock()
        self._roots = {
            arm: Path(settings.bundles or served.folder.parent).resolve()
            for arm, served in deck.arms().items()
        }
        self._watcher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write events and to watch folders; from within the event loop."""
        if self._writer is not None:
            self._writer.start()
        if self.settings.watch:
            self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Write the events that wait, and let go of the store."""
        self.stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
        if self._writer is not None:
            await self._writer.stop()
        if self.store is not None:
            self.store.close()
        if self.ranking is not None:
            self.ranking.stop()

    async def answer(self, body: RecommendBody) -> dict[str, Any]:
        """The answer of one query within the limits (`check_query`), as it becomes JSON.

        Raises:
            DataError: a field names what does not exist.
            ConfigError: fields that do not go together.
        """
        if self.ranking is None:
            return self.recommend(body)
        return await self._recommend_ranked(body, self.ranking)

    def recommend(self, body: RecommendBody) -> dict[str, Any]:
        """As `answer`, without a ranker."""
        start = time.perf_counter()
        arm, served = self.deck.pick(body.query_id)
        try:
            items, scores = _retrieve(served, body, body.n, body.quota)
            return self._answered(body, arm, items, scores, start)
        except Exception:
            self._failed(body, arm, start)
            raise

    async def _recommend_ranked(self, body: RecommendBody, ranking: Ranking) -> dict[str, Any]:
        start = time.perf_counter()
        arm, served = self.deck.pick(body.query_id)
        times = self.settings.candidates
        try:
            quota = None if body.quota is None else served.engine.merged(body.quota)
            more = None if quota is None else {name: times * count for name, count in quota.items()}
            items, scores = _retrieve(served, body, times * body.n, more)
            task = _task(served, body, items, scores)
            places, outcome = await ranking.order(task)
            self.metrics.rankings[outcome, arm or ""] += 1
            places = first_within(places, body.n, quota, task.categories)
            answer = self._answered(body, arm, items[places], scores[places], start)
        except Exception:
            self._failed(body, arm, start)
            raise
        answer["ranking"] = outcome
        return answer

    def _answered(
        self, body: RecommendBody, arm: str | None, items: Any, scores: Any, start: float
    ) -> dict[str, Any]:
        """The answer, logged and counted."""
        seconds = time.perf_counter() - start
        if arm is not None:
            kind, first = "exposure" if len(items) else "empty", first_named(items)
            self._log(body, arm, kind, first, len(items), seconds)
        self.metrics.observe(seconds)
        self.metrics.short_answers += len(items) < body.asked
        self.metrics.answers[arm or ""] += 1
        return {"items": items, "scores": scores, **self.named(arm)}

    def _failed(self, body: RecommendBody, arm: str | None, start: float) -> None:
        """Count and log an answer that there will not be."""
        self.metrics.failed_answers[arm or ""] += 1
        if arm is not None:
            self._log(body, arm, "error", None, 0, time.perf_counter() - start)

    async def record(self, events: list[Event]) -> list[bool]:
        """Make events durable, and let them take effect.

        Raises:
            ConfigError: the server keeps no events.
            DataError: an event of the running experiment is of no arm of it.
            StoreError: nothing was acknowledged.
        """
        if self._writer is None:
            raise ConfigError(
                "events: this server keeps none; start it with --events FILE or --events "
                "postgresql://…"
            )
        for place, event in enumerate(events):
            self._check_arm(event, f"events[{place}].")
        fresh = await self._writer.write(events)
        self.metrics.repeated_events += fresh.count(False)
        return fresh

    def _check_arm(self, event: Event, where: str) -> None:
        """Refuse what the experiment's report would stumble over ever after.

        Raises:
            DataError: the event is the running experiment's, and of no arm of it.
        """
        experiment = self.deck.experiment
        if experiment is None or event.experiment != experiment.name:
            return
        if event.arm not in experiment.shares:
            known = ", ".join(experiment.shares)
            raise DataError(
                f"{where}arm: {event.arm!r} is no arm of experiment {experiment.name!r}; "
                f"they are {known}"
            )

    def named(self, arm: str | None) -> dict[str, str]:
        """What an answer says of the experiment; nothing where none runs."""
        if arm is None or self.deck.experiment is None:
            return {}
        return {"arm": arm, "experiment": self.deck.experiment.name}

    def folder_of(self, path: str, arm: str | None) -> Path:
        """The folder of a bundle that a request names.

        Raises:
            DataError: it is outside the folder of bundles.
            ConfigError: there is no such arm.
        """
        self.deck.of_arm(arm)
        root = self._roots[arm]
        try:
            folder = (root / path).resolve()
        except (OSError, ValueError):  # too long, or with a character that no path has
            folder = root
        if not folder.is_relative_to(root) or folder == root:
            raise DataError(f"path: {path!r} is not a folder below the server's folder of bundles")
        return folder

    async def swap(self, folder: Path, arm: str | None) -> Served:
        """Load a bundle beside the present one, test it, and serve it instead.

        Requests go on meanwhile, and those under way end with the bundle they began with.

        Raises:
            BundleError: it is damaged or fails its test; the present one stays.
            ConfigError: there is no such arm.
        """
        async with self._swapping:
            self.deck.of_arm(arm)
            return await self._exchange(folder, arm)

    async def _exchange(self, folder: Path, arm: str | None) -> Served:
        """As `swap`, for who holds its lock."""
        try:
            most_new = self.settings.max_new_items
            served = await asyncio.to_thread(
                load_quietly, lambda: load_served(folder, self.store, most_new)
            )
            await self._catch_up_and_place(arm, served)
        except Exception:
            self.metrics.swaps["refused"] += 1
            raise
        self.metrics.swaps["loaded"] += 1
        return served

    async def _catch_up_and_place(self, arm: str | None, served: Served) -> None:
        old = [self.deck.of_arm(arm)]
        if self._writer is None or self.store is None:
            self.deck.place(arm, served)
        else:
            async with self._writer.gate:
                await asyncio.to_thread(served.live.catch_up, self.store)
                self.deck.place(arm, served)
        # Freeing gigabytes takes a while, so a thread lets go of them last.
        await asyncio.to_thread(old.clear)

    async def _renew(self) -> None:
        """Begin the events' effects anew from the store, which may hold some that had none.

        Raises:
            StoreError: the store cannot be read; nothing has changed.
        """
        assert self.store is not None
        fresh: dict[int, Served] = {}
        arms = self.deck.arms()
        for served in arms.values():
            if id(served) not in fresh:
                live = served.engine.live_state(most_new=self.settings.max_new_items)
                await asyncio.to_thread(live.catch_up, self.store)
                fresh[id(served)] = replace(served, live=live)
        for arm, served in arms.items():
            self.deck.place(arm, fresh[id(served)])

    def _log(
        self,
        body: RecommendBody,
        arm: str,
        kind: str,
        first: Id | None,
        shown: int,
        seconds: float,
    ) -> None:
        """Log what became of a query's request in an arm; one event whatever was shown.

        A query or items that no event can name are answered all the same, and the event is lost.
        """
        experiment, query_id = self.deck.experiment, body.query_id
        if self._writer is None or experiment is None or query_id is None:
            return
        try:
            event = Event(
                f"{kind}-{uuid.uuid4().hex}",
                query_id,
                first,
                time.time(),
                kind,
                float(shown),
                experiment.name,
                arm,
                seconds,
                body.asked if body.asked >= 1 else None,
            )
        except DataError as error:
            self._lost(error)
            return
        self._writer.post([event], self._lost)

    def _lost(self, error: BaseException) -> None:
        self.metrics.lost_exposures += 1
        now = time.monotonic()
        if now >= self._quiet_until:  # every answer loses one while a disk is full
            self._quiet_until = now + _QUIET_SECONDS
            self._note(f"exposures are not stored: {error}")

    def _apply(self, events: Sequence[Event]) -> None:
        # Arms that share a bundle share its events.
        for live in {id(served.live): served.live for served in self.deck.arms().values()}.values():
            live.apply(events)
        running = self.deck.experiment
        for event in events:
            # Other names are the senders' own, and there may be any number of them.
            mine = running is not None and event.experiment == running.name
            other = "" if event.experiment is None else "other"
            names = (event.experiment, event.arm) if mine else (other, "")
            self.metrics.events[event.kind, names[0] or "", names[1] or ""] += 1

    async def _watch(self) -> None:
        refusals = Refusals()
        while True:
            await asyncio.sleep(self.settings.watch_seconds)
            await self.reload_changed(refusals)

    async def reload_changed(self, refusals: Refusals) -> None:
        """Load again what was replaced on disk since it was loaded.

        Args:
            refusals: what is not to be tried, or not yet; brought up to date.
        """
        for arm in list(self.deck.arms()):
            # Looked at under the lock: another request may give the arm another folder.
            async with self._swapping:
                changed = self._changed(arm, refusals)
                if changed is None:
                    continue
                folder, stamp = changed
                try:
                    await self._exchange(folder, arm)
                except Exception as error:  # whatever it is, the watch goes on
                    pause = refusals.add(arm, stamp, error)
                    if pause is None:
                        self._note(f"refused, the old bundle stays: {error}")
                    else:
                        self._note(
                            f"{folder}: not loaded, the old bundle stays; tried again in "
                            f"{pause:g} s ({type(error).__name__}: {error})"
                        )
                else:
                    self._note(f"{folder}: the new bundle serves")

    def _changed(self, arm: str | None, refusals: Refusals) -> tuple[Path, Stamp] | None:
        """The folder of an arm and its stamp, where another bundle lies there than is served."""
        served = self.deck.of_arm(arm)
        stamp = stamp_of(served.folder)
        if stamp is None or stamp == served.stamp or refusals.holds(arm, stamp):
            return None
        return served.folder, stamp


def open_deck(
    folder: Path,
    store: EventStore | None,
    experiment: Experiment | None,
    most_new: int = MOST_NEW_ITEMS,
) -> Deck:
    """Load the bundle of `folder`, or those of an experiment's arms.

    Args:
        folder: of the bundle; of an experiment the arms name their own.
        store: of the events, if there are any.
        experiment: its arms are served instead of `folder`.
        most_new: the most new items that each bundle keeps.

    Raises:
        BundleError: one is damaged.
        StoreError: the events cannot be read.
    """
    if experiment is None:
        return Deck({None: load_served(folder, store, most_new)}, None)
    by_folder: dict[str, Served] = {}
    for arm in experiment.arms:
        if arm.bundle not in by_folder:
            by_folder[arm.bundle] = load_served(Path(arm.bundle), store, most_new)
    return Deck({arm.name: by_folder[arm.bundle] for arm in experiment.arms}, experiment)


def _retrieve(
    served: Served, body: RecommendBody, n: int, quota: Mapping[str, int] | None
) -> Answer:
    """The candidates of a query: n of them, or by quota."""
    return served.engine.recommend(
        body.query_id,
        n,
        exclude_seen=body.exclude_seen,
        exclude=body.exclude,
        category=body.category,
        quota=quota,
        history=body.history,
        features=body.features,
        context=body.context,
        live=served.live,
    )


def _task(served: Served, body: RecommendBody, items: Any, scores: Any) -> RankingTask:
    """What the ranker is given, none of which the answer is read from."""
    names = tuple(items.tolist())
    given = scores.view()
    given.flags.writeable = False
    return RankingTask(
        query_id=body.query_id,
        items=names,
        scores=given,
        categories=tuple(served.engine.categories_of(names)),
        n=body.asked,
        history=body.history,
        features=body.features,
        context=body.context,
    )


def event_of(body: Any) -> Event:
    """The event of a body.

    Raises:
        DataError: a field is out of range.
    """
    if body.kind in NOTHING_KINDS:
        raise DataError(
            f"kind: {body.kind!r} is what the server logs itself; it should be one of "
            f"{', '.join(sorted(SENT_KINDS))}"
        )
    # Stored together with others', which PostgreSQL would refuse with it.
    size = len(body.event_id.encode())
    if size > LONGEST_EVENT_ID:
        raise DataError(f"event_id: {size:,} bytes; at most {LONGEST_EVENT_ID:,} are accepted")
    return Event(**msgspec.structs.asdict(body))
