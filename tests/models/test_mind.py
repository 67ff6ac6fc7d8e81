"""MIND: training and serving agree, nothing of chance is left in serving, and how it is served."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

import dualtower as dt
from dualtower.config import IndexConfig, ModelConfig, RunConfig, TrainingConfig
from dualtower.data.columns import QueryBatch, Ragged
from dualtower.data.dataset import Dataset
from dualtower.errors import ConfigError
from dualtower.models.mind import MIND
from dualtower.models.network import Network
from dualtower.models.query_windows import QueryWindows
from dualtower.training.objective import Objective
from dualtower.training.windows import Batch, Windows
from tests.helpers import tiny_dataset

SMALL: dict[str, Any] = {
    "embedding_dim": 6,
    "output_dim": 5,
    "hidden_dims": (8,),
    "history_length": 9,
    "interests": 3,
}
STILL: dict[str, Any] = {"embedding_dropout": 0.0, "id_dropout": 0.0}
"""No chance in training mode either."""


def logs() -> Dataset:
    """Queries of 1 to 24 events among 30 items."""
    random = np.random.default_rng(0)
    return tiny_dataset(
        [random.integers(1, 31, length).tolist() for length in range(1, 25)], item_count=31
    )


def whole_logs(*rows: int) -> QueryBatch:
    """Queries by row, with all of their events behind them."""
    data = logs()
    return requests(*(data.items[data.offsets[r] : data.offsets[r + 1]].tolist() for r in rows))


def fitted(**settings: Any) -> MIND:
    model = MIND(**{**SMALL, **settings})
    training = TrainingConfig.of(epochs=2, batch_size=16, negative_count=8, device="cpu")
    return dt.fit(model, logs().everything(), training=training, progress=False)


def network_of(model: MIND) -> Network:
    assert model.network is not None
    return model.network


def requests(*histories: list[int]) -> QueryBatch:
    values = np.array([item for history in histories for item in history], dtype=np.int32)
    offsets = np.cumsum([0] + [len(history) for history in histories]).astype(np.int64)
    return QueryBatch(np.zeros(len(histories), np.int64), Ragged(values, offsets), {}, {})


def batches() -> list[Batch]:
    """Every event of the logs as a target, in windows."""
    windows = Windows(
        logs().everything(), history_length=9, target_length=9, batch_size=64, folds=1, seed=0
    )
    return list(windows.epoch(0))


def encoded(network: Network, batch: Batch) -> Any:
    """What the network makes of a training batch's targets, from the cached items."""
    windows = QueryWindows(
        queries=torch.from_numpy(batch.queries),
        events=torch.from_numpy(batch.items),
        present=torch.from_numpy(batch.items > 0),
        earlier=batch.earlier,
        window=torch.from_numpy(batch.window),
        known=torch.from_numpy(batch.known),
        query_features={},
        context={},
    )
    with torch.no_grad():
        return network.encode_query(windows, network.cached_inputs, network.cached_vectors)


@pytest.mark.parametrize("history", [True, False])
def test_a_target_in_training_has_the_interests_of_a_request_with_its_history(history: bool):
    model = fitted(history=history)
    targets = 0
    for batch in batches():
        trained = encoded(network_of(model), batch).vectors.numpy()
        places = zip(batch.window, batch.known, strict=True)
        before = [batch.items[window, :known].tolist() for window, known in places]
        assert_allclose(model.encode_queries(requests(*before)), trained, atol=1e-5)
        targets += len(batch.targets)
    assert targets == logs().event_count


def test_every_interest_is_served_and_none_is_pooled():
    """With 9 events a query has three interests, apart from each other, each of unit length."""
    model = fitted()
    vectors = model.encode_queries(whole_logs(9, 20))
    assert vectors.shape == (2, 3, 5)
    assert_allclose(np.linalg.norm(vectors, axis=2), 1, atol=1e-5)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (np.abs(vectors[:, one] - vectors[:, other]).max(axis=1) > 1e-3).all()
    batch = whole_logs(20)
    products = np.stack([interest @ model.encode_items().T for interest in vectors[1]])
    assert_allclose(model.score(batch)[0], products.max(axis=0), rtol=1e-5, atol=1e-6)


