"""Where live events are kept: on disk before they are acknowledged, in the order committed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dualtower.errors import ConfigError
from dualtower.serving.event import Event

BLOCK_EVENTS = 4_096
"""How many events `EventStore.replay` gives at a time."""


@dataclass(frozen=True)
class Block:
    """Some events that follow one another in the order of their commit."""

    events: list[Event]
    """At least one."""
    last: int
    """The place of the last one in the order; `replay(after=last)` goes on from here."""


class EventStore(Protocol):
    """A log of events that outlives the process; safe to use from several threads."""

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Write a group of events as one transaction; all are durable when it returns.

        Returns:
            For each event whether it is new; False for an `event_id` that is there already, or
            stands earlier in the group. Sending an event again is therefore safe.

        Raises:
            StoreError: nothing is acknowledged: send the same group again.
        """

    def replay(self, after: int = 0) -> Iterator[Block]:
        """The events in the order of their commit, in blocks.

        Args:
            after: skip the events up to this place (`Block.last`); 0 gives all.

        Raises:
            StoreError: the store cannot be read.
        """

    def close(self) -> None:
        """Let go of the store; what was acknowledged stays."""


def open_store(url: str | Path) -> EventStore:
    """The store at `url`; made where it does not exist.

    Args:
        url: the path of an SQLite file, `sqlite:///PATH`, or `postgresql://USER@HOST/DATABASE`.

    Raises:
        ConfigError: another kind of address, or PostgreSQL without its library.
        StoreError: the store cannot be opened, or is something else.
    """
    text = str(url)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme == "sqlite":
        from dualtower.serving.sqlite_store import SqliteStore

        path = rest.removeprefix("/") if separator else text
        if not path:
            raise ConfigError(f"events: {text!r} names no file; it should be sqlite:///PATH")
        return SqliteStore(Path(path))
    if scheme in ("postgresql", "postgres"):
        from dualtower.serving.postgres_store import PostgresStore

        return PostgresStore(text)
    raise ConfigError(
        f"events: the address begins with {scheme}://; it should be a path, sqlite:///PATH or "
        "postgresql://USER@HOST/DATABASE"
    )
