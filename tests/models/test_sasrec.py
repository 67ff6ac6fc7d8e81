"""SASRec: what its vectors are, and that a request gets the vector that training gives."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from dualtower.config import ModelConfig
from dualtower.errors import ConfigError
from dualtower.models.sasrec import SASRec
from tests.helpers import asked, tiny_dataset
from tests.models.test_two_tower import featured_dataset

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"embedding_dim": 4, "output_dim": 4, "history_length": 5}


def test_the_query_vector_is_what_attention_makes_of_the_items_own_vectors():
    dataset = tiny_dataset([[1, 2, 3], [2], []])
    torch.manual_seed(0)
    network = SASRec(**SMALL).build(dataset.space(), {}, CPU).eval()
    network.settle()
    assert network.item_table is not None
    assert torch.equal(network.cached_vectors, network.item_table.weight)
    batch = asked(dataset, [[1, 2, 3], [2], []])
    vectors = network.encode_batch(batch)
    events = network.item_table.weight[torch.tensor([[1, 2, 3], [2, 0, 0]])]
    assert network.history is not None
    expected = network.history(events, torch.tensor([0, 1]), torch.tensor([3, 1]))
    assert_close(vectors[:2], expected)
    assert_close(vectors[2], network.history.nothing)


def test_cosines_where_they_are_asked_for():
    dataset = tiny_dataset([[1, 2, 3], [2]])
    network = SASRec(**SMALL, normalise=True).build(dataset.space(), {}, CPU).eval()
    network.settle()
    batch = asked(dataset, [[1, 2, 3], [2]])
    for vectors in (network.encode_batch(batch), network.cached_vectors):
        assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_features_are_added():
    dataset = featured_dataset()
    torch.manual_seed(0)
    network = SASRec(**SMALL).build(dataset.space(), dataset.item_features, CPU).eval()
    network.settle()
    batch = asked(dataset, [[1, 2, 3], [5, 4]])
    rows = torch.arange(6)
    items = network.item_encoder(dataset.item_features, network.item_table, CPU)
    assert_close(network.cached_vectors, network.item_table(rows) + items)
    events = network.cached_vectors[torch.from_numpy(batch.history.values).long()]
    lengths = torch.from_numpy(batch.history.lengths())
    padded = torch.nn.utils.rnn.pad_sequence(events.split(lengths.tolist()), batch_first=True)
    history = network.history(padded, torch.tensor([0, 1]), lengths)
    features = network.query_encoder(batch.features, network.item_table, CPU)
    context = network.context_encoder(batch.context, network.item_table, CPU)
    assert_close(network.encode_batch(batch), history + features + context)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"history": False}, 'set history = true and history_form = "attention"'),
        ({"history_form": "pools"}, 'set history = true and history_form = "attention"'),
        ({"augmented": "leave_out"}, 'no augmented vectors .* augmented = "none"'),
        ({"lambda_ca": 0.1}, "no category alignment; set .* lambda_ca = 0"),
    ],
)
def test_what_makes_another_model_is_refused(settings: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        SASRec(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"embedding_dim": 8}, "each must be output_dim = 4 long; found one of 8"),
        ({"query_id": True, "embedding_dim": 6}, "found one of 6. Set embedding_dim = 4"),
        (
            {"query_tower": True, "embedding_dim": 8},
            'item_vectors = "embedding" .* output_dim = 4 long; found 8. Set embedding_dim = 4',
        ),
    ],
)
def test_lengths_that_do_not_fit_are_refused(settings: dict[str, Any], words: str):
    model = SASRec(**{**SMALL, **settings})
    with pytest.raises(ConfigError, match=words):
        model.build(tiny_dataset([[1, 2]]).space(), {}, CPU)


def test_its_settings_can_be_taken_from_a_model_of_longer_embeddings():
    config = ModelConfig.of("dat", embedding_dim=24, output_dim=12, history_length=9)
    taken = config.for_model("sasrec")
    assert taken == ModelConfig.of("sasrec", output_dim=12, history_length=9)
    assert (taken.embedding_dim, taken.output_dim) == (12, 12)
    assert ModelConfig.of("sasrec").for_model("dat") == ModelConfig.of("dat")