def test_interests_that_a_short_history_does_not_have_repeat_the_first():
    vectors = fitted().encode_queries(requests([], [1], [1, 2, 3], [1, 2, 3, 4], [5] * 8))
    for row in range(3):
        assert (vectors[row, 1:] == vectors[row, 0]).all()
    assert (vectors[3, 2] == vectors[3, 0]).all()
    assert not np.allclose(vectors[3, 1], vectors[3, 0])
    assert len(np.unique(vectors[4], axis=0)) == 3


def test_the_same_request_has_the_same_answer_whatever_was_drawn_before_and_after_loading():
    model = fitted()
    batch = whole_logs(24, 7, 12)
    torch.manual_seed(1)
    first = model.encode_queries(batch)
    torch.manual_seed(2)
    assert np.array_equal(model.encode_queries(batch), first)
    assert model.space is not None
    again = MIND.from_state(model.config.model_dump(mode="json"), model.space, model.state())
    assert np.array_equal(again.encode_queries(batch), first)
    assert not any("start" in name for name, _ in network_of(model).named_parameters())


def test_the_padding_of_a_batch_has_no_part_in_a_short_history_s_interests():
    model = fitted()
    histories = [[3, 1, 4, 1], [2], list(range(1, 10)), list(range(5, 30))]
    together = model.encode_queries(requests(*histories))
    for row, history in enumerate(histories):
        assert_allclose(model.encode_queries(requests(history))[0], together[row], atol=1e-5)


def test_events_beyond_the_history_length_are_not_read():
    one, other = fitted().encode_queries(
        requests([1, 2, 3, *range(10, 19)], [7, 8, *range(10, 19)])
    )
    assert_allclose(one, other, atol=1e-6)


def objective(model: MIND, **training: Any) -> Objective:
    config = TrainingConfig.of(**{"negative_count": 8, "device": "cpu", **training})
    return Objective(network_of(model), config, logs().everything(), 0)


def test_training_scores_one_of_the_served_vectors_where_attention_is_hard():
    """Attention before the tower would give a vector that is none of them."""
    model = fitted(label_attention_power="hard")
    for batch in batches():
        interests = encoded(network_of(model), batch).vectors
        targets = network_of(model).cached_vectors[batch.targets]
        best = (interests * targets[:, None]).sum(2).argmax(1)
        _, given = objective(model)(batch)
        assert_close(given, interests[torch.arange(len(best)), best], atol=1e-5, rtol=1e-4)


def test_softer_attention_weighs_the_present_interests_by_the_scores_of_the_loss():
    model = fitted(label_attention_power=1.5)
    batch = batches()[0]
    found = encoded(network_of(model), batch)
    targets = network_of(model).cached_vectors[batch.targets]
    _, given = objective(model, temperature=0.25)(batch)
    for row, count in enumerate(found.interests.tolist()):
        interests = found.vectors[row, :count].double()
        scores = interests @ targets[row].double() / 0.25
        weights = (scores.clamp(min=0) ** 1.5).softmax(0)
        pooled = weights @ interests
        assert_close(given[row].double(), pooled / pooled.norm(), atol=1e-4, rtol=1e-3)


def test_without_unit_length_the_pooled_vector_keeps_its_own():
    model = fitted(label_attention_power=0.0, normalise=False)
    batch = batches()[0]
    found = encoded(network_of(model), batch)
    _, given = objective(model, temperature=1.0)(batch)
    for row, count in enumerate(found.interests.tolist()):
        assert_close(given[row], found.vectors[row, :count].mean(0), atol=1e-5, rtol=1e-4)


