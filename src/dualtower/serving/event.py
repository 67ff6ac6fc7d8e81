"""What a query did, or was shown, as one record."""

import math
from dataclasses import dataclass
from typing import Any

from dualtower.errors import DataError

Id = int | str
"""An id as JSON carries it."""

HISTORY_KINDS = frozenset({"click", "order"})
"""Kinds that extend the query's history: what it did itself."""
KINDS = HISTORY_KINDS | {"exposure"}
"""All kinds; an exposure, what a query was shown, is kept for experiments alone."""
LONGEST_ID = 1_000
"""Characters of an id."""
_LARGEST = 2**63 - 1


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
    item_id: Id
    """What; need not be known."""
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

    def __post_init__(self) -> None:
        if not isinstance(self.event_id, str):
            raise DataError(f"event_id: {_shown(self.event_id)}; it should be a text")
        for name in ("event_id", "query_id", "item_id"):
            check_id(name, getattr(self, name))
        _check_number("timestamp", self.timestamp)
        _check_number("value", self.value)
        if self.value < 0:
            raise DataError(f"value: {self.value!r}; it should be 0 or more")
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            known = ", ".join(sorted(KINDS))
            raise DataError(f"kind: {_shown(self.kind)}; it should be one of {known}")
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
        if not -_LARGEST - 1 <= value <= _LARGEST:
            raise DataError(f"{name}: {_shown(value)}; a whole number should fit in 64 bits")
        return
    if not isinstance(value, str):
        raise DataError(f"{name}: {_shown(value)}; it should be a text or a whole number")
    if not 1 <= len(value) <= LONGEST_ID:
        raise DataError(
            f"{name}: {len(value)} characters; it should have 1 to {LONGEST_ID}, and is "
            f"{_shown(value)}"
        )
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(
            f"{name}: {_shown(value)}; it should be text without the character 0 and without "
            "halves of characters (surrogates)"
        )


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
