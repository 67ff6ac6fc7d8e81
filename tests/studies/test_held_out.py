import numpy as np
import pytest

from dualtower.config import SplitConfig
from dualtower.errors import DataError
from dualtower.studies.held_out import held_out_queries, next_events, period_of, without
from tests.helpers import leave_last_out_by_hand, tiny_dataset


def test_the_last_share_of_each_query_is_the_period() -> None:
    dataset = tiny_dataset([[1, 2, 3, 4, 5], [1, 2], [3], []], item_count=7)
    parts = period_of(dataset, SplitConfig(), 0.3)
    # 5 events: 2 in the period, then one for validation; 2: one and none; 1: none.
    assert (parts.test.end - parts.test.start).tolist() == [0, 2, 1, 0, 0]
    assert (parts.validation.end - parts.validation.start).tolist() == [0, 1, 0, 0, 0]
    assert (parts.train.end - parts.train.start).tolist() == [0, 2, 1, 1, 0]
    assert parts.test.corpus.tolist() == [1, 2, 3]


def test_without_a_share_the_split_s_test_is_the_period() -> None:
    dataset = tiny_dataset([[1, 2, 3, 4]], item_count=5)
    parts = period_of(dataset, SplitConfig(by="leave_last_out"), None)
    assert parts.test.targets(np.array([1])).values.tolist() == [4]


def test_queries_held_out_have_more_events_than_asked() -> None:
    dataset = tiny_dataset([[1, 2, 3, 4]] * 10 + [[1]] * 10, item_count=5)
    held = held_out_queries(dataset, 0.5, 3, seed=1)
    assert 0 < len(held) < 10
    assert (held <= 10).all()
    assert held.tolist() == held_out_queries(dataset, 0.5, 3, seed=1).tolist()
    assert len(held_out_queries(dataset, 0.999, 0, seed=1)) == 20
    with pytest.raises(DataError, match="none of the 10 queries held out has more than 4 events"):
        held_out_queries(dataset, 0.5, 4, seed=1)


def test_nothing_or_the_first_events_of_held_queries_stay_in_training() -> None:
    dataset = tiny_dataset([[1, 2, 3, 4], [1, 2, 3, 4], [4]], item_count=5)
    parts = leave_last_out_by_hand(dataset)
    held = np.array([2])
    nothing = without(parts, held)
    assert nothing.train.queries().tolist() == [1, 3]
    assert nothing.validation.queries().tolist() == [1]
    assert nothing.train_and_validation.queries().tolist() == [1, 3]
    assert nothing.train_and_validation.targets(np.array([1])).values.tolist() == [1, 2, 3]
    some = without(parts, held, 2)
    assert some.train.targets(np.array([1, 2])).values.tolist() == [1, 2, 1, 2]
    assert some.train_and_validation.targets(held).values.tolist() == [1, 2]


def test_the_next_new_item_later_than_what_is_known() -> None:
    dataset = tiny_dataset([[1, 2, 1, 3, 4], [1, 2, 2], [5]], item_count=6)
    held = np.array([1, 2, 3])
    after_two = next_events(dataset, held, 2, same_time_history=False)
    # q1 repeats item 1 first; q2 only repeats; q3 has one event.
    assert after_two.queries.tolist() == [1]
    assert after_two.targets.tolist() == [3]
    assert after_two.known.tolist() == after_two.seen.tolist() == [2]
    assert next_events(dataset, held, 0, same_time_history=False).targets.tolist() == [0, 5, 8]
    object.__setattr__(dataset, "times", np.array([1, 2, 3, 3, 4, 1, 1, 2, 1], dtype=np.int64))
    # After three events, of which the last is of time 3, the next later one is item 4.
    later = next_events(dataset, held[:1], 3, same_time_history=False)
    assert later.targets.tolist() == [4]
    assert next_events(dataset, held[:1], 3, same_time_history=True).targets.tolist() == [3]
