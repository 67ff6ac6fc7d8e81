"""Windows against a naive walk through the logs."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from dualtower.data.columns import FeatureColumn
from dualtower.data.dataset import Dataset, Log
from dualtower.schema import Feature, FeatureKind, Schema
from dualtower.training.windows import Batch, Windows
from tests.helpers import leave_last_out_by_hand, tiny_dataset


def random_dataset() -> Dataset:
    """Logs of 1 to 40 events; context and query features count events and queries."""
    rng = np.random.default_rng(5)
    logs = [rng.integers(1, 30, size=size).tolist() for size in rng.integers(1, 41, size=25)]
    events = sum(len(log) for log in logs)
    kind = FeatureKind.NUMERIC
    return tiny_dataset(
        logs,
        item_count=31,
        context_features={
            "event": FeatureColumn(
                Feature(name="event", kind=kind), np.arange(events, dtype=np.float32)
            )
        },
        query_features={
            "query": FeatureColumn(
                Feature(name="query", kind=kind), np.arange(len(logs) + 1, dtype=np.float32)
            )
        },
    )


def windows(log: Log, **changes: int) -> Windows:
    settings = {
        "history_length": 4,
        "target_length": 6,
        "batch_size": 16,
        "folds": 3,
        "seed": 1,
    }
    return Windows(log, **{**settings, **changes})


def targets(batch: Batch) -> list[tuple[int, int, int, list[int], list[int]]]:
    """(event, query, item, window's events before it, events before the window) of each target."""
    found = []
    for place, (window, known) in enumerate(zip(batch.window, batch.known, strict=True)):
        earlier = batch.earlier.take(np.array([window])).values.tolist()
        found.append(
            (
                int(batch.context["event"].values[place]),
                int(batch.queries[window]),
                int(batch.targets[place]),
                batch.items[window, :known].tolist(),
                earlier,
            )
        )
    return found


@pytest.mark.parametrize("part", ["train", "test", "everything"])
@pytest.mark.parametrize(
    ("history_length", "target_length"), [(4, 6), (0, 6), (1, 1), (100, 100), (7, 2)]
)
def test_every_event_is_a_target_once_with_what_came_before(
    part: str, history_length: int, target_length: int
):
    dataset = random_dataset()
    split = leave_last_out_by_hand(dataset)
    log = dataset.everything() if part == "everything" else getattr(split, part)
    made = windows(log, history_length=history_length, target_length=target_length)
    seen = []
    for batch in made.epoch(3):
        for event, query, item, before, earlier in targets(batch):
            start = int(dataset.offsets[query])
            assert log.start[query] <= event < log.end[query]
            assert item == dataset.items[event]
            assert earlier + before == dataset.items[start:event].tolist()
            assert len(before) >= min(history_length, event - start)
            seen.append(event)
        assert batch.query_features["query"].values.tolist() == batch.queries.tolist()
    expected = np.concatenate([np.arange(a, b) for a, b in zip(log.start, log.end, strict=True)])
    assert sorted(seen) == expected.tolist()
    assert made.event_count == log.event_count == len(seen)


def test_the_padding_is_zero_and_holds_nothing_after_the_window():
    dataset = random_dataset()
    for batch in windows(dataset.everything()).epoch(0):
        last = np.zeros(len(batch.queries), dtype=int)
        np.maximum.at(last, batch.window, batch.known + 1)
        behind = np.arange(batch.items.shape[1]) >= last[:, None]
        assert (batch.items[behind] == 0).all()
        assert (batch.items[~behind] > 0).all()
        assert batch.items.shape[1] <= 4 + 6


def test_a_batch_holds_queries_of_one_fold_and_a_query_keeps_its_fold():
    made = windows(random_dataset().everything())
    fold_of: dict[int, int] = {}
    for seed in (0, 1):
        for batch in made.epoch(seed):
            for query in batch.queries.tolist():
                assert fold_of.setdefault(query, batch.fold) == batch.fold
    assert set(fold_of.values()) == {0, 1, 2}


def test_batches_are_of_about_the_size_asked_for():
    made = windows(random_dataset().everything(), batch_size=40)
    sizes = [len(batch.targets) for batch in made.epoch(0)]
    assert max(sizes) < 40 + 6
    assert abs(made.step_count() - len(sizes)) <= 3


def test_the_order_depends_on_the_seed_alone():
    made, again = (windows(random_dataset().everything()) for _ in range(2))

    def order(source: Windows, seed: int) -> list[list[int]]:
        return [batch.context["event"].values.tolist() for batch in source.epoch(seed)]

    assert order(made, 7) == order(again, 7)
    assert order(made, 7) != order(made, 8)


@pytest.mark.parametrize("part", ["train", "later half", "test", "everything"])
@pytest.mark.parametrize(("history_length", "target_length"), [(4, 6), (1, 1), (100, 100)])
def test_a_log_without_order_has_another_one_each_epoch(
    part: str, history_length: int, target_length: int
):
    ordered = random_dataset()
    weights = np.arange(ordered.event_count, dtype=np.float32)
    dataset = replace(ordered, schema=Schema(unordered=True), weights=weights)
    everything, split = dataset.everything(), leave_last_out_by_hand(dataset)
    views = {
        "everything": everything,
        "later half": replace(everything, start=(everything.start + everything.end) // 2),
    }
    log = views[part] if part in views else getattr(split, part)
    made = windows(log, history_length=history_length, target_length=target_length)
    orders = []
    for seed in (0, 3, 3):
        # By query: of each of its windows what stands before it, and its targets' events.
        found: dict[int, list[tuple[list[int], list[int]]]] = {}
        for batch in made.epoch(seed):
            assert batch.weights is not None
            assert batch.weights.tolist() == batch.context["event"].values.tolist()
            of_window: dict[int, tuple[list[int], list[int]]] = {}
            for place, (event, query, item, before, earlier) in enumerate(targets(batch)):
                assert item == dataset.items[event]
                window = int(batch.window[place])
                if window not in of_window:
                    of_window[window] = (earlier + before, [])
                    found.setdefault(query, []).append(of_window[window])
                base, events = of_window[window]
                assert len(before) == min(history_length, len(base)) + len(events)
                assert earlier + before == [*base, *dataset.items[events].tolist()]
                events.append(event)
        for query, of_query in found.items():
            start, first, end = (int(x[query]) for x in (dataset.offsets, log.start, log.end))
            shown = [event for _, events in of_query for event in events]
            assert sorted(shown) == list(range(first, end))
            whole = first - start
            rounds = []
            for base, events in of_query:
                assert len(events) <= min(target_length, -(-(end - first) // 4))
                assert base[:whole] == dataset.items[start:first].tolist()
                rounds.append([*base[whole:], *dataset.items[events].tolist()])
            # All others stand before a window, in one order that goes round.
            turned = [rounds[0][place:] + rounds[0][:place] for place in range(len(rounds[0]))]
            assert sorted(rounds[0]) == sorted(dataset.items[first:end].tolist())
            assert all(items in turned for items in rounds)
        orders.append({query: sorted(of_query) for query, of_query in found.items()})
    assert orders[1] == orders[2]
    if part != "test":  # one event a query there
        assert orders[0] != orders[1]


def test_all_orders_of_a_log_without_one_come_up():
    dataset = replace(tiny_dataset([[1, 2, 3, 4]]), schema=Schema(unordered=True))
    made = windows(dataset.everything(), folds=1)
    seen = set()
    for seed in range(200):
        (batch,) = made.epoch(seed)
        assert batch.known.tolist() == [3, 3, 3, 3]
        seen.add((*batch.items[0].tolist(),))
    assert len(seen) == 24


def test_a_window_longer_than_a_batch_is_a_batch_of_its_own():
    dataset = tiny_dataset([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
    made = windows(dataset.everything(), target_length=5, batch_size=2, folds=1)
    assert [len(batch.targets) for batch in made.epoch(0)] == [5, 5]


def test_more_folds_than_queries():
    dataset = tiny_dataset([[1, 2], [3]])
    batches = list(windows(dataset.everything(), folds=8).epoch(0))
    assert sorted(item for batch in batches for item in batch.targets.tolist()) == [1, 2, 3]


def test_ids_do_not_matter():
    """Only rows enter: another vocabulary gives the same windows."""
    named = tiny_dataset([[1, 2], [2]], query_ids=pl.Series([9, 4]), item_ids=pl.Series([7, 1]))
    plain = tiny_dataset([[1, 2], [2]])
    one, other = (list(windows(data.everything()).epoch(0)) for data in (named, plain))
    assert [batch.items.tolist() for batch in one] == [batch.items.tolist() for batch in other]


def test_events_of_one_time_are_not_one_another_s_history():
    # Two queries; baskets {1, 2}, {3}, {4, 5, 6} and {7}, {8, 9}.
    times = np.array([10, 10, 20, 30, 30, 30, 30, 40, 40])
    dataset = replace(tiny_dataset([[1, 2, 3, 4, 5, 6], [7, 8, 9]]), times=times)
    (batch,) = windows(dataset.everything(), history_length=10, target_length=10, folds=1).epoch(0)
    known = dict(zip(batch.targets.tolist(), batch.known.tolist(), strict=True))
    assert known == {1: 0, 2: 0, 3: 2, 4: 3, 5: 3, 6: 3, 7: 0, 8: 1, 9: 1}
    visible = windows(
        dataset.everything(),
        history_length=10,
        target_length=10,
        folds=1,
        same_time_history=True,
    )
    (batch,) = visible.epoch(0)
    known = dict(zip(batch.targets.tolist(), batch.known.tolist(), strict=True))
    assert known == {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 0, 8: 1, 9: 2}


def test_only_earlier_times_are_known_where_windows_cut_through_a_basket():
    dataset = random_dataset()
    rng = np.random.default_rng(2)
    times = np.concatenate(
        [
            np.sort(rng.integers(0, 8, size=end - start))
            for start, end in pairwise(dataset.offsets.tolist())
        ]
    )
    dataset = replace(dataset, times=times)
    for batch in windows(dataset.everything()).epoch(1):
        for event, query, _, before, earlier in targets(batch):
            start = int(dataset.offsets[query])
            begin = start + len(earlier)
            shown = [place for place in range(begin, event) if times[place] < times[event]]
            assert before == dataset.items[shown].tolist()


@pytest.mark.parametrize(("history_length", "target_length"), [(4, 6), (0, 6), (1, 1), (7, 2)])
def test_a_basket_of_any_length_is_no_part_of_its_own_history(
    history_length: int, target_length: int
):
    """Also where it is longer than a window, or a window begins in the midst of it."""
    plain = random_dataset()
    rng = np.random.default_rng(0)
    steps = rng.random(plain.event_count) < 0.2  # baskets of five lines on average
    dataset = replace(plain, times=np.cumsum(steps).astype(np.int64))
    log = dataset.everything()
    made = windows(log, history_length=history_length, target_length=target_length)
    shortest = []
    for batch in made.epoch(0):
        for event, query, _, before, earlier in targets(batch):
            start = int(dataset.offsets[query])
            own = dataset.times[start:event] == dataset.times[event]
            history = dataset.items[start:event][~own].tolist()
            assert earlier + before == history
            shortest.append(len(before) - min(history_length, len(history)))
    assert min(shortest) >= 0


@pytest.mark.parametrize("same_time_history", [False, True])
def test_evaluation_shows_the_history_that_training_shows(same_time_history: bool):
    plain = random_dataset()
    steps = np.random.default_rng(0).random(plain.event_count) < 0.3
    test = replace(plain, times=np.cumsum(steps).astype(np.int64)).leave_last_out().test
    made = windows(test, same_time_history=same_time_history)
    batches = list(made.epoch(0))
    assert sum(len(batch.targets) for batch in batches) > 15
    for batch in batches:
        for _, query, _, before, earlier in targets(batch):
            request = test.requests(np.array([query]), same_time_history=same_time_history)
            assert earlier + before == request.history.values.tolist()


def test_what_is_not_read_is_not_gathered():
    log = random_dataset().everything()
    kept, spared = windows(log).epoch(0), windows(log, read_earlier=False).epoch(0)
    for one, other in zip(kept, spared, strict=True):
        assert len(other.earlier.values) == 0
        assert len(other.earlier) == len(other.queries)
        assert one.items.tolist() == other.items.tolist()
        assert one.known.tolist() == other.known.tolist()


def test_every_target_has_its_event_s_weight():
    plain = random_dataset()
    weights = np.arange(plain.event_count, dtype=np.float32) + 0.5
    for batch in windows(replace(plain, weights=weights).everything()).epoch(0):
        assert batch.weights is not None
        assert batch.weights.tolist() == (batch.context["event"].values + 0.5).tolist()
    assert all(batch.weights is None for batch in windows(plain.everything()).epoch(0))


def test_a_huge_basket_makes_no_long_windows():
    """Three events, a basket of 20,000, two events: only the last targets see all of it."""
    items = np.random.default_rng(0).integers(1, 30, 20_005)
    times = np.repeat([1, 2, 3, 4, 5, 6], [1, 1, 1, 20_000, 1, 1])
    dataset = replace(tiny_dataset([items.tolist()], item_count=30), times=times)
    made = windows(dataset.everything(), history_length=50, target_length=50, batch_size=1_000)
    first = {4: 3, 5: 20_003, 6: 20_004}
    seen = []
    for batch in made.epoch(0):
        assert batch.items.shape[1] <= 1_000 or batch.items.shape[1] == 20_004
        for place, (window, known) in enumerate(zip(batch.window, batch.known, strict=True)):
            assert len(batch.earlier.values) == 0
            shown = batch.items[window, :known]
            assert shown.tolist() == items[:known].tolist()
            seen.append((int(known), int(batch.targets[place])))
    expected = [
        (first.get(int(time), place), int(items[place])) for place, time in enumerate(times)
    ]
    assert sorted(seen) == sorted(expected)
