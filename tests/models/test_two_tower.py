"""Two-tower: settings, requests, and the round trip through its state."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import dualtower as dt
from dualtower.config import ModelConfig, TrainingConfig
from dualtower.data.columns import FeatureColumn, FeatureSpace, FeatureSpec, QueryBatch, Ragged
from dualtower.data.dataset import Dataset
from dualtower.data.vocabulary import Vocabulary
from dualtower.errors import ConfigError, NotFittedError
from dualtower.models import MODELS
from dualtower.models.dat import DAT
from dualtower.models.two_tower import TwoTower
from dualtower.schema import Feature, FeatureKind
from tests.helpers import tiny_dataset

SMALL: dict[str, Any] = {
    "embedding_dim": 4,
    "output_dim": 6,
    "hidden_dims": (8,),
    "history_length": 3,
}


def featured_dataset() -> Dataset:
    """Every kind of feature on every side, for five items and four queries."""
    rng = np.random.default_rng(0)
    logs = [[1, 2, 3, 4, 5, 1], [2, 3], [5, 4, 3, 2], [1]]

    def columns(rows: int) -> dict[str, FeatureColumn]:
        def column(name: str, kind: FeatureKind, values: Any, offsets: Any = None):
            return FeatureColumn(Feature(name=name, kind=kind), values, offsets)

        offsets = np.arange(rows + 1, dtype=np.int64) * 2
        lists = rng.integers(0, 3, 2 * rows).astype(np.int32)
        return {
            "type": column("type", FeatureKind.CATEGORICAL, lists[:rows]),
            "tags": column("tags", FeatureKind.MULTI_VALUED, lists, offsets),
            "price": column("price", FeatureKind.NUMERIC, rng.normal(size=rows).astype("f4")),
            "view": column("view", FeatureKind.VECTOR, rng.normal(size=(rows, 3)).astype("f4")),
            "with": column("with", FeatureKind.SEQUENCE, lists * 2, offsets),
        }

    names = pl.Series(["a", "b"])
    return tiny_dataset(
        logs,
        query_features=columns(5),
        item_features=columns(6),
        context_features=columns(13),
        feature_vocabularies={
            f"{side}/{name}": Vocabulary(names)
            for side in ("query", "item", "context")
            for name in ("type", "tags")
        },
    )


def trained(kind: type[TwoTower], dataset: Dataset, **settings: Any) -> TwoTower:
    model = kind(**{**SMALL, **settings})
    training = TrainingConfig.of(epochs=2, batch_size=4, negative_count=4)
    return dt.fit(model, dataset.everything(), training=training, progress=False)


@pytest.mark.parametrize("kind", [TwoTower, DAT])
@pytest.mark.parametrize("combine", ["sum", "concatenate"])
@pytest.mark.parametrize("query_id", [True, False])
def test_a_round_trip_gives_the_same_vectors(kind: type[TwoTower], combine: str, query_id: bool):
    dataset = featured_dataset()
    model = trained(kind, dataset, combine=combine, query_id=query_id)
    assert model.space is not None
    state = {name: array.copy() for name, array in model.state().items()}
    space = FeatureSpace.from_dict(model.space.to_dict())
    again = kind.from_state(model.config.model_dump(mode="json"), space, state)
    batch = dataset.everything().requests(np.array([1, 2, 3, 4]))
    assert np.array_equal(again.encode_queries(batch), model.encode_queries(batch))
    assert np.array_equal(again.encode_items(), model.encode_items())
    assert again.config == model.config


def test_learned_vectors_and_projections_make_the_round_trip_too():
    dataset = featured_dataset()
    model = trained(DAT, dataset, augmented="learned", augmented_dim=3)
    assert model.space is not None
    again = DAT.from_state(model.config.model_dump(), model.space, model.state())
    batch = dataset.everything().requests(np.array([4, 1]))
    assert np.array_equal(again.score(batch), model.score(batch))


@pytest.mark.parametrize("name", ["type", "tags", "price", "view", "with"])
@pytest.mark.parametrize("side", ["features", "context"])
def test_every_feature_of_query_and_context_reaches_the_query_vector(name: str, side: str):
    dataset = featured_dataset()
    model = trained(TwoTower, dataset, embedding_dropout=0.0)
    batch = dataset.everything().requests(np.array([1, 2]))
    columns = dict(getattr(batch, side))
    other = {"type": 2, "tags": 2, "price": 3.0, "view": -2.0, "with": 5}[name]
    values = np.full_like(columns[name].values, other)
    columns[name] = FeatureColumn(columns[name].feature, values, columns[name].offsets)
    changed = QueryBatch(**{**vars(batch), side: columns})
    assert not np.allclose(model.encode_queries(changed), model.encode_queries(batch))


def test_vectors_have_unit_length():
    dataset = featured_dataset()
    model = trained(DAT, dataset)
    batch = dataset.everything().requests(np.array([1, 2, 3, 4]))
    for vectors in (model.encode_queries(batch), model.encode_items()):
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", [TwoTower, DAT])
def test_a_request_is_encoded_alike_alone_among_many_and_in_blocks(
    kind: type[TwoTower], monkeypatch: pytest.MonkeyPatch
):
    model = trained(kind, dataset := tiny_dataset([[1, 2, 3, 4, 5, 1, 2], [2, 3], [4]]))
    batch = dataset.everything().requests(np.array([1, 2, 3, 0]))
    histories = [[1, 2, 3, 4, 5, 1, 2], [], [4], [2, 2, 2, 5]]
    batch = QueryBatch(
        batch.rows,
        Ragged(
            np.array([item for past in histories for item in past], dtype=np.int32),
            np.cumsum([0, *map(len, histories)]).astype(np.int64),
        ),
        {},
        {},
    )
    together = model.encode_queries(batch)
    for row in range(4):
        alone = model.encode_queries(batch.take(np.array([row])))
        assert alone[0] == pytest.approx(together[row], abs=1e-6)
    monkeypatch.setattr("dualtower.models.trained._ENCODE_BLOCK", 3)
    assert model.encode_queries(batch) == pytest.approx(together, abs=1e-6)


def test_only_the_latest_events_reach_a_two_tower_model_and_all_reach_dat():
    dataset = tiny_dataset([[1, 2, 3, 4, 5, 1, 2], [2, 3], [4]])
    long, short = ([5, 5, 1, 2, 3], [1, 2, 3])
    batches = [
        QueryBatch(
            np.array([0]),
            Ragged(np.array(events, dtype=np.int32), np.array([0, len(events)])),
            {},
            {},
        )
        for events in (long, short)
    ]
    plain, dat = (trained(kind, dataset) for kind in (TwoTower, DAT))
    assert np.allclose(plain.encode_queries(batches[0]), plain.encode_queries(batches[1]))
    assert not np.allclose(dat.encode_queries(batches[0]), dat.encode_queries(batches[1]))


def test_the_query_id_enters_only_where_it_is_asked_for():
    dataset = tiny_dataset([[1, 2, 3], [1, 2, 3], [4]])
    batch = dataset.everything().requests(np.array([1, 2]))
    batch = QueryBatch(batch.rows, Ragged(np.array([1, 1], "i4"), np.array([0, 1, 2])), {}, {})
    for query_id in (False, True):
        vectors = trained(TwoTower, dataset, query_id=query_id).encode_queries(batch)
        assert np.allclose(vectors[0], vectors[1]) != query_id


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"item_id": False}, "the item tower has no input"),
        ({"history": False}, "the query tower has no input"),
    ],
)
def test_a_tower_without_input_is_refused(model: dict[str, bool], words: str):
    with pytest.raises(ConfigError, match=words):
        trained(TwoTower, tiny_dataset([[1, 2]]), **model)


def test_a_sequence_feature_without_item_ids_is_refused():
    spec = FeatureSpec("with", FeatureKind.SEQUENCE, 5)
    space = FeatureSpace(3, 5, 1, query_features=(spec,), item_features=(spec,))
    model = TwoTower(**SMALL, item_id=False)
    with pytest.raises(ConfigError, match="feature with uses the item embeddings; set item_id"):
        model.build(space, {}, torch.device("cpu"))


@pytest.mark.parametrize("settings", [{"augmented": "leave_out"}, {"lambda_ca": 1.0}])
def test_two_tower_refuses_what_makes_a_dat(settings: dict[str, Any]):
    with pytest.raises(ConfigError, match=r'two_tower has no augmented .*; use name = "dat"'):
        TwoTower(**settings)


def test_a_configuration_of_another_model_is_refused():
    with pytest.raises(ConfigError, match="name is 'dat', the model is 'two_tower'"):
        TwoTower(ModelConfig.of("dat"))


@pytest.mark.parametrize("name", ["dat", "two_tower"])
def test_before_the_fit_there_is_a_clear_error(name: str):
    model = MODELS[name]()
    batch = tiny_dataset([[1]]).everything().requests(np.array([1]))
    assert not model.fitted
    for use in (lambda: model.score(batch), model.state):
        with pytest.raises(NotFittedError, match=f"{name} was not trained yet"):
            use()
