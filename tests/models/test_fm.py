"""FM: the separated score against Rendle's double sum, its gradients, and the index."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import dualtower as dt
from dualtower.data.columns import FeatureColumn, QueryBatch
from dualtower.data.dataset import Dataset
from dualtower.data.vocabulary import Vocabulary
from dualtower.errors import ConfigError
from dualtower.models.fm import FM, FactorizationNetwork
from dualtower.models.query_windows import latest_windows
from dualtower.models.table import EmbeddingTable
from dualtower.schema import Feature, FeatureKind
from tests.helpers import asked, tiny_dataset
from tests.training.runs import small_split

CPU = torch.device("cpu")
ITEMS = 9
HISTORIES = [[1, 2, 3], [8], [], [4, 4, 5, 6, 7, 4]]
LENGTH = 4
"""Only so many of the latest events are in the bag."""


def random_features(rows: int, seed: int) -> dict[str, FeatureColumn]:
    """One of every kind, the lists of different lengths and with repeats."""
    random = np.random.default_rng(seed)

    def lists(most: int) -> tuple[np.ndarray, np.ndarray]:
        lengths = random.integers(0, 4, rows)
        values = random.integers(0, most, lengths.sum()).astype(np.int32)
        return values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def column(name: str, kind: FeatureKind, values: Any, offsets: Any = None) -> FeatureColumn:
        return FeatureColumn(Feature(name=name, kind=kind), values, offsets)

    numbers = random.normal(size=(rows, 4)).astype(np.float32)
    made = [
        column("colour", FeatureKind.CATEGORICAL, random.integers(0, 3, rows).astype(np.int32)),
        column("tags", FeatureKind.MULTI_VALUED, *lists(5)),
        column("price", FeatureKind.NUMERIC, numbers[:, 0].copy()),
        column("picture", FeatureKind.VECTOR, numbers[:, 1:].copy()),
        column("with", FeatureKind.SEQUENCE, *lists(ITEMS)),
    ]
    return {feature.feature.name: feature for feature in made}


def dataset() -> Dataset:
    events = sum(map(len, HISTORIES))
    vocabularies = {
        f"{side}/{name}": Vocabulary(pl.Series([f"{place}" for place in range(size - 1)]))
        for side in ("query", "item", "context")
        for name, size in (("colour", 3), ("tags", 5))
    }
    return tiny_dataset(
        HISTORIES,
        item_count=ITEMS,
        query_features=random_features(len(HISTORIES) + 1, 1),
        item_features=random_features(ITEMS, 2),
        context_features=random_features(events, 3),
        feature_vocabularies=vocabularies,
    )


def batch() -> QueryBatch:
    data = dataset()
    rows = np.arange(1, len(HISTORIES) + 1)
    context = {n: c.take(rows) for n, c in random_features(9, 4).items()}
    plain = tiny_dataset(HISTORIES, item_count=ITEMS)
    asking = asked(plain, HISTORIES)
    features = {name: column.take(rows) for name, column in data.query_features.items()}
    return QueryBatch(asking.rows, asking.history, features, context)


def network(**settings: Any) -> FactorizationNetwork:
    """With every weight random, also those that start at zero."""
    torch.manual_seed(0)
    given = {"output_dim": 3, "history_length": LENGTH, "query_id": True, **settings}
    data = dataset()
    made = FM(**given).build(data.space(), data.item_features, CPU)
    assert isinstance(made, FactorizationNetwork)
    with torch.no_grad():
        for value in [*made.parameters(), *(table.weight for table in made.tables())]:
            value.normal_(0, 0.7)
    made.settle()
    return made


class DoubleSum:
    """y = w0 + Σ x_a w_a + Σ_(a<b) x_a x_b ⟨v_a, v_b⟩, one feature after the other."""

    def __init__(self, made: FactorizationNetwork) -> None:
        self.leaves = {
            name: value.detach().clone().requires_grad_()
            for name, value in made.state_dict().items()
            if not name.startswith("cached")
        }

    def side(self, side: str, columns: dict[str, FeatureColumn], row: int) -> dict[Any, float]:
        """x of every feature that a row has, by (side, name, value)."""
        found: dict[Any, float] = {}
        for name, column in columns.items():
            if column.offsets is not None:
                values = column.values[column.offsets[row] : column.offsets[row + 1]].tolist()
                for value in values:
                    key = (side, name, value)
                    found[key] = found.get(key, 0.0) + 1 / len(values)
            elif name == "colour":
                found[(side, name, int(column.values[row]))] = 1.0
            else:
                for place, x in enumerate(np.atleast_1d(column.values[row]).tolist()):
                    found[(side, name, place)] = x
        return found

    def item(self, row: int) -> dict[Any, float]:
        own = {("item", "id", row): 1.0}
        return {**own, **self.side("item", dataset().item_features, row)}

    def query(self, asking: QueryBatch, row: int, *, query_id: bool) -> dict[Any, float]:
        found = {("query", "id", int(asking.rows[row])): 1.0} if query_id else {}
        found |= self.side("query", asking.features, row)
        found |= self.side("context", asking.context, row)
        latest = HISTORIES[row][-LENGTH:]
        for event in latest:  # the item's features, each a feature of the history of its own
            for key, x in self.item(event).items():
                mine = ("history", *key)
                found[mine] = found.get(mine, 0.0) + x / len(latest)
        return found

    def factors(self, key: Any) -> Tensor:
        side, name, value = key[1:] if key[0] == "history" else key
        encoder = f"{side}_encoder"
        place = ["colour", "tags", "price", "picture", "with"].index(name) if name != "id" else 0
        if name == "id":
            return self.leaves[f"{side}_table.weight"][value]
        if name == "with":
            return self.leaves["item_table.weight"][value]
        if name in ("colour", "tags"):
            return self.leaves[f"{encoder}.tables.{place}.weight"][value]
        return self.leaves[f"{encoder}.linears.{place}.weight"][:, value]

    def weight(self, key: Any) -> Tensor:
        side, name, value = key[-3:]
        if key[0] == "history" or side != "item":  # any number does: the same for all items
            return torch.tensor(float(hash(key) % 7))
        if name in ("id", "with"):
            return self.leaves["item_weights.weight"][value, 0]
        place = ["colour", "tags", "price", "picture"].index(name)
        if name in ("colour", "tags"):
            return self.leaves[f"item_encoder.weights.{place}.weight"][value, 0]
        return self.leaves[f"item_encoder.slopes.{place}.weight"][0, value]

    def score(self, query: dict[Any, float], item: dict[Any, float]) -> Tensor:
        given = [*query.items(), *item.items()]
        total = self.leaves["offset"] + torch.stack([x * self.weight(a) for a, x in given]).sum()
        for place, (first, x) in enumerate(given):
            for second, y in given[place + 1 :]:
                total = total + x * y * (self.factors(first) @ self.factors(second))
        return total

    def scores(self, asking: QueryBatch, *, query_id: bool) -> Tensor:
        return torch.stack(
            [
                torch.stack(
                    [
                        self.score(self.query(asking, row, query_id=query_id), self.item(item))
                        for item in range(1, ITEMS)
                    ]
                )
                for row in range(len(asking))
            ]
        )


def separated(made: FactorizationNetwork, asking: QueryBatch) -> Tensor:
    return made.encode_batch(asking) @ made.cached_vectors[1:].T


@pytest.mark.parametrize("query_id", [True, False])
def test_the_score_is_the_double_sum_but_for_a_constant_per_query(query_id: bool):
    made, asking = network(query_id=query_id), batch()
    with torch.no_grad():
        off = DoubleSum(made).scores(asking, query_id=query_id) - separated(made, asking)
    assert_close(off, off[:, :1].expand_as(off), rtol=1e-4, atol=1e-4)
    assert off.std(dim=0).max() > 1  # the constants do differ from query to query


def test_the_gradients_are_those_of_the_double_sum():
    made, asking = network(), batch()
    direct = DoubleSum(made)
    torch.manual_seed(1)
    shares = torch.randn(len(asking), ITEMS - 1)
    shares -= shares.mean(1, keepdim=True)  # a constant per query has no gradient
    (shares * direct.scores(asking, query_id=True)).sum().backward()

    made.train()
    made.config = made.config.model_copy(update={"id_dropout": 0.0, "embedding_dropout": 0.0})
    for module in made.modules():
        if hasattr(module, "id_dropout"):
            module.id_dropout = 0.0
    inputs = made.item_inputs(torch.arange(ITEMS))
    items = made.encode_item(torch.arange(ITEMS), inputs).vectors
    queries = made.encode_query(
        latest_windows(asking, made.config.history_length, made.device), inputs, items
    ).vectors
    (shares * (queries @ items[1:].T)).sum().backward()
    names = dict(made.named_modules())
    checked = 0
    for name, leaf in direct.leaves.items():
        module = names.get(name.removesuffix(".weight"))
        if isinstance(module, EmbeddingTable):
            module.update(0.0)
            found = module.optimizer_state()["moments"][:, : module.dim] / (1 - 0.9)
        else:
            found = made.get_parameter(name).grad
        expected = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        assert_close(found, expected, rtol=1e-3, atol=1e-3, msg=name)
        checked += bool(expected.any())
    assert checked == len(direct.leaves) - 1  # w0 is the same for all items


def test_vectors_are_the_factors_and_one_number_more():
    made = network()
    assert made.cached_vectors.shape == (ITEMS, 4)
    queries = made.encode_batch(batch())
    assert queries.shape == (len(HISTORIES), 4)
    assert queries[:, 3].tolist() == [1.0] * len(HISTORIES)
    assert FM().config.output_dim == FM().config.embedding_dim == 32


def tuned() -> FM:
    """A fitted model whose biases differ widely."""
    model = FM(output_dim=3, history_length=LENGTH)
    data = tiny_dataset(HISTORIES, item_count=ITEMS)
    torch.manual_seed(0)
    made = model.build(data.space(), {}, CPU)
    made.item_weights.weight.copy_(torch.linspace(-3, 3, ITEMS)[:, None])
    made.settle()
    return model


def test_the_index_finds_the_best_by_inner_product_with_the_bias():
    model, data = tuned(), tiny_dataset(HISTORIES, item_count=ITEMS)
    bundle = dt.Bundle.build(model, data, progress=False)
    found = bundle.recommend(["q1", "q2", "q3", "q4"], n=3)
    scores = model.score(asked(data, HISTORIES))
    for row, history in enumerate(HISTORIES):
        open_to = [item for item in range(1, ITEMS) if item not in history]
        best = sorted(open_to, key=lambda item: -scores[row, item])[:3]
        part = found.filter(pl.col("user_id") == f"q{row + 1}")
        assert part["item_id"].to_list() == [f"i{item}" for item in best]
    nobody = bundle.recommend(["nobody"], n=3)
    assert nobody["item_id"].to_list() == ["i8", "i7", "i6"]  # the biases alone


def test_biases_have_no_part_in_similar_items():
    model, data = tuned(), tiny_dataset(HISTORIES, item_count=ITEMS)
    before = dt.Bundle.build(model, data, progress=False).similar_items(["i1", "i5"], n=4)
    assert model.network is not None
    model.network.cached_vectors[:, -1] = 100 * torch.rand(ITEMS)
    after = dt.Bundle.build(model, data, progress=False).similar_items(["i1", "i5"], n=4)
    assert after.equals(before)
    factors = model.encode_items()[1:, :-1]
    unit = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    cosines = unit @ unit[0]
    order = [int(place) for place in np.argsort(-cosines) if place != 0][:4]
    assert after["item_id"].to_list()[:4] == [f"i{place + 1}" for place in order]
    assert after["score"].to_list()[:4] == pytest.approx(cosines[order].tolist(), rel=1e-5)


def test_dropout_leaves_item_vectors_whole():
    made = network(embedding_dropout=0.5, id_dropout=0.0).train()
    rows = torch.arange(ITEMS)
    inputs = made.item_inputs(rows)
    assert_close(made.encode_item(rows, inputs).vectors, made.cached_vectors)


def test_the_paper_s_preset_trains_ids_and_features_on_pairs():
    split = small_split()
    model = FM(preset="paper", output_dim=8)
    settings = dt.TrainingConfig.of("paper", epochs=1, device="cpu")
    dt.fit(model, split.train, training=settings, progress=False)
    assert model.config.query_id
    assert not model.config.history
    assert np.isfinite(model.encode_items()).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"query_tower": True}, "set query_tower = false"),
        ({"item_vectors": "tower"}, 'item_vectors = "embedding"'),
        ({"normalise": True}, "normalise = false"),
        ({"history_form": "pools"}, 'history_form = "mean" or history = false'),
        ({"augmented": "learned"}, 'augmented = "none"'),
        ({"lambda_ca": 1.0}, "lambda_ca = 0"),
    ],
)
def test_what_is_no_factorization_machine_is_refused(settings: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        FM(**settings)
