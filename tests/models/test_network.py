"""The network: cached items, hidden ids, and what leaves its state alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import dualtower as dt
from dualtower.config import ModelConfig
from dualtower.data.dataset import Dataset
from dualtower.models.augmented import Learned
from dualtower.models.network import Network
from dualtower.models.query_windows import QueryWindows
from tests.helpers import tiny_dataset

CPU = torch.device("cpu")


def network(dataset: Dataset, **settings: Any) -> Network:
    torch.manual_seed(0)
    sizes = {"embedding_dim": 4, "output_dim": 4, "augmented_dim": 4, "hidden_dims": (8,)}
    model = dt.DAT(ModelConfig.of("dat", **{**sizes, **settings}))
    return model.build(dataset.space(), dataset.item_features, CPU)


def logs() -> Dataset:
    return tiny_dataset([[1, 2, 3, 4], [5, 6], [7, 8, 9]])


@pytest.mark.parametrize("block", [1, 4, 100])
def test_settling_fills_the_cache_in_blocks_without_dropout(block: int):
    made = network(logs(), embedding_dropout=0.5, id_dropout=0.5)
    made.train()
    made.settle(block)
    assert made.training
    made.eval()
    rows = torch.arange(10)
    inputs = made.item_inputs(rows)
    assert_close(made.cached_inputs, inputs)
    assert_close(made.cached_vectors, made.encode_item(rows, inputs).vectors)


@pytest.mark.parametrize("training", [True, False])
def test_a_request_is_encoded_without_dropout_and_leaves_the_mode_alone(training: bool):
    made = network(logs(), embedding_dropout=0.5, id_dropout=0.5)
    made.settle()
    made.train(training)
    batch = logs().everything().requests(np.array([1, 2]))
    assert torch.equal(made.encode_batch(batch), made.encode_batch(batch))
    assert made.training == training
    assert not made.encode_batch(batch).requires_grad


def test_hidden_ids_train_the_unknown_rows():
    dataset = logs()
    settings = {"history": False, "query_id": True, "augmented": "learned", "id_dropout": 0.5}
    made = network(dataset, **settings)
    made.train()
    augmented = made.augmented
    assert isinstance(augmented, Learned)
    assert made.query_table is not None
    assert made.item_table is not None
    tables = {"items": made.item_table, "queries": made.query_table, "a_u": augmented.queries}
    before = {name: table.weight.clone() for name, table in tables.items()}
    items = torch.arange(1, 10)
    windows = QueryWindows(
        queries=torch.tensor([1, 2, 3]),
        events=torch.zeros(3, 0, dtype=torch.long),
        present=torch.zeros(3, 0, dtype=torch.bool),
        earlier=dataset.everything().requests(np.array([0, 0, 0])).history,
        window=torch.arange(3).repeat(8),
        known=torch.zeros(24, dtype=torch.long),
        query_features={},
        context={},
    )
    inputs = made.item_inputs(items)
    query = made.encode_query(windows, inputs, torch.zeros(9, 4))
    item = made.encode_item(items, inputs)
    (query.vectors.sum() + item.vectors[:, 0].sum()).backward()
    for name, table in tables.items():
        table.update(0.1)
        assert not torch.equal(table.weight[0], before[name][0]), name


def test_a_query_without_id_and_a_u_loses_both_together():
    """As a new query does: its embedding and its a_u are hidden by one draw."""
    settings = {"history": False, "query_id": True, "augmented": "learned"}
    made = network(logs(), **settings, id_dropout=0.5, embedding_dropout=0.0).train()
    augmented = made.augmented
    assert isinstance(augmented, Learned)
    assert made.query_table is not None
    fed = []
    made.query_tower.register_forward_pre_hook(lambda module, inputs: fed.append(inputs[0]))
    windows = QueryWindows(
        queries=torch.tensor([2]),
        events=torch.zeros(1, 0, dtype=torch.long),
        present=torch.zeros(1, 0, dtype=torch.bool),
        earlier=logs().everything().requests(np.array([0])).history,
        window=torch.zeros(50, dtype=torch.long),
        known=torch.zeros(50, dtype=torch.long),
        query_features={},
        context={},
    )
    made.encode_query(windows, torch.zeros(1, 4), torch.zeros(1, 4))
    ids, learned = made.query_table.weight, augmented.queries.weight
    whole = {tuple(torch.cat([ids[row], learned[row]]).tolist()) for row in (0, 2)}
    assert set(map(tuple, fed[0].tolist())) == whole


def test_dropout_is_on_embeddings_in_training_and_on_nothing_else():
    made = network(logs(), embedding_dropout=0.5)
    embedded = torch.ones(400, 5)
    made.train()
    dropped = made.drop(embedded)
    assert set(dropped.unique().tolist()) == {0, 2}
    assert abs((dropped == 0).double().mean().item() - 0.5) < 0.06
    made.eval()
    assert torch.equal(made.drop(embedded), embedded)


def test_history_dropout_leaves_whole_events_out_in_training_only():
    """A share of almost one leaves nothing of a history; in serving everything counts."""
    settings = {"augmented": "none", "embedding_dropout": 0.0, "id_dropout": 0.0}
    made = network(logs(), **settings, history_dropout=0.999999)
    inputs = made.item_inputs(torch.arange(10)).detach()
    windows = QueryWindows(
        queries=torch.tensor([1, 2]),
        events=torch.tensor([[1, 2, 3], [4, 5, 0]]),
        present=torch.tensor([[True, True, True], [True, True, False]]),
        earlier=logs().everything().requests(np.array([0, 0])).history,
        window=torch.arange(2),
        known=torch.tensor([3, 2]),
        query_features={},
        context={},
    )
    nothing = replace(windows, known=torch.zeros(2, dtype=torch.long))
    made.train()
    hidden = made.encode_query(windows, inputs, torch.zeros(10, 4)).vectors
    made.eval()
    assert_close(hidden, made.encode_query(nothing, inputs, torch.zeros(10, 4)).vectors)
    assert not torch.allclose(
        hidden, made.encode_query(windows, inputs, torch.zeros(10, 4)).vectors, atol=1e-3
    )
