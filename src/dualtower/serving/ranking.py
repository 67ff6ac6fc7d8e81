"""The stage behind retrieval: a function of the operator's own orders every arm's candidates."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import import_module
from queue import SimpleQueue
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dualtower.errors import ConfigError, DataError
from dualtower.serving.event import Id

Outcome = Literal["ranked", "failed", "late"]
"""The ranker's order was used; it failed or returned what is no order; it took too long. After
either of the last two the answer is in the order of retrieval."""
Places = npt.NDArray[np.int64]
_QUIET_SECONDS = 60.0
_SHOULD = "it should return one score a candidate (a NumPy array of floats), or all item ids"


@dataclass(frozen=True, slots=True)
class RankingTask:
    """What a ranker is given: the candidates of one query, and what was asked."""

    query_id: Id | None
    """The query; None for one without an id."""
    items: tuple[Id, ...]
    """The candidates, best first by retrieval; no item twice, none that may not be shown."""
    scores: npt.NDArray[np.float32]
    """Their retrieval scores, `[candidates]`; not to be written to."""
    categories: tuple[str | None, ...]
    """Their categories as text; None where an item has none."""
    n: int
    """How many of them the answer will hold at most."""
    history: Sequence[Id] | None
    """The items that the request gave as its history, if it did."""
    features: Mapping[str, Any] | None
    """The query's features that the request gave, if it did."""
    context: Mapping[str, Any] | None
    """The context's features that the request gave, if it did."""


class Ranker(Protocol):
    """Orders candidates. Called in a thread of its own, for one query at a time."""

    def __call__(self, task: RankingTask, /) -> npt.NDArray[np.floating] | Sequence[Id]:
        """Rank the candidates of `task`.

        Returns:
            A score for each candidate, finite, larger is better, equal ones in the order of
            retrieval; or the item ids of all candidates, best first.
        """


def load_ranker(name: str) -> Ranker:
    """The function that `package.module:name` names.

    Raises:
        ConfigError: the name has another form, the module cannot be imported, or it has nothing of
            that name to call.
    """
    module_name, separator, attribute = name.partition(":")
    if not (module_name and separator and attribute):
        raise ConfigError(f"ranker: {name!r}; it should be package.module:function")
    try:
        found: Any = import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"ranker: the module {module_name} cannot be imported ({type(error).__name__}: "
            f"{error}); it should be installed, or in a folder of PYTHONPATH"
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigError(f"ranker: {module_name} has no function {attribute}")
    ranker: Ranker = found
    return ranker


class Ranking:
    """Asks a ranker, and does without it where it fails or takes too long.

    A call that takes too long cannot be ended. Until it ends by itself, no other begins, and
    answers are in the order of retrieval at once.
    """

    def __init__(
        self, ranker: Ranker, seconds: float, note: Callable[[str], None] = lambda message: None
    ) -> None:
        """Begin a thread for `ranker`.

        Args:
            ranker: orders the candidates.
            seconds: how long an answer waits for it, other queries' turns included.
            note: is told of a failure; of one like the last, once a minute.
        """
        self._ranker = ranker
        self._seconds = seconds
        self._note = note
        self._noted = ""
        self._quiet_until = 0.0
        self._overdue = False
        self._queue: SimpleQueue[tuple[RankingTask, Future[Places | str]] | None] = SimpleQueue()
        # A daemon, so that a call that never ends does not keep the process from ending.
        threading.Thread(target=self._work, name="ranker", daemon=True).start()

    async def order(self, task: RankingTask) -> tuple[Places, Outcome]:
        """The places of the candidates, best first; those of retrieval where the ranker fails."""
        as_retrieved = np.arange(len(task.items))
        if len(task.items) == 0:
            return as_retrieved, "ranked"
        if self._overdue:
            return as_retrieved, "late"
        future: Future[Places | str] = Future()
        self._queue.put((task, future))
        done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=self._seconds)
        if not done:
            if not future.cancel():
                self._overdue = True
                future.add_done_callback(self._ended)
            self._tell(f"took longer than {self._seconds:g} s")
            return as_retrieved, "late"
        found = future.result()
        if isinstance(found, str):
            self._tell(found)
            return as_retrieved, "failed"
        return found, "ranked"

    def stop(self) -> None:
        """End the thread after the calls that wait."""
        self._queue.put(None)

    def _ended(self, _: Any) -> None:
        self._overdue = False

    def _tell(self, message: str) -> None:
        now = time.monotonic()
        if message != self._noted or now >= self._quiet_until:
            self._noted, self._quiet_until = message, now + _QUIET_SECONDS
            self._note(f"the ranker {message}; answers are in the order of retrieval")

    def _work(self) -> None:
        while (found := self._queue.get()) is not None:
            task, future = found
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(places_of(self._ranker(task), task.items))
            except DataError as error:
                future.set_result(str(error))
            except BaseException as error:  # one that would end the process is no better
                future.set_result(f"raised {type(error).__name__}: {error}")


def places_of(returned: Any, items: Sequence[Id]) -> Places:
    """What a ranker returned as the candidates' places, best first.

    Args:
        returned: scores or item ids.
        items: the candidates.

    Raises:
        DataError: neither, or not of every candidate once.
    """
    if isinstance(returned, np.ndarray) and returned.dtype.kind == "f":
        if returned.shape != (len(items),):
            raise DataError(
                f"returned scores of shape {list(returned.shape)} for {len(items)} candidates"
            )
        if not np.isfinite(returned).all():
            raise DataError("returned a score that is NaN or infinite")
        return np.argsort(-returned, kind="stable")
    place_of = {item: place for place, item in enumerate(items)}
    try:
        given = returned.tolist() if isinstance(returned, np.ndarray) else list(returned)
        places = [place_of.get(item, -1) for item in given]
    except TypeError:
        raise DataError(f"returned a {type(returned).__name__}; {_SHOULD}") from None
    if -1 in places:
        unknown = ascii(given[places.index(-1)])[:60]
        raise DataError(f"returned {unknown}, which is no candidate; {_SHOULD}")
    if len(set(places)) < len(places):
        raise DataError("returned a candidate twice")
    if len(places) < len(items):
        raise DataError(f"returned {len(places)} of {len(items)} candidates")
    return np.array(places, dtype=np.int64)


def first_within(
    places: Places, n: int, quota: Mapping[str, int] | None, categories: Sequence[str | None]
) -> Places:
    """The first n places, or the first ones of each category up to its quota.

    Args:
        places: of the candidates, best first.
        n: how many, without a quota.
        quota: how many of each category.
        categories: of the candidates.
    """
    if quota is None:
        return places[:n]
    left = dict(quota)
    kept = []
    for place in places.tolist():
        category = categories[place]
        if category is not None and left.get(category, 0) > 0:
            left[category] -= 1
            kept.append(place)
    return np.array(kept, dtype=np.int64)
