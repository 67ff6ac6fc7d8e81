from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from dualtower.config import IndexConfig
from dualtower.data.columns import FeatureColumn
from dualtower.data.dataset import Dataset
from dualtower.data.vocabulary import Vocabulary
from dualtower.errors import ConfigError, DataError
from dualtower.models.dat import DAT
from dualtower.models.mind import MIND
from dualtower.models.trained import TrainedModel
from dualtower.models.two_tower import TwoTower
from dualtower.models.youtube_dnn import YouTubeDNN
from dualtower.retrieval import bundle as bundles
from dualtower.retrieval.bundle import Bundle
from dualtower.retrieval.requests import RequestEncoder
from dualtower.schema import Feature, FeatureKind, Schema
from dualtower.serving.engine import Engine
from dualtower.serving.event import Event
from dualtower.serving.ids import RowOfId
from dualtower.serving.live import LiveState
from dualtower.serving.tower import QueryTower
from tests.helpers import tiny_dataset
from tests.retrieval.vectors import SumOfHistory
from tests.serving.bundles import PLANE, plane_bundle


@pytest.fixture
def engine() -> Engine:
    return Engine(plane_bundle())


def with_new_items() -> tuple[Engine, LiveState]:
    """Two new items, `novelty` and 7, that are q2's and nearest to q1."""
    bundle = plane_bundle()
    bundle.model.encode_new_item = lambda row, total, count: np.array([2, 0], dtype=np.float32)  # type: ignore
    engine = Engine(bundle)
    live = engine.live_state()
    live.apply([Event("1", "q2", "novelty", 0), Event("2", "q2", 7, 0)])
    return engine, live


def items(answer: Any) -> list[Any]:
    return list(answer[0])


def test_recommends_unseen_items_by_score(engine: Engine) -> None:
    # q1 = (1, 0) has seen i1; scores of i2, i3, i4, i5 are .8, .6, 0, -.6.
    found, scores = engine.recommend("q1", 3)
    assert list(found) == ["i2", "i3", "i4"]
    np.testing.assert_allclose(scores, [0.8, 0.6, 0], atol=1e-6)
    assert items(engine.recommend("q2", 3)) == ["i2", "i3", "i5"]  # 1.4, 1.4 (a tie), .2
    assert items(engine.recommend("q1", 2, exclude_seen=False)) == ["i1", "i2"]
    assert items(engine.recommend("q1", 4, exclude=["i3", "i2", "what?"])) == ["i4", "i5"]
    assert items(engine.recommend("q4", 3)) == []
    assert items(engine.recommend("q1", 1000)) == ["i2", "i3", "i4", "i5"]


def test_a_history_replaces_the_stored_one(engine: Engine) -> None:
    assert items(engine.recommend("q1", 2, history=["i4", "what?"])) == ["i3", "i5"]
    assert items(engine.recommend(None, 2, history=["i4"])) == ["i3", "i5"]
    assert items(engine.recommend("nobody", 2)) == ["i1", "i2"]  # all tie at 0


def test_categories_and_quotas(engine: Engine) -> None:
    assert items(engine.recommend("q1", category="tea")) == ["i2"]
    assert items(engine.recommend("q1", category=["tea", "cake"])) == ["i2", "i3", "i4"]
    assert items(engine.recommend("q1", quota={"cake": 1, "tea": 5})) == ["i2", "i3"]
    assert items(engine.recommend("q1", category=[])) == []
    with pytest.raises(DataError, match=r"category: 'cakes' is not one of the 2 .* cake"):
        engine.recommend("q1", category="cakes")
    with pytest.raises(ConfigError, match="quota: 0 items of 'tea'"):
        engine.recommend("q1", quota={"tea": 0})
    with pytest.raises(ConfigError, match="give one of them"):
        engine.recommend("q1", quota={"tea": 1}, category="tea")
    with pytest.raises(ConfigError, match="quota: no category"):
        engine.recommend("q1", quota={})
    with pytest.raises(ConfigError, match="n: 0 items"):
        engine.recommend("q1", 0)


def test_categories_by_item(engine: Engine) -> None:
    assert engine.categories_of(["i4", "i1", "i5", "what?"]) == ["cake", "tea", None, None]
    assert engine.categories_of([]) == []


