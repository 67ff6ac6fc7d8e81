"""Pairs: every positive once, in an order drawn from the seed."""

from dataclasses import replace

import numpy as np
import pytest

from dualtower.data.columns import FeatureColumn
from dualtower.data.dataset import Dataset
from dualtower.schema import Feature, FeatureKind
from dualtower.training.pairs import Pairs
from tests.helpers import leave_last_out_by_hand, tiny_dataset


def random_dataset() -> Dataset:
    rng = np.random.default_rng(2)
    logs = [rng.integers(1, 50, size=size).tolist() for size in rng.integers(0, 30, size=20)]
    events = sum(len(log) for log in logs)
    event = FeatureColumn(
        Feature(name="event", kind=FeatureKind.NUMERIC), np.arange(events, dtype=np.float32)
    )
    return tiny_dataset(logs, item_count=50, context_features={"event": event})


@pytest.mark.parametrize("block_batches", [1, 3, 512])
@pytest.mark.parametrize("part", ["train", "validation", "everything"])
def test_every_positive_exactly_once(part: str, block_batches: int):
    dataset = random_dataset()
    split = leave_last_out_by_hand(dataset)
    log = dataset.everything() if part == "everything" else getattr(split, part)
    made = Pairs(log, batch_size=7, block_batches=block_batches)
    events = []
    batches = list(made.epoch(4))
    for batch in batches:
        event = batch.context["event"].values.astype(int)
        assert batch.targets.tolist() == dataset.items[event].tolist()
        assert (dataset.offsets[batch.queries] <= event).all()
        assert (event < dataset.offsets[batch.queries + 1]).all()
        assert batch.window.tolist() == list(range(len(event)))
        events += event.tolist()
    expected = np.concatenate([np.arange(a, b) for a, b in zip(log.start, log.end, strict=True)])
    assert sorted(events) == expected.tolist()
    assert made.event_count == len(expected)
    assert made.step_count() == len(batches)


def test_there_is_no_history():
    for batch in Pairs(random_dataset().everything(), batch_size=7).epoch(0):
        assert batch.items.shape == (len(batch.targets), 0)
        assert batch.known.tolist() == [0] * len(batch.targets)
        assert len(batch.earlier) == len(batch.targets)
        assert len(batch.earlier.values) == 0


def test_the_order_depends_on_the_seed_alone():
    made, again = (Pairs(random_dataset().everything(), batch_size=7) for _ in range(2))

    def order(source: Pairs, seed: int) -> list[float]:
        return [e for b in source.epoch(seed) for e in b.context["event"].values.tolist()]

    assert order(made, 1) == order(again, 1)
    assert order(made, 1) != order(made, 2)
    assert order(made, 1) != sorted(order(made, 1))


def test_every_positive_has_its_event_s_weight():
    plain = random_dataset()
    weights = np.arange(plain.event_count, dtype=np.float32) + 0.5
    for batch in Pairs(replace(plain, weights=weights).everything(), batch_size=7).epoch(0):
        assert batch.weights is not None
        assert batch.weights.tolist() == (batch.context["event"].values + 0.5).tolist()
    assert all(b.weights is None for b in Pairs(plain.everything(), batch_size=7).epoch(0))
