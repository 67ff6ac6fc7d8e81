import numpy as np
import pytest

from benchmarks.evaluation import WAYS, RandomVectors, made_log


def test_both_ways_find_the_same_ranks():
    log = made_log(queries=300, items=2000)
    model = RandomVectors(log, dim=16)
    values = [way(model, log) for way in WAYS.values()]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert 0.01 < values[0] < 0.9, "ranks should be neither all first nor all lost"


def test_the_made_log_is_what_it_says():
    log = made_log(queries=50, items=100)
    batch = log.requests(log.queries())
    assert len(batch) == log.event_count == 50
    assert np.unique(batch.history.lengths()).tolist() == [20]
    assert log.dataset.items.min() >= 1
    assert log.dataset.items.max() <= 100
