"""YouTubeDNN: the mean through the tower, against the rows of its own table."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

import dualtower as dt
from dualtower.config import ModelConfig, TrainingConfig
from dualtower.errors import ConfigError
from dualtower.models.dat import DAT
from dualtower.models.youtube_dnn import YouTubeDNN
from tests.helpers import asked, tiny_dataset

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "embedding_dim": 4,
    "output_dim": 6,
    "hidden_dims": (8,),
    "history_length": 2,
    "linear_path": False,
}


def test_its_vectors_by_hand():
    dataset = tiny_dataset([[1, 2, 3], [2], []])
    torch.manual_seed(0)
    network = YouTubeDNN(**SMALL).build(dataset.space(), {}, CPU).eval()
    network.settle()
    assert network.item_outputs is not None
    assert torch.equal(network.cached_vectors, network.item_outputs.weight)
    table = network.item_table.weight
    means = torch.stack([(table[2] + table[3]) / 2, table[2], torch.zeros(4)])
    first, second = network.query_tower.layers
    hidden = (means @ first.weight.T + first.bias).clamp(min=0)
    expected = hidden @ second.weight.T + second.bias
    batch = asked(dataset, [[1, 2, 3], [2], []])
    assert_close(network.encode_batch(batch), expected)


def test_its_softmax_may_share_the_embedding_that_the_history_reads():
    dataset = tiny_dataset([[1, 2, 3], [2]])
    settings = {**SMALL, "output_dim": 4, "item_vectors": "embedding"}
    network = YouTubeDNN(**settings).build(dataset.space(), {}, CPU).eval()
    network.settle()
    assert network.item_outputs is None
    assert torch.equal(network.cached_vectors, network.item_table.weight)


def test_hidden_ids_train_the_unknown_s_row_of_the_softmax():
    dataset = tiny_dataset([[1, 2, 3], [2]])
    network = YouTubeDNN(**SMALL, id_dropout=0.5).build(dataset.space(), {}, CPU).train()
    before = network.item_outputs.weight[0].clone()
    rows = torch.arange(1, 4).repeat(8)
    network.encode_item(rows, network.item_inputs(rows)).vectors.sum().backward()
    network.item_outputs.update(0.1)
    assert not torch.equal(network.item_outputs.weight[0], before)


def test_an_item_without_events_is_the_unknown_one_in_a_history():
    """It is a negative of the softmax, whose table is another than the one the history reads."""
    logs = [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3]]
    model = YouTubeDNN(**SMALL)
    training = TrainingConfig.of(epochs=2, negative_count=8, device="cpu")
    dt.fit(model, tiny_dataset(logs, item_count=7).everything(), training=training, progress=False)
    assert model.network is not None
    assert model.network.item_table is not None
    table = model.network.item_table.weight
    assert torch.equal(table[5:], table[[0, 0]])
    assert not torch.equal(table[1], table[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"history": False}, 'set history = true, history_form = "mean"'),
        ({"history_form": "attention"}, 'history_form = "mean"'),
        ({"query_tower": False}, "query_tower = true"),
        ({"item_vectors": "tower"}, 'no item tower; set item_vectors = "table"'),
        ({"augmented": "learned"}, 'set augmented = "none"'),
        ({"lambda_ca": 0.1}, "lambda_ca = 0"),
    ],
)
def test_what_makes_another_model_is_refused(settings: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        YouTubeDNN(**settings)


@pytest.mark.parametrize("vectors", ["embedding", "table"])
def test_an_augmented_item_vector_needs_an_item_tower(vectors: str):
    config = ModelConfig.of("dat", item_vectors=vectors)
    with pytest.raises(ConfigError, match="no item tower that could read a_v; set augmented_item"):
        DAT(config).build(tiny_dataset([[1, 2]]).space(), {}, CPU)
