from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch

from dualtower import models
from dualtower.data.columns import QueryBatch, Ragged
from dualtower.models.dat import DAT
from dualtower.models.two_tower import TwoTower
from dualtower.retrieval.bundle import Bundle
from dualtower.serving.event import Event, Id
from dualtower.serving.live import LiveState
from dualtower.serving.sqlite_store import SqliteStore
from tests.helpers import tiny_dataset
from tests.retrieval.vectors import SumOfHistory
from tests.serving.bundles import LENGTH, bundle_of, clicks, dat_bundle, dataset, trained

STORED = Ragged(dataset().items, dataset().offsets)


def whole(bundle: Bundle, row: int, items: list[int]) -> npt.NDArray[np.float32]:
    """p_u of a query with this whole history, encoded from scratch."""
    history = Ragged(np.array(items, dtype=np.int32), np.array([0, len(items)]))
    batch = QueryBatch(np.array([row]), history, {}, {})
    vector: npt.NDArray[np.float32] = bundle.model.encode_queries(batch)[0]
    return vector


def stored(row: int) -> list[int]:
    items: list[int] = STORED.take(np.array([row])).values.tolist()
    return items


def test_after_every_event_the_vector_is_that_of_the_whole_history() -> None:
    live = LiveState(dat_bundle())
    past = {"q3": (3, stored(3)), "somebody": (0, [])}
    for number, item in enumerate([5, 9, 9, 1, 18, 2, 7, 7, 3]):
        for query, (row, items) in past.items():
            assert live.vector_of(query) == pytest.approx(whole(live.bundle, row, items), abs=1e-6)
            live.apply(clicks(query, f"i{item}", first=number))
            items.append(item)
    for query, (row, items) in past.items():
        assert live.vector_of(query) == pytest.approx(whole(live.bundle, row, items), abs=1e-6)


def test_a_batch_holds_only_what_is_read_and_the_rest_as_a_sum() -> None:
    live = LiveState(dat_bundle())
    live.apply(clicks("q3", "i5", "i9"))
    batch = live.batch_of("q3")
    items = [*stored(3), 5, 9]
    assert batch.rows.tolist() == [3]
    assert batch.history.values.tolist() == items[-LENGTH:]
    assert batch.earlier is not None
    assert batch.earlier.counts.tolist() == [len(items) - LENGTH]
    vectors = live.bundle.model.encode_items()
    np.testing.assert_allclose(batch.earlier.vectors[0], vectors[items[:-LENGTH]].sum(0), atol=1e-6)


def test_a_query_without_events_is_as_the_bundle_has_it() -> None:
    live = LiveState(dat_bundle())
    batch = live.batch_of("q3")
    assert batch.history.values.tolist() == stored(3)
    assert batch.earlier is None
    assert live.batch_of("somebody").rows.tolist() == [0]
    assert len(live.batch_of("somebody").history.values) == 0
    frame = live.recommend("q3", 5)
    assert frame["item_id"].to_list() == (live.bundle.recommend(["q3"], 5)["item_id"].to_list())


def test_exposures_change_nothing() -> None:
    live = LiveState(dat_bundle())
    before = live.vector_of("q3")
    live.apply([Event("x", "q3", "i5", 0, "exposure"), Event("y", "q3", "new", 0, "exposure")])
    assert live.vector_of("q3").tobytes() == before.tobytes()
    assert len(live.new_items()) == 0
    assert live.live_queries() == 0


def test_seen_items_are_left_out_at_once() -> None:
    live = LiveState(dat_bundle())
    best = live.recommend("somebody", 1)["item_id"][0]
    live.apply(clicks("somebody", best))
    assert best not in live.recommend("somebody", 100)["item_id"].to_list()
    assert best in live.recommend("somebody", 100, exclude_seen=False)["item_id"].to_list()
    # Row r of the corpus i1 … i18 stands at position r - 1.
    assert live.seen("somebody").tolist() == [int(best[1:]) - 1]
    live.apply(clicks("q3", "i5"))
    assert live.seen("q3").tolist() == [item - 1 for item in stored(3)] + [4]


def test_the_items_of_live_events_are_named_oldest_first() -> None:
    live = LiveState(dat_bundle())
    assert live.live_items("q3") == []
    live.apply(clicks("q3", "i5", "brand new", "i19", "i5"))
    assert live.live_items("q3") == ["i5", "brand new", "i19", "i5"]
    assert live.live_items("q4") == []


