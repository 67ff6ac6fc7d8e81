"""The bundles being served, one or one for each arm, and how one takes another's place."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualtower.errors import BundleError, ConfigError, DualtowerError
from dualtower.experiments.assignment import Experiment
from dualtower.files import MANIFEST
from dualtower.retrieval.bundle import Bundle
from dualtower.retrieval.recall import measure_recall
from dualtower.serving.engine import Engine
from dualtower.serving.event import Id
from dualtower.serving.live import LiveState
from dualtower.serving.new_items import MOST_NEW_ITEMS
from dualtower.serving.store import EventStore

GOLDEN_QUERIES = 64
"""So many known queries are answered before a bundle serves."""
_RECALL_SLACK = 0.05
"""The recall of so few queries may be this far below the manifest's."""
_TOWER_SLACK = 1e-4
_LOWEST_PRIORITY = 19
Stamp = tuple[int, int]
"""Tells one manifest in a folder from the next."""


@dataclass(frozen=True)
class Served:
    """One bundle as it is served."""

    engine: Engine
    live: LiveState
    folder: Path
    stamp: Stamp | None
    """Of the folder, from before it was read."""


class Deck:
    """What answers each query. Reading it is one pointer; `place` exchanges that pointer."""

    def __init__(self, served: dict[str | None, Served], experiment: Experiment | None) -> None:
        """Serve one bundle under None, or one for each arm of an experiment by its name."""
        self.experiment = experiment
        self._served = dict(served)

    def pick(self, query_id: Id | None) -> tuple[str | None, Served]:
        """The arm of a query and what answers it; a query without an id sees the control."""
        if self.experiment is None:
            return None, self._served[None]
        arms = self.experiment
        name = (arms.control if query_id is None else arms.arm_of(query_id)).name
        return name, self._served[name]

    def arms(self) -> dict[str | None, Served]:
        """All that is served, by arm."""
        return dict(self._served)

    def of_arm(self, arm: str | None) -> Served:
        """What one arm serves.

        Raises:
            ConfigError: there is no such arm.
        """
        if arm not in self._served:
            known = ", ".join(str(name) for name in self._served if name is not None)
            raise ConfigError(
                f"arm: {arm!r} is not served; "
                + (f"name one of {known}" if known else "no experiment runs, so leave it out")
            )
        return self._served[arm]

    def place(self, arm: str | None, served: Served) -> None:
        """Serve another bundle from now on; requests that hold the old one end with it."""
        self._served = {**self._served, arm: served}


def load_served(folder: Path, store: EventStore | None, most_new: int = MOST_NEW_ITEMS) -> Served:
    """Load a bundle, test it, and bring it up to date with the events.

    Args:
        folder: of the bundle.
        store: of the events, if there are any.
        most_new: the most new items that are kept.

    Raises:
        BundleError: it is damaged, of another version, or does not answer as it should.
        StoreError: the events cannot be read.
    """
    stamp = stamp_of(folder)
    bundle = Bundle.load(folder)
    engine = Engine(bundle)
    self_test(engine, folder)
    live = engine.live_state(most_new=most_new)
    if store is not None:
        live.catch_up(store)
    return Served(engine, live, folder, stamp)


def stamp_of(folder: Path) -> Stamp | None:
    """What tells the bundle in a folder from the one that takes its place; None without one."""
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def self_test(engine: Engine, folder: Path) -> None:
    """Answer known queries, which also brings what they read into memory.

    Raises:
        BundleError: query vectors are not finite, the query tower differs from the model, or the
            index finds less than the manifest says.
    """
    bundle = engine.bundle
    encoder = bundle.encoder
    known = engine.known_queries
    if len(known) == 0:
        known = np.zeros(1, dtype=np.int64)
    rows = np.random.default_rng(0).choice(known, min(GOLDEN_QUERIES, len(known)), replace=False)
    batch = encoder.batch_of_rows(rows)
    vectors = bundle.model.encode_queries(batch)
    if not np.isfinite(vectors).all():
        raise BundleError(f"{folder}: query vectors are not finite; train the model again")
    if engine.tower is not None:
        own = [engine.tower.encode(batch.take(np.array([place]))) for place in range(len(rows))]
        away = float(np.abs(own - vectors).max() / max(1.0, float(np.abs(vectors).max())))
        if not away <= _TOWER_SLACK:
            raise BundleError(
                f"{folder}: query vectors are {away:.2g} away from the model's; build it again"
            )
    facts = bundle.manifest.index
    recall = measure_recall(bundle.index, vectors, facts.recall_at)
    if recall.mean < facts.recall_mean - _RECALL_SLACK:
        raise BundleError(
            f"{folder}: the index finds {recall.mean:.3f} of the exact answer, "
            f"{facts.recall_mean:.3f} when it was built; build it again"
        )
    for query_id in encoder.query_vocabulary.decode(rows).to_list():
        known_id = query_id if isinstance(query_id, int | str) else None
        engine.recommend(known_id, facts.recall_at)


def load_quietly(load: Callable[[], Served]) -> Served:
    """Call `load` in a thread of the lowest priority, so that requests go first.

    Raises:
        DualtowerError: as `load`.
    """
    result: list[Served | BaseException] = []

    def work() -> None:
        with suppress(OSError, AttributeError):  # not every system has priorities by thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        try:
            result.append(load())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=work, name="load bundle")
    thread.start()
    thread.join()
    found = result.pop()
    if isinstance(found, Served):
        return found
    if isinstance(found, DualtowerError):
        raise found
    raise BundleError(f"the bundle cannot be loaded: {found}") from found
