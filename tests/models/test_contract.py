"""What every model must do, on a checkerboard whose right answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualtower.config import IndexConfig, TrainingConfig
from dualtower.data.columns import FeatureSpace, QueryBatch
from dualtower.data.dataset import Dataset, Log, Split
from dualtower.errors import ConfigError, NotFittedError
from dualtower.evaluation.ranking import rank_targets
from dualtower.fitting import fit
from dualtower.models import MODELS
from dualtower.models.base import Model, VectorModel
from dualtower.retrieval.bundle import Bundle
from tests.helpers import leave_last_out_by_hand, tiny_dataset

SIDE = 8
"""Odd queries choose among the odd items of 1 … 2 · SIDE, even ones among the even items."""

SETTINGS: dict[str, dict[str, Any]] = {
    "item_knn": {"shrinkage": 0.0},
    "ease": {"regularization": 1.0},
    "wals": {"factors": 4, "regularization": 0.1},
    "dat": {
        "embedding_dim": 8,
        "output_dim": 8,
        "augmented_dim": 8,
        "hidden_dims": (16,),
        "embedding_dropout": 0.0,
    },
    "fm": {"output_dim": 8, "embedding_dropout": 0.0},
    "mind": {
        "embedding_dim": 8,
        "output_dim": 8,
        "hidden_dims": (16,),
        "embedding_dropout": 0.0,
    },
    "two_tower": {
        "embedding_dim": 8,
        "output_dim": 8,
        "hidden_dims": (16,),
        "embedding_dropout": 0.0,
    },
    "sasrec": {
        "embedding_dim": 8,
        "output_dim": 8,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "youtube_dnn": {
        "embedding_dim": 8,
        "output_dim": 8,
        "hidden_dims": (16,),
        "embedding_dropout": 0.0,
    },
}
"""Settings that suit so small a log, where the defaults do not."""
TRAINING = TrainingConfig.of(epochs=12, batch_size=16, negative_count=16, device="cpu")


def checkerboard() -> Dataset:
    """Every query has all items of its colour but one, each another order; the test is one of
    them. Query row 17 is new: one event only."""
    logs = []
    for query in range(1, 2 * SIDE + 1):
        colour = [item for item in range(1, 2 * SIDE + 1) if item % 2 == query % 2]
        turned = np.roll(colour, query // 2).tolist()
        logs.append(turned[:-1])
    logs.append([1])
    return tiny_dataset(logs, item_count=2 * SIDE + 1)


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_last_out_by_hand(checkerboard())


def fitted(name: str, split: Split) -> Model:
    """The model, fitted on training and validation."""
    return fitted_on(name, split.train_and_validation)


def fitted_on(name: str, log: Log) -> Model:
    model = MODELS[name](**SETTINGS.get(name, {}))
    return fit(model, log, training=TRAINING, progress=False)


@pytest.fixture(scope="module", params=MODELS)
def model(request, split: Split) -> Model:
    return fitted(request.param, split)


def test_the_target_comes_first_among_unseen_items(model: Model, split: Split):
    """Two items of the query's colour are unseen, the target and one more: ranks 1 or 2, where the
    other colour has none before them. Popularity cannot know: all items are equally popular."""
    ranking = rank_targets(model, split.test, split.test.queries(), progress=False)
    if model.name == "popularity":
        assert ranking.ranks.mean() == pytest.approx(5.5, abs=1)
    else:
        assert set(ranking.ranks.tolist()) <= {1.0, 1.5, 2.0}


def test_scores_are_one_row_per_query_and_one_column_per_item(model: Model, split: Split):
    batch = split.test.requests(np.array([3, 1, 3]))
    scores = model.score(batch)
    assert scores.shape == (3, 2 * SIDE + 1)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert scores[0].tolist() == pytest.approx(scores[2].tolist())


def test_a_query_scores_the_same_in_any_batch(model: Model, split: Split):
    rows = split.test.queries()
    together = model.score(split.test.requests(rows))
    alone = model.score(split.test.requests(rows[4:5]))
    assert together[4] == pytest.approx(alone[0], rel=1e-5, abs=1e-6)


def test_an_unknown_query_without_history_has_scores(model: Model):
    batch = checkerboard().everything().requests(np.array([0]))
    assert len(batch.history.values) == 0
    assert np.isfinite(model.score(batch)).all()


def test_an_empty_batch_has_no_scores(model: Model, split: Split):
    batch = split.test.requests(np.empty(0, dtype=np.int64))
    assert model.score(batch).shape == (0, 2 * SIDE + 1)


def test_it_is_the_same_after_a_round_trip(model: Model, split: Split):
    assert model.fitted
    assert model.space is not None
    state = {name: np.array(values) for name, values in model.state().items()}
    space = FeatureSpace.from_dict(model.space.to_dict())
    again = type(model).from_state(model.config.model_dump(mode="json"), space, state)
    batch: QueryBatch = split.test.requests(split.test.queries())
    assert again.fitted
    assert again.space == model.space
    assert again.config == model.config
    assert np.array_equal(again.score(batch), model.score(batch))


def test_vectors_give_the_scores(model: Model, split: Split):
    if isinstance(model, VectorModel):
        batch = split.test.requests(split.test.queries())
        assert model.encode_items().shape[0] == 2 * SIDE + 1
        products = model.encode_queries(batch) @ model.encode_items().T
        best = products if products.ndim == 2 else products.max(axis=1)
        assert best == pytest.approx(model.score(batch))


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_bundle_from_disk_serves_what_the_model_scores(
    model: Model, split: Split, kind: str, tmp_path: Path
):
    if not isinstance(model, VectorModel):
        pytest.skip("has no vectors for an index")
    log = split.train_and_validation
    Bundle.build(model, log, index=IndexConfig(kind=kind), progress=False).save(tmp_path / "bundle")
    served = Bundle.load(tmp_path / "bundle").recommend([f"q{row}" for row in range(1, 17)], n=2)
    batch = split.test.requests(np.arange(1, 17))
    scores = model.score(batch)
    scores[:, 0] = -np.inf
    scores[batch.history.row_of_value(), batch.history.values] = -np.inf
    best = np.sort(scores, axis=1)[:, :-3:-1]
    assert served["score"].to_numpy().reshape(16, 2) == pytest.approx(best, rel=1e-5, abs=1e-6)
    items = served["item_id"].str.slice(1).cast(int).to_numpy().reshape(16, 2)
    assert np.take_along_axis(scores, items, axis=1) == pytest.approx(best, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_log_gives_the_same_model(name: str, split: Split):
    one, other = fitted(name, split).state(), fitted(name, split).state()
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", MODELS)
def test_only_target_events_are_learned_from(name: str, split: Split):
    """Test events that follow in the same dataset change nothing."""
    log = split.train
    queries = log.dataset.offsets[:-1]
    cut = tiny_dataset(
        [log.dataset.items[a:b].tolist() for a, b in zip(queries, log.end, strict=True)][1:],
        item_count=2 * SIDE + 1,
    )
    one, other = fitted_on(name, log).state(), fitted_on(name, cut.everything()).state()
    assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", MODELS)
def test_before_the_fit_there_is_a_clear_error(name: str, split: Split):
    model = MODELS[name]()
    assert not model.fitted
    with pytest.raises(NotFittedError, match=f"{name} was not trained"):
        model.score(split.test.requests(np.array([1])))
    with pytest.raises(NotFittedError, match=f"{name} was not trained"):
        model.state()


@pytest.mark.parametrize("name", MODELS)
def test_an_unknown_setting_is_named(name: str):
    with pytest.raises(ConfigError, match="colour: no such setting"):
        MODELS[name](colour="red")


@pytest.mark.parametrize("name", MODELS)
def test_the_name_is_the_file_s(name: str):
    assert MODELS[name].name == name
    assert MODELS[name].__module__ == f"dualtower.models.{name}"


def test_a_log_is_a_view(split: Split):
    """The checkerboard is what the tests above think it is."""
    log: Log = split.test
    assert log.event_count == 2 * SIDE
    history = log.requests(np.array([1])).history.values
    assert set((history % 2).tolist()) == {1}
    assert len(history) == SIDE - 2
