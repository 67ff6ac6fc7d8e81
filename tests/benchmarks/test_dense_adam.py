import numpy as np
import pytest
import torch

from benchmarks.dense_adam import DenseDat, PairDataset, steps
from benchmarks.synthetic import amazon_books_shape
from dualtower.config import TrainingConfig
from dualtower.models.dat import DAT
from dualtower.training import objective
from dualtower.training.pairs import Pairs


def test_the_rival_computes_the_same_loss_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = amazon_books_shape(queries=40, items=30, events=300)
    torch.manual_seed(0)
    model = DAT(preset="paper", lambda_ca=0.0)
    network = model.build(dataset.space(), {}, torch.device("cpu")).train()
    batch = next(Pairs(dataset.everything(), batch_size=64).epoch(0))
    negatives = torch.randint(1, 31, (64, 4))
    monkeypatch.setattr(objective, "uniform_per_positive", lambda *_: negatives)
    config = TrainingConfig.of("paper", batch_size=64)
    ours, _ = objective.Objective(network, config, dataset.everything(), 0)(batch)
    ours.backward()

    rival = DenseDat(41, 31)
    tables = {
        "query_id": network.query_table,
        "item_id": network.item_table,
        "query_augmented": network.augmented.queries,
        "item_augmented": network.augmented.items,
    }
    with torch.no_grad():
        for name, table in tables.items():
            getattr(rival, name).weight.copy_(table.weight)
        for side in ("query", "item"):
            theirs = getattr(rival, f"{side}_tower").parameters()
            for mine, other in zip(
                getattr(network, f"{side}_tower").parameters(), theirs, strict=True
            ):
                other.copy_(mine)
    items = torch.cat([torch.from_numpy(batch.targets)[:, None], negatives], dim=1)
    expected = rival.loss(torch.from_numpy(batch.queries), items)
    expected.backward()

    torch.testing.assert_close(ours, expected)
    for side in ("query", "item"):
        towers = [getattr(module, f"{side}_tower") for module in (network, rival)]
        for mine, other in zip(*(tower.parameters() for tower in towers), strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_a_row_is_its_positive_and_negatives_that_are_not_it() -> None:
    queries, items = np.array([5, 6], dtype=np.int32), np.array([1, 2], dtype=np.int32)
    pairs = PairDataset(queries, items, item_count=4, negatives=2, seed=0)
    assert len(pairs) == 2
    for _ in range(50):
        query, row = pairs[1]
        assert query == 6
        assert row[0] == 2
        assert set(row[1:]) <= {1, 3}


def test_steps_count_their_positives() -> None:
    dataset = amazon_books_shape(queries=20, items=30, events=100)
    queries = np.repeat(np.arange(21, dtype=np.int32), np.diff(dataset.offsets))
    taken = steps(queries, dataset.items, 21, 31, batch_size=8)
    assert [next(taken) for _ in range(15)] == [8] * 15