def test_what_is_trained_by_a_step():
    """The map, the towers and the items of the histories; the first logits stay as drawn."""
    model = MIND(**SMALL, **STILL)
    dataset = logs()
    network = model.build(dataset.space(), dataset.item_features, torch.device("cpu"))
    network.train()
    objective(model)(batches()[0])[0].backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    for name in ("capsules.bilinear", "query_tower.layers.0.weight", "item_tower.layers.0.weight"):
        gradient = gradients[name]
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_the_papers_preset_trains_on_windows_all_the_same():
    settings = {key: value for key, value in SMALL.items() if key != "interests"}
    model = MIND(preset="paper", last_relu=False, **settings)
    dt.fit(model, logs().everything(), progress=False)
    vectors = model.encode_queries(whole_logs(24))
    assert vectors.shape == (1, 4, 5)
    run = RunConfig.model_validate(
        {"data": {"interactions": "x.csv"}, "model": {"name": "mind", "preset": "paper"}}
    )
    assert run.training == TrainingConfig.of("paper", examples="windows")


def test_pairs_are_refused():
    with pytest.raises(ConfigError, match='mind finds its interests there; set examples = "win'):
        dt.fit(MIND(**SMALL), logs().everything(), training=TrainingConfig.of(examples="pairs"))


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_a_bundle_serves_exactly_n_unseen_items_each_once(tmp_path: Path, kind: Any):
    data = logs()
    model = fitted()
    bundle = dt.Bundle.build(model, data, index=IndexConfig(kind=kind), progress=False)
    bundle.save(tmp_path / "bundle")
    loaded = dt.Bundle.load(tmp_path / "bundle")
    queries = [f"q{row}" for row in range(1, 25)]
    for served in (bundle, loaded):
        frame = served.recommend(queries, n=5, exclude=["i1", "i2"])
        scores = model.score(whole_logs(*range(1, 25)))
        for row, query in enumerate(queries):
            own = frame.filter(frame["user_id"] == query)
            items = [int(item[1:]) for item in own["item_id"].to_list()]
            seen = set(data.items[data.offsets[row + 1] : data.offsets[row + 2]].tolist())
            left = [item for item in range(1, 31) if item not in seen | {1, 2}]
            assert len(set(items)) == len(items) == 5
            best = sorted(left, key=lambda item: -scores[row, item])[:5]
            assert set(items) <= set(left)
            if kind == "flat":
                assert items == best
                assert_allclose(own["score"], scores[row, best], rtol=1e-5, atol=1e-6)


def test_two_tastes_at_once_are_both_among_the_best():
    """Queries take turns between two of six groups of items; a new pair of groups is asked for."""
    random = np.random.default_rng(0)
    pairs = [(a, b) for a in range(6) for b in range(a) if (a, b) != (5, 0)]
    made = []
    for row in range(280):
        groups = pairs[row % len(pairs)]
        made.append([int(groups[i % 2] * 8 + random.integers(1, 9)) for i in range(16)])
    data = tiny_dataset(made, item_count=49)
    model = MIND(**{**SMALL, "embedding_dim": 8, "history": False, "history_length": 16})
    # Fifty steps or so: they must be long ones.
    training = TrainingConfig.of(
        epochs=6, batch_size=128, negative_count=32, device="cpu", table_learning_rate=0.06
    )
    dt.fit(model, data.everything(), training=training, progress=False)
    asked = requests([41 + i // 2 if i % 2 else 1 + i // 2 for i in range(16)])
    best = np.argsort(-model.score(asked)[0, 1:])[:16] + 1
    groups = (best - 1) // 8
    assert (groups == 0).sum() >= 6
    assert (groups == 5).sum() >= 6


def test_augmented_vectors_and_alignment_are_refused():
    for settings in ({"augmented": "learned"}, {"lambda_ca": 1.0}):
        with pytest.raises(ConfigError, match="mind has no augmented vectors and no category"):
            MIND(**settings)
    with pytest.raises(ConfigError, match="set query_tower = true"):
        MIND(query_tower=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"interests": 0}, "interests"),
        ({"routing_iterations": 0}, "routing_iterations"),
        ({"label_attention_power": -1.0}, "label_attention_power"),
        ({"label_attention_power": "soft"}, "'hard'"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        ModelConfig.of("mind", **settings)