def test_categories_that_are_no_texts() -> None:
    data = tiny_dataset([[1], [2]], item_count=5, categories=["a", "b", "a", None])
    flags = replace(data, category_vocabulary=Vocabulary(pl.Series([True, False])))
    bundle = Bundle.build(SumOfHistory.of(data.space(), PLANE[:5]), flags, progress=False)
    engine = Engine(bundle)
    for given in (True, "true"):
        assert items(engine.recommend("q1", category=given)) == ["i3"]
        assert bundle.recommend(["q1"], category=given)["item_id"].to_list() == ["i3"]
    assert items(engine.recommend("q1", category=[False, "true"])) == ["i2", "i3"]
    assert items(engine.recommend("q1", quota={"true": 1, "false": 1})) == ["i2", "i3"]
    assert engine.categories_of(["i1", "i2", "i4"]) == ["true", "false", None]
    with pytest.raises(DataError, match=r"category: 'yes' is not one of the 2 .* false"):
        engine.recommend("q1", category="yes")
    days = replace(
        data, category_vocabulary=Vocabulary(pl.Series([date(2024, 5, 1), date(1, 1, 1)]))
    )
    engine = Engine(Bundle.build(SumOfHistory.of(data.space(), PLANE[:5]), days, progress=False))
    assert items(engine.recommend("q1", category="2024-05-01")) == ["i3"]
    with pytest.raises(DataError, match=r"category: 'May' is not one of the 2"):
        engine.recommend("q1", category="May")


def test_a_category_named_twice_in_a_quota_is_one() -> None:
    data = tiny_dataset([[1], [2]], item_count=6, categories=["7", "7", "7", "8", "8"])
    numbers = replace(data, category_vocabulary=Vocabulary(pl.Series([7, 8])))
    engine = Engine(Bundle.build(SumOfHistory.of(data.space(), PLANE), numbers, progress=False))
    assert engine.merged({"7": 1, "08": 2, "07": 1}) == {"7": 2, "8": 2}
    assert items(engine.recommend("q1", quota={"7": 1, "07": 1})) == ["i2", "i3"]
    assert items(engine.recommend("q1", quota={"+7": 9, "8": 1, "07": 1})) == ["i2", "i3", "i4"]
    with pytest.raises(DataError, match="category: '9' is not one of the 2"):
        engine.recommend("q1", quota={"7": 1, "9": 1})


def test_each_category_of_a_quota_is_looked_up_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Counting(RowOfId):
        def __call__(self, value: Any) -> int:
            asked.append(value)
            return super().__call__(value)

    row_of = Counting(engine.bundle.encoder.category_vocabulary)
    monkeypatch.setattr(engine._categories, "_row_of", row_of)
    assert items(engine.recommend("q1", quota={"cake": 1, "tea": 5})) == ["i2", "i3"]
    assert asked == ["cake", "tea"]


