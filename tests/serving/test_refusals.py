import pytest

from dualtower.errors import BundleError, DataError, StoreError
from dualtower.serving.refusals import LONGEST_PAUSE, Refusals, is_passing


def caused(cause: Exception) -> BundleError:
    error = BundleError("cannot be loaded")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (StoreError("busy"), True),
        (OSError("too many open files"), True),
        (caused(MemoryError()), True),
        (caused(caused(OSError("input/output error"))), True),
        (caused(RuntimeError("DefaultCPUAllocator: can't allocate memory")), True),
        (BundleError("a byte differs"), False),
        (caused(ValueError("no such layer")), False),
        (DataError("item vectors: NaN"), False),
    ],
)
def test_what_says_nothing_of_the_bundle(error: Exception, passing: bool) -> None:
    assert is_passing(error) == passing


def test_a_verdict_holds_for_good_and_for_its_bundle_alone() -> None:
    seconds = 0.0
    refusals = Refusals(lambda: seconds)
    assert refusals.add("a", (1, 1), BundleError("a byte differs")) is None
    seconds = 1e9
    assert refusals.holds("a", (1, 1))
    assert not refusals.holds("a", (1, 2))
    assert not refusals.holds("b", (1, 1))


def test_the_pause_doubles_up_to_a_longest_one() -> None:
    seconds, pauses = 0.0, []
    refusals = Refusals(lambda: seconds)
    for _ in range(8):
        pause = refusals.add(None, (1, 1), StoreError("busy"))
        assert pause is not None
        pauses.append(pause)
        seconds += pause - 0.5
        assert refusals.holds(None, (1, 1))
        seconds += 0.5
        assert not refusals.holds(None, (1, 1))
    assert pauses == [10, 20, 40, 80, 160, 320, LONGEST_PAUSE, LONGEST_PAUSE]
    assert refusals.add(None, (2, 2), StoreError("busy")) == 10
