"""What a query did, or was shown, as one record."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dualtower.errors import DataError
from dualtower.experiments.observations import NOTHING_KINDS

Id = int | str
"""An id as JSON carries it."""

HISTORY_KINDS = frozenset({"click", "order"})
"""Kinds that extend the query's history: what it did itself."""
SENT_KINDS = HISTORY_KINDS | {"exposure"}
"""Kinds that are sent to the server; an exposure, what a query was shown, is for experiments."""
KINDS = SENT_KINDS.union(NOTHING_KINDS)
"""All kinds; the server itself logs those of requests that showed nothing."""
LONGEST_ID = 1_000
"""Characters of an id."""
LONGEST_EVENT_ID = 2_600
"""Bytes of an event's id that a server accepts: PostgreSQL's index holds some 2,700."""
LARGEST_ID = 2**64 - 1
"""Of whole numbers; the smallest is -2**63. Stores keep ids as texts."""
_LARGEST = 2**63 - 1
"""Of a timestamp or value."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one query with one item; checked when it is made.

    Raises:
        DataError: a field is not as described; the message names it and what would be right.
    """

    event_id: str
    """The sender's own name for it: a repeat of the name is the same event, whatever else it
    holds."""
    query_id: Id
    """Who; need not be known."""
    item_id: Id | None
    """What; need not be known. None where the kind is one of `NOTHING_KINDS`, and only there."""
    timestamp: float
    """When, in seconds or whatever the data's own unit is; a whole number stays one. Events count
    in the order in which they are committed, whatever their timestamps say."""
    kind: str = "click"
    """One of `KINDS`."""
    value: float = 0.0
    """What an order was worth, from 0."""
    experiment: str | None = None
    """The experiment that the event is part of."""
    arm: str | None = None
    """The arm of it that answered."""
    latency: float | None = None
    """Seconds from the request to its answer inside the server, where that logged the event."""
    asked: int | None = None
    """How many items the request asked for, where the server logged the event."""

    def __post_init__(self) -> None:
        if not isinstance(self.event_id, str):
            raise DataError(f"event_id: {_shown(self.event_id)}; it should be a text")
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            known = ", ".join(sorted(SENT_KINDS))
            raise DataError(f"kind: {_shown(self.kind)}; it should be one of {known}")
        check_id("event_id", self.event_id)
        check_id("query_id", self.query_id)
        if self.kind not in NOTHING_KINDS:
            check_id("item_id", self.item_id)
        elif self.item_id is not None:
            raise DataError(f"item_id: {_shown(self.item_id)} in an event of no item")
        _check_number("timestamp", self.timestamp)
        _check_number("value", self.value)
        if self.value < 0:
            raise DataError(f"value: {self.value!r}; it should be 0 or more")
        if (self.experiment is None) != (self.arm is None):
            raise DataError(
                f"experiment: {_shown(self.experiment)} with arm {_shown(self.arm)}; "
                "both should be given, or neither"
            )
        for name in ("experiment", "arm"):
            text = getattr(self, name)
            if text is not None and not isinstance(text, str):
                raise DataError(f"{name}: {_shown(text)}; it should be a text")
            if text is not None:
                check_id(name, text)
        if self.latency is not None:
            _check_number("latency", self.latency)
            if self.latency < 0:
                raise DataError(f"latency: {self.latency!r}; it should be 0 or more")
        if self.asked is not None and (type(self.asked) is not int or self.asked < 1):
            raise DataError(f"asked: {_shown(self.asked)}; it should be a whole number, 1 or more")

    @property
    def extends_history(self) -> bool:
        """Whether the query did it, so that it enters the history."""
        return self.kind in HISTORY_KINDS


def check_id(name: str, value: Any) -> None:
    """Refuse an id that columns and stores cannot hold.

    Raises:
        DataError: it is no text of 1 to `LONGEST_ID` characters and no whole number of 64 bits;
            the message begins with `name`.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if not -_LARGEST - 1 <= value <= LARGEST_ID:
            raise DataError(f"{name}: {_shown(value)}; a whole number should fit in 64 bits")
        return
    if not isinstance(value, str):
        raise DataError(f"{name}: {_shown(value)}; it should be a text or a whole number")
    if not 1 <= len(value) <= LONGEST_ID:
        raise DataError(
            f"{name}: {len(value)} characters; it should have 1 to {LONGEST_ID}, and is "
            f"{_shown(value)}"
        )
    surrogates = not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)
    if surrogates or "\x00" in value:
        raise DataError(
            f"{name}: {_shown(value)}; it should be text without the character 0 and without "
            "halves of characters (surrogates)"
        )


def first_named(items: Iterable[Any]) -> Id | None:
    """The first of some items that an event can name; None where it can name none.

    A corpus may hold texts that `check_id` refuses.

    Args:
        items: texts and whole numbers, NumPy's too.
    """
    for item in items:
        item_id = item if isinstance(item, str) else int(item)
        try:
            check_id("item_id", item_id)
        except DataError:
            continue
        return item_id
    return None


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{name}: {_shown(value)}; it should be a number")
    if isinstance(value, int) and not -_LARGEST - 1 <= value <= _LARGEST:
        raise DataError(f"{name}: {_shown(value)}; a whole number should fit in 64 bits")
    if not math.isfinite(value):
        raise DataError(f"{name}: {value!r}; it should be finite")


def _shown(value: Any) -> str:
    """A value in a message: cut where it is long."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a whole number of hundreds of digits"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