def test_an_unknown_category_is_never_another(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.zeros(0, dtype=np.int64)
    monkeypatch.setattr(RequestEncoder, "positions_of_categories", lambda *_: nothing)
    for ask in (
        lambda: engine.merged({"tea": 1, "cakes": 1}),
        lambda: engine.recommend("q1", category="cakes"),
    ):
        with pytest.raises(DataError, match="category: 'cakes' is not one of the categories"):
            ask()


def test_a_feature_that_is_true_or_false() -> None:
    schema = Schema(query_features=(Feature(name="member", kind=FeatureKind.CATEGORICAL),))
    rows = np.array([0, 1, 2], dtype=np.int32)
    data = tiny_dataset(
        [[1], [2]],
        item_count=5,
        schema=schema,
        query_features={"member": FeatureColumn(schema.query_features[0], rows)},
        feature_vocabularies={"query/member": Vocabulary(pl.Series([False, True]))},
    )
    engine = Engine(built(TwoTower(), data))
    scores = {
        given: engine.recommend(None, 4, features={"member": given})[1].tolist()
        for given in (True, "true", "false", "what?", None)
    }
    assert scores[True] == scores["true"] != scores["false"]
    assert scores["what?"] == scores[None]


def test_rows_of_queries(engine: Engine) -> None:
    assert [engine.row_of_query(query) for query in ("q1", "q4", "what?")] == [1, 4, 0]


def test_similar_items(engine: Engine) -> None:
    found, scores = engine.similar("i1", 2)
    assert list(found) == ["i2", "i3"]
    np.testing.assert_allclose(scores, [0.8, 0.6], atol=1e-6)
    with pytest.raises(DataError, match="'what' is unknown"):
        engine.similar("what")
    with pytest.raises(ConfigError, match="n: 0"):
        engine.similar("i1", 0)


@pytest.mark.parametrize("biased", [False, True])
def test_similar_items_of_any_lengths_are_the_bundles(
    biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(400, 8)) * random.uniform(0.1, 9, size=(400, 1))
    vectors[7] = 0
    vectors[50:90] = vectors[49]  # ties
    data = tiny_dataset([[1], [2]], item_count=400)
    model = SumOfHistory.of(data.space(), vectors)
    monkeypatch.setattr(type(model), "has_bias", biased)
    bundle = Bundle.build(model, data, progress=False)
    names = ["i1", "i7", "i49", "i70", "i399"]
    expected = {name: bundle.similar_items([name], n=60) for name in names}
    engine = Engine(bundle)
    monkeypatch.setattr(bundles, "build_index", None)  # would hold up all other answers
    for name, frame in expected.items():
        found, scores = engine.similar(name, 60)
        np.testing.assert_allclose(scores, frame["score"], atol=1e-6)
        if name != "i7":  # equally far from all
            assert list(found[:5]) == frame["item_id"].head(5).to_list()
    assert list(engine.similar("i49", 41)[0][:40]) == [f"i{row}" for row in range(50, 90)]
    assert len(engine.similar("i1", 1_000)[0]) == 398


@pytest.mark.parametrize("length", [1, 2])
def test_new_items_are_similar_and_have_similar_ones(length: float) -> None:
    bundle = plane_bundle(length * PLANE)
    assert bundle.manifest.normalised == (length == 1)
    # The new item points between i2 and i3, whatever its events.
    bundle.model.encode_new_item = lambda row, total, count: np.array([3, 3], dtype=np.float32)  # type: ignore
    engine = Engine(bundle)
    live = engine.live_state()
    assert not engine.has_vector("novelty", live)
    with pytest.raises(DataError, match="'novelty' is unknown"):
        engine.similar("novelty", live=live)
    live.apply([Event("1", "q1", "novelty", 0), Event("2", "q1", 7, 0)])
    found, scores = engine.similar("i1", 3, live=live)
    assert list(found) == ["i2", "novelty", 7]
    np.testing.assert_allclose(scores, [0.8, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-6)
    found, scores = engine.similar("7", 3, live=live)
    assert list(found) == ["novelty", "i2", "i3"]
    np.testing.assert_allclose(scores, [1, 0.7 * np.sqrt(2), 0.7 * np.sqrt(2)], atol=1e-6)
    assert list(engine.similar("i1", 2)[0]) == ["i2", "i3"]


def test_an_excluded_new_item_is_left_out() -> None:
    engine, live = with_new_items()
    assert items(engine.recommend("q1", 3, live=live)) == ["novelty", 7, "i2"]
    assert items(engine.recommend("q1", 3, live=live, exclude=["7", "i2"])) == [
        "novelty",
        "i3",
        "i4",
    ]
    assert items(engine.recommend("q2", 2, live=live)) == ["i2", "i3"]


def test_a_new_item_of_a_given_history_is_left_out() -> None:
    engine, live = with_new_items()
    given = ["i1", "novelty", "7"]
    assert items(engine.recommend(None, 2, history=given, live=live)) == ["i2", "i3"]
    seen = engine.recommend(None, 3, history=given, exclude_seen=False, live=live)
    assert items(seen) == ["novelty", 7, "i1"]


def test_an_unknown_category_is_found_among_many_known_ones(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    of_corpus = RequestEncoder.positions_of_categories

    def counted(encoder: RequestEncoder, categories: pl.Series) -> Any:
        asked.extend(categories)
        return of_corpus(encoder, categories)

    monkeypatch.setattr(RequestEncoder, "positions_of_categories", counted)
    with pytest.raises(DataError, match="category: 'x' is not one of the 2"):
        engine.recommend("q1", category=[*["tea", "cake"] * 5_000, "x"])
    assert asked == ["x"]  # each would look at the whole corpus


def test_an_event_shows_in_the_next_answer(engine: Engine) -> None:
    live = engine.live_state()
    before = items(engine.recommend("q3", 2, live=live))
    assert before == ["i1", "i2"]  # nothing known: all tie at 0
    live.apply([Event("1", "q3", "i4", 1.0)])
    assert items(engine.recommend("q3", 2, live=live)) == ["i3", "i5"]
    live.apply([Event("2", "nobody", "i1", 2.0)])
    assert items(engine.recommend("nobody", 2, live=live)) == ["i2", "i3"]
    assert items(engine.recommend("q1", 3, live=live)) == ["i2", "i3", "i4"]


SCHEMA = Schema(
    query_features=(
        Feature(name="age", kind=FeatureKind.NUMERIC),
        Feature(name="face", kind=FeatureKind.VECTOR),
    ),
    context_features=(Feature(name="hour", kind=FeatureKind.NUMERIC),),
)


def many(count: int = 600, features: bool = False) -> Dataset:
    random = np.random.default_rng(0)
    logs = [random.integers(1, count, size=length).tolist() for length in (0, 1, 3, 60, 7)]
    options: dict[str, Any] = {}
    if features:
        rows, events = len(logs) + 1, sum(map(len, logs))
        numbers = random.normal(size=(rows, 3)).astype(np.float32)
        options = {
            "schema": SCHEMA,
            "query_features": {
                "age": FeatureColumn(SCHEMA.query_features[0], numbers[:, 0]),
                "face": FeatureColumn(SCHEMA.query_features[1], numbers),
            },
            "context_features": {
                "hour": FeatureColumn(
                    SCHEMA.context_features[0], random.normal(size=events).astype(np.float32)
                )
            },
        }
    names = [f"c{row % 7}" for row in range(count - 1)]
    return tiny_dataset(logs, item_count=count, categories=names, **options)


def built(model: TrainedModel, dataset: Dataset, kind: str = "flat") -> Bundle:
    torch.manual_seed(0)
    network = model.build(dataset.space(), dataset.item_features, torch.device("cpu"))
    network.eval()
    network.settle()
    return Bundle.build(
        model, dataset, index=IndexConfig.model_validate({"kind": kind}), progress=False
    )


MODELS = [
    DAT(),
    DAT(preset="paper"),
    DAT(augmented_dim=16, normalise=False, last_relu=True, linear_path=False),
    DAT(augmented="none", query_id=True, combine="concatenate"),
    TwoTower(history_length=5, history_pools=1),
    TwoTower(history=False, query_id=True),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("features", [False, True])
def test_the_tower_equals_torch(model: TrainedModel, features: bool) -> None:
    dataset = many(features=features)
    bundle = built(type(model)(model.config), dataset)
    tower = QueryTower.of(bundle.model)
    assert tower is not None
    batch = bundle.encoder.batch_of_rows(np.arange(6))
    expected = bundle.model.encode_queries(batch)
    found = [tower.encode(batch.take(np.array([row]))) for row in range(6)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_tower_reads_what_was_added_up() -> None:
    bundle = built(DAT(history_length=5), many())
    engine = Engine(bundle)
    live = engine.live_state()
    live.apply([Event(str(place), "q4", f"i{place}", 0.0) for place in range(1, 9)])
    batch = live.batch_of("q4")
    assert batch.earlier is not None
    assert engine.tower is not None
    np.testing.assert_allclose(
        engine.tower.encode(batch), bundle.model.encode_queries(batch)[0], atol=1e-5
    )


def test_other_models_go_through_torch() -> None:
    dataset = many()
    for model in (MIND(), YouTubeDNN(), TwoTower(history_form="mean")):
        bundle = built(model, dataset)
        assert QueryTower.of(bundle.model) is None
        check_equal(bundle, "q4", 20)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "compressed"])
def test_equal_to_the_bundle(kind: str) -> None:
    bundle = built(DAT(), many(), kind)
    for query in ("q1", "q2", "q4", "nobody"):
        check_equal(bundle, query, 10)
        check_equal(bundle, query, 10, category="c3")
        check_equal(bundle, query, 10, category=["c1", "c2", "c5", "c6"])
        check_equal(bundle, query, 10, exclude=[f"i{row}" for row in range(1, 590)])
        check_equal(bundle, query, 10, exclude_seen=False)


def check_equal(bundle: Bundle, query: str, n: int, **options: Any) -> None:
    expected = bundle.recommend([query], n, **options)
    found, scores = Engine(bundle).recommend(query, n, **options)
    np.testing.assert_allclose(scores, expected["score"], atol=1e-5)
    assert len(set(found) & set(expected["item_id"])) >= len(expected) - 1


def test_features_and_context_of_a_request() -> None:
    bundle = built(TwoTower(), many(features=True))
    engine = Engine(bundle)
    given = {"features": {"age": 3.5, "face": [1, 2, 3]}, "context": {"hour": 12}}
    frames: Any = {side: pl.DataFrame([values]) for side, values in given.items()}
    expected = bundle.recommend(["q2"], 5, **frames)
    found, scores = engine.recommend("q2", 5, **given)  # type: ignore[arg-type]
    assert list(found) == expected["item_id"].to_list()
    np.testing.assert_allclose(scores, expected["score"], atol=1e-5)
    with pytest.raises(DataError, match="features: nothing in it"):
        engine.recommend("q2", features={})
    with pytest.raises(DataError, match=r"none is among the columns colour"):
        engine.recommend("q2", features={"colour": 1})
    with pytest.raises(DataError, match=r"features: a value is not of one type"):
        engine.recommend("q2", features={"face": [1, "a"]})
