"""What the watch leaves alone: for good after a verdict on a bundle, for a while after a fault."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from dualtower.errors import StoreError
from dualtower.serving.deck import Stamp

FIRST_PAUSE = 10.0
"""Seconds until a bundle is tried again after a passing fault; twice as long after each more."""
LONGEST_PAUSE = 600.0
_PASSING = (StoreError, OSError, MemoryError)


@dataclass(frozen=True)
class _Refusal:
    stamp: Stamp
    pause: float | None
    """Seconds; None is for good."""
    until: float


class Refusals:
    """What each arm did not load, by its stamp: another stamp is another bundle."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Refuse nothing yet; `clock` gives seconds."""
        self._clock = clock
        self._of_arm: dict[str | None, _Refusal] = {}

    def add(self, arm: str | None, stamp: Stamp, error: BaseException) -> float | None:
        """Remember that a bundle was not loaded.

        Args:
            arm: that it is for.
            stamp: of the bundle.
            error: why.

        Returns:
            The seconds after which to try again; None where the bundle itself is at fault.
        """
        pause = None
        if is_passing(error):
            last = self._of_arm.get(arm)
            pause = FIRST_PAUSE
            if last is not None and last.stamp == stamp and last.pause is not None:
                pause = min(2 * last.pause, LONGEST_PAUSE)
        until = float("inf") if pause is None else self._clock() + pause
        self._of_arm[arm] = _Refusal(stamp, pause, until)
        return pause

    def holds(self, arm: str | None, stamp: Stamp) -> bool:
        """Whether the arm should not try the bundle now."""
        last = self._of_arm.get(arm)
        return last is not None and last.stamp == stamp and self._clock() < last.until


def is_passing(error: BaseException) -> bool:
    """Whether an error says nothing of the bundle: the store, the disk or memory was at fault."""
    found: BaseException | None = error
    while found is not None:
        # PyTorch has no error of its own for memory that it does not get.
        if isinstance(found, _PASSING) or "DefaultCPUAllocator" in str(found):
            return True
        found = found.__cause__
    return False