def test_numbers_and_texts_name_the_same_query() -> None:
    live = LiveState(dat_bundle())
    live.apply([Event("a", 77, "i5", 0), Event("b", "77", "i6", 0)])
    assert live.live_queries() == 1
    assert live.batch_of("77").history.values.tolist() == [5, 6]


def test_a_new_item_has_the_vector_of_the_mean_of_its_queries() -> None:
    bundle = dat_bundle()
    live = LiveState(bundle)
    fans: list[Id] = ["q3", "q5", "somebody"]
    before = [live.vector_of(query) for query in fans]
    for number, query in enumerate(fans):
        live.apply([Event(f"n{number}", query, "novelty", 0)])
    assert isinstance(bundle.model, DAT)
    network = bundle.model.network
    assert network is not None
    assert network.item_tower is not None
    a_v = torch.tensor(np.mean(before, axis=0))
    with torch.no_grad():
        wanted = network.item_tower(torch.cat([network.cached_inputs[0], a_v])[None])[0]
    new = live.new_items()
    assert new.ids.tolist() == ["novelty"]
    assert new.rows.tolist() == [0]
    np.testing.assert_allclose(new.vectors[0], wanted.numpy(), atol=1e-6)


def test_a_new_item_is_recommended_after_its_first_event() -> None:
    live = LiveState(dat_bundle())
    live.apply(clicks("q3", "novelty"))
    # i20 is in the vocabulary, but no event of training names it.
    live.apply(clicks("q5", "i20"))
    frame = live.recommend("q4", 100)
    found = dict(zip(frame["item_id"], frame["score"], strict=True))
    assert set(found) >= {"novelty", "i20"}
    assert frame["score"].is_sorted(descending=True)
    new = live.new_items()
    assert new.rows.tolist() == [0, 20]
    assert found["novelty"] == pytest.approx(new.vectors[0] @ live.vector_of("q4"), abs=1e-6)
    seen = live.recommend("q3", 100)["item_id"].to_list()
    assert "novelty" not in seen
    assert "i20" in seen
    assert live.seen("q3").tolist()[-1] == 18


def test_only_so_many_new_items_are_kept() -> None:
    live = LiveState(dat_bundle(), most_new=2)
    live.apply(clicks("q3", "a", "b", "a", "c"))  # a, first seen longest ago, is let go of
    assert live.new_items().ids.tolist() == ["b", "c"]
    assert [live.new_item_number(name) for name in "abc"] == [-1, 1, 2]
    assert live.live_items("q3") == ["b", "c"]
    others = live.recommend("q4", 100)["item_id"].to_list()
    assert {"b", "c"} <= set(others)
    assert "a" not in others
    assert not {"b", "c"} & set(live.recommend("q3", 100)["item_id"])
    live.apply(clicks("q5", "a"))
    assert live.new_items().ids.tolist() == ["c", "a"]
    # Nothing is remembered of the first time, and no place is another item's.
    assert live.seen("q3").tolist()[-4:] == [18, 19, 18, 20]
    assert live.seen("q5").tolist()[-1] == 21
    assert "a" in live.recommend("q3", 100)["item_id"].to_list()
    assert len(LiveState(dat_bundle(), most_new=0).new_items()) == 0


def test_numbered_items_stay_numbers_beside_new_ones() -> None:
    ids = pl.Series(range(1, 19), dtype=pl.Int64)
    data = tiny_dataset([[1, 2], [2, 3]], item_count=19, item_ids=ids)
    model = SumOfHistory.of(data.space(), np.eye(19, dtype=np.float32))
    model.encode_new_item = lambda row, total, count: np.ones(19)  # type: ignore
    live = LiveState(Bundle.build(model, data, progress=False))
    live.apply([Event("a", "q1", 500, 0)])
    assert live.recommend("q2", 1)["item_id"].to_list() == [500]
    live.apply([Event("b", "q1", 2**64 - 1, 0)])
    assert live.recommend("q2", 2)["item_id"].to_list() == [500, 2**64 - 1]
    live.apply([Event("c", "q1", -5, 0)])  # no type of a column holds both
    assert live.live_items("q1") == ["500", str(2**64 - 1), "-5"]
    live.apply([Event("d", "q1", "text", 0)])
    assert live.recommend("q2", 4)["item_id"].to_list() == ["500", str(2**64 - 1), "-5", "text"]


