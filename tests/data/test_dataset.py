"""Views of a dataset: what counts as the history of a request."""

from dataclasses import replace

import numpy as np
import pytest

from dualtower.data.dataset import Log
from tests.helpers import tiny_dataset


def histories(log: Log, **options: bool) -> list[list[int]]:
    rows = log.queries()
    batch = log.requests(rows, **options)
    return [batch.history.take(np.array([place])).values.tolist() for place in range(len(rows))]


def test_events_of_the_target_s_very_time_are_no_history() -> None:
    # Baskets {1, 2}, {3}, {4, 5, 6}; {7, 8, 9}; {1}, {2}, {3}.
    times = np.array([10, 10, 20, 30, 30, 30, 30, 30, 30, 10, 20, 30])
    plain = tiny_dataset([[1, 2, 3, 4, 5, 6], [7, 8, 9], [1, 2, 3]])
    parts = replace(plain, times=times).leave_last_out()
    assert histories(parts.test) == [[1, 2, 3], [], [1, 2]]
    assert histories(parts.validation) == [[1, 2, 3], [], [1]]
    assert histories(parts.test, same_time_history=True) == [[1, 2, 3, 4, 5], [7, 8], [1, 2]]
    assert parts.test.past(np.array([1])).values.tolist() == [1, 2, 3, 4, 5]
    assert histories(plain.leave_last_out().test) == [[1, 2, 3, 4, 5], [7, 8], [1, 2]]


def test_history_against_a_loop() -> None:
    """Also for queries without a target, and where a split column stands before the times."""
    random = np.random.default_rng(0)
    logs = [random.integers(1, 9, size).tolist() for size in random.integers(0, 12, 60)]
    dataset = tiny_dataset(logs, item_count=9)
    times = random.integers(0, 4, dataset.event_count)
    lengths = np.diff(dataset.offsets)
    start = dataset.offsets[:-1] + (random.random(61) * (lengths + 1)).astype(np.int64)
    log = Log(replace(dataset, times=times), start, dataset.offsets[1:], np.arange(1, 9))
    rows = np.arange(dataset.query_count)
    found = log.requests(rows).history
    for row in rows.tolist():
        low, first = int(dataset.offsets[row]), int(start[row])
        known = first
        while first < dataset.offsets[row + 1] and known > low and times[known - 1] == times[first]:
            known -= 1
        assert found.take(np.array([row])).values.tolist() == dataset.items[low:known].tolist()


@pytest.mark.parametrize(("weighted", "expected"), [(0, True), (2, True), (3, False), (5, False)])
def test_a_view_has_weight_where_one_of_its_own_events_has(weighted: int, expected: bool) -> None:
    plain = tiny_dataset([[1, 2, 3, 4], [2, 3]])
    weights = np.zeros(6, dtype=np.float32)
    weights[weighted] = 0.5
    dataset = replace(plain, weights=weights)
    view = Log(dataset, np.array([0, 0, 4]), np.array([0, 3, 5]), np.arange(1, 5))
    assert view.has_weight() is expected
    assert replace(view, dataset=plain).has_weight()
    assert not Log(plain, view.start, view.start, view.corpus).has_weight()
