"""DAT: the label leak is there with learned vectors and not with leave-out ones; exact sums."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import dualtower as dt
from dualtower.config import TrainingConfig
from dualtower.data.columns import FeatureColumn, FeatureSpace, QueryBatch, take_ranges
from dualtower.data.dataset import Dataset
from dualtower.models.augmented import Augmented, Learned, LeaveOut
from dualtower.models.dat import DAT
from dualtower.models.network import Network
from dualtower.schema import Feature, FeatureKind
from tests.helpers import tiny_dataset

SMALL: dict[str, Any] = {
    "embedding_dim": 8,
    "output_dim": 8,
    "augmented_dim": 8,
    "hidden_dims": (16,),
    "embedding_dropout": 0.0,
    "id_dropout": 0.0,
}


def random_pairs() -> Dataset:
    """960 queries, each told apart by a random vector, with one item each, dealt out at random.

    Which item a query has cannot be known from anything but the event itself. The items have no
    input of their own (a constant feature): all that tells them apart is their augmented vector.
    """
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(961, 16)).astype(np.float32)
    constant = np.ones(241, dtype=np.float32)
    return tiny_dataset(
        [[item] for item in rng.permutation(np.repeat(np.arange(1, 241), 4)).tolist()],
        item_count=241,
        query_features={
            "vector": FeatureColumn(Feature(name="vector", kind=FeatureKind.VECTOR), vectors)
        },
        item_features={
            "constant": FeatureColumn(Feature(name="constant", kind=FeatureKind.NUMERIC), constant)
        },
    )


class Leaky(DAT):
    """Leave-out that leaves nothing out."""

    def _augmented(self, space: FeatureSpace) -> Augmented | None:
        augmented = super()._augmented(space)
        assert isinstance(augmented, LeaveOut)
        leaving_out = augmented.item
        augmented.item = lambda items, fold: leaving_out(items, None)  # type: ignore[method-assign]
        return augmented


def last_loss(kind: type[DAT], **settings: Any) -> float:
    model = kind(
        **{
            **SMALL,
            "item_id": False,
            "history": False,
            "augmented_query": False,
            "output_dim": 16,
            "augmented_dim": 16,
            **settings,
        }
    )
    training = TrainingConfig.of(
        epochs=10, batch_size=64, negatives="shared", negative_count=1000, temperature=0.1
    )
    dt.fit(model, random_pairs().everything(), training=training, progress=False)
    assert model.record is not None
    return model.record.epochs[-1].loss


def test_the_planted_leak():
    """A loss below log 240, that of guessing among the 240 items, has read the answer."""
    guessing = math.log(240)
    honest = last_loss(DAT)
    leaky = last_loss(Leaky)
    learned = last_loss(DAT, augmented="learned", lambda_v=0.1)
    assert honest > 0.97 * guessing
    assert leaky < 0.96 * guessing
    assert learned < 0.9 * guessing


def walks() -> Dataset:
    rng = np.random.default_rng(1)
    return tiny_dataset(
        [(rng.integers(20) + np.arange(length)).tolist() for length in (3, 9, 12, 7, 2, 12)],
        item_count=40,
    )


def shifted(dataset: Dataset) -> Dataset:
    """The same with item rows from 1."""
    return tiny_dataset(
        [
            (dataset.items[a:b] + 1).tolist()
            for a, b in zip(dataset.offsets[1:-1], dataset.offsets[2:], strict=True)
        ],
        item_count=41,
    )


def fitted(**settings: Any) -> tuple[DAT, Dataset]:
    dataset = shifted(walks())
    model = DAT(**{**SMALL, "history_length": 4, **settings})
    training = TrainingConfig.of(epochs=4, batch_size=16, negative_count=16)
    dt.fit(model, dataset.everything(), training=training, progress=False)
    return model, dataset


def requests_before_each_event(dataset: Dataset) -> QueryBatch:
    """For every event, its query as it stood before."""
    queries = np.repeat(np.arange(dataset.query_count), np.diff(dataset.offsets))
    start, events = dataset.offsets[queries], np.arange(dataset.event_count)
    return QueryBatch(queries, take_ranges(dataset.items, start, events), {}, {})


def network_of(model: DAT) -> Network:
    assert model.network is not None
    return model.network


@pytest.mark.parametrize("augmented_dim", [5, 8, 11])
def test_after_training_a_v_is_the_plain_mean_over_the_item_s_events(augmented_dim: int):
    model, dataset = fitted(augmented_query=False, augmented_dim=augmented_dim)
    augmented = network_of(model).augmented
    assert isinstance(augmented, LeaveOut)
    vectors = model.encode_queries(requests_before_each_event(dataset))
    if augmented.project.matrix is not None:
        vectors = vectors @ augmented.project.matrix.numpy()
    for item in range(1, dataset.item_count):
        events = dataset.items == item
        expected = vectors[events].mean(axis=0) if events.any() else np.zeros(augmented_dim)
        given = augmented.sums[:, item].sum(0) / augmented.counts[:, item].sum().clamp(min=1)
        assert_allclose(given.numpy(), expected, atol=1e-5)
        assert augmented.counts[:, item].sum() == events.sum()


def test_where_a_u_reads_p_v_the_two_closed_forms_nearly_agree():
    """a_v was summed with the p_v of one pass before; the p_u of a request uses those after it."""
    model, dataset = fitted()
    augmented = network_of(model).augmented
    assert isinstance(augmented, LeaveOut)
    vectors = model.encode_queries(requests_before_each_event(dataset))
    for item in np.unique(dataset.items):
        expected = vectors[dataset.items == item].mean(axis=0)
        given = (augmented.sums[:, item].sum(0) / augmented.counts[:, item].sum()).numpy()
        cosine = given @ expected / np.linalg.norm(given) / np.linalg.norm(expected)
        assert cosine > 0.9


def test_every_item_s_vector_is_that_of_its_final_a_v():
    model, _ = fitted()
    network = network_of(model)
    before = model.encode_items().copy()
    network.settle()
    assert np.array_equal(model.encode_items(), before)


@pytest.mark.parametrize(
    ("settings", "kind", "query_dim", "item_dim"),
    [
        ({}, LeaveOut, 40 + 16, 8 + 8),
        ({"augmented_query": False}, LeaveOut, 40, 8 + 8),
        ({"augmented_item": False}, LeaveOut, 40 + 16, 8),
        ({"augmented": "learned"}, Learned, 40 + 8, 8 + 8),
        ({"augmented": "none"}, type(None), 40, 8),
        ({"augmented_query": False, "augmented_item": False}, type(None), 40, 8),
        ({"augmented_dim": 3}, LeaveOut, 40 + 6, 8 + 3),
        ({"augmented": "learned", "augmented_dim": 20}, Learned, 40 + 20, 8 + 20),
    ],
)
def test_what_each_setting_feeds_the_towers(settings, kind, query_dim: int, item_dim: int):
    """History gives 5 · 8 inputs; both forms of the mechanism can be switched off by one setting.

    The output's length never depends on the augmented vectors' length.
    """
    model, _ = fitted(**settings)
    network = network_of(model)
    assert isinstance(network.augmented, kind)
    assert network.query_tower.layers[0].in_features == query_dim
    assert network.item_tower.layers[0].in_features == item_dim
    assert model.encode_items().shape == (41, 8)


def test_amm_off_is_the_two_tower_model_bit_for_bit():
    dataset = shifted(walks())
    settings = {**SMALL, "history_length": 4}
    training = TrainingConfig.of(epochs=2, batch_size=16, negative_count=16)
    models = [DAT(augmented="none", **settings), dt.TwoTower(**settings)]
    for model in models:
        dt.fit(model, dataset.everything(), training=training, progress=False)
    assert np.array_equal(models[0].encode_items(), models[1].encode_items())


def test_the_sums_behind_a_v_fade_as_configured():
    dataset = tiny_dataset([[1, 2, 3], [3, 2, 1]])
    network = DAT(augmented_fade=0.25).build(dataset.space(), {}, torch.device("cpu"))
    network.augmented.counts.fill_(8.0)
    network.augmented.fade()
    assert network.augmented.counts.unique().tolist() == [2.0]