@pytest.mark.parametrize("model", [TwoTower, None])
def test_a_model_that_cannot_tell_new_items_apart_keeps_none(model: Any) -> None:
    settings: dict[str, Any] = {"history_length": LENGTH, "output_dim": 8, "embedding_dim": 8}
    made = TwoTower(**settings) if model else trained(augmented_item=False)
    live = LiveState(bundle_of(made))
    live.apply(clicks("q3", "novelty", "i5"))
    assert len(live.new_items()) == 0
    assert live.seen("q3").tolist() == [item - 1 for item in stored(3)] + [4]
    assert live.vector_of("q3") == pytest.approx(
        whole(live.bundle, 3, [*stored(3), 0, 5]), abs=1e-6
    )


def test_a_model_that_reads_all_gets_the_whole_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "sum_of_history", SumOfHistory)
    data = tiny_dataset([[1] * 50, [2]], item_count=4)
    model = SumOfHistory.of(data.space(), np.eye(4, dtype=np.float32), interests=2)
    live = LiveState(Bundle.build(model, data, progress=False))
    live.apply(clicks("q1", "i3", "i2"))
    assert live.vector_of("q1").tolist() == [[0, 50, 1, 1], [0, 0, 1, 0]]


def test_the_learned_form_gives_new_items_vectors_too() -> None:
    live = LiveState(bundle_of(trained(augmented="learned")))
    live.apply(clicks("q3", "novelty"))
    assert len(live.new_items()) == 1


def many_events(count: int) -> list[Event]:
    """Of known, new and repeated queries and items, all kinds."""
    rng = np.random.default_rng(5)
    queries: list[Id] = ["q1", "q2", "q3", "new", 12]
    items: list[Id] = [*(f"i{row}" for row in range(1, 21)), "novelty", 99]
    kinds = ["click", "click", "order", "exposure"]
    return [
        Event(
            f"e{number}",
            queries[rng.integers(len(queries))],
            items[rng.integers(len(items))],
            number,
            kinds[rng.integers(4)],
        )
        for number in range(count)
    ]


def every_bit(live: LiveState) -> bytes:
    queries: list[Id] = ["q1", "q2", "q3", "q4", "new", 12]
    new = live.new_items()
    parts = [live.vector_of(query).tobytes() for query in queries]
    return b"".join([*parts, new.vectors.tobytes(), repr(new.ids.tolist()).encode()])


def test_replay_gives_the_same_bits_whatever_the_groups(tmp_path: Path) -> None:
    events = many_events(120)
    store = SqliteStore(tmp_path / "events.sqlite")
    live = LiveState(dat_bundle())
    for start in range(0, 120, 7):
        store.append(events[start : start + 7])
        assert live.catch_up(store) == len(events[start : start + 7])
    at_once = LiveState(dat_bundle())
    at_once.apply(events)
    restarted = LiveState.from_store(dat_bundle(), store)
    assert every_bit(live) == every_bit(at_once) == every_bit(restarted)
    assert live.applied == restarted.applied
    assert live.catch_up(store) == 0


def test_a_bundle_s_own_bits_survive_its_files(tmp_path: Path) -> None:
    dat_bundle().save(tmp_path / "bundle")
    live, again = LiveState(dat_bundle()), LiveState(Bundle.load(tmp_path / "bundle"))
    for state in (live, again):
        state.apply(many_events(60))
    assert every_bit(live) == every_bit(again)


def test_events_in_the_bundle_already_are_passed_over(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    store.append(clicks("q3", "i5"))
    (block,) = store.replay()
    store.append(clicks("q3", "i9", first=1))
    live = LiveState.from_store(dat_bundle(), store, after=block.last)
    assert live.batch_of("q3").history.values.tolist()[-2:] == [stored(3)[-1], 9]


def test_a_fast_lookup_may_be_given() -> None:
    rows = {"q3": 3, "i5": 5}
    live = LiveState(
        dat_bundle(),
        query_row=lambda value: rows.get(str(value), 0),
        item_row=lambda value: rows.get(str(value), 0),
    )
    live.apply(clicks("q3", "i5"))
    assert live.batch_of("q3").history.values.tolist()[-1] == 5
