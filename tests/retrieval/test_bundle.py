import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dualtower import files, models
from dualtower.config import IndexConfig
from dualtower.data import arrays
from dualtower.data.columns import FeatureColumn, Ragged
from dualtower.data.dataset import Dataset, Log
from dualtower.errors import BundleError, ConfigError, DataError, NotFittedError
from dualtower.models.base import Model
from dualtower.retrieval import bundle as bundles
from dualtower.retrieval import bundle_files
from dualtower.retrieval.bundle import Bundle
from dualtower.retrieval.requests import RequestEncoder
from dualtower.schema import Feature, FeatureKind, Schema
from tests.helpers import leave_last_out_by_hand, tiny_dataset
from tests.retrieval.vectors import SumOfHistory

# Items i1 … i5 point along the plane: i1, i2, i3 near the first axis, i4, i5 near the second.
PLANE = np.array([[0, 0], [1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-0.6, 0.8]])
LOGS = [[1], [4, 1], [], [1, 2, 3, 4, 5]]
CATEGORIES = ["tea", "tea", "cake", "cake", None]


def plane() -> tuple[Dataset, SumOfHistory]:
    dataset = tiny_dataset(LOGS, item_count=6, categories=CATEGORIES)
    return dataset, SumOfHistory.of(dataset.space(), PLANE)


@pytest.fixture
def bundle() -> Bundle:
    dataset, model = plane()
    return Bundle.build(model, dataset, fitted_on="train")


@pytest.fixture(autouse=True)
def known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "sum_of_history", SumOfHistory)


def test_recommends_unseen_items_by_score(bundle: Bundle) -> None:
    # q1 = (1, 0) has seen i1; scores of i2, i3, i4, i5 are .8, .6, 0, -.6.
    # q2 = (1, 1) has seen i4 and i1; i2 and i3 tie at 1.4, i5 has .2.
    frame = bundle.recommend(["q1", "q2"], n=3)
    assert frame.columns == ["user_id", "item_id", "score", "rank"]
    assert frame["user_id"].to_list() == ["q1"] * 3 + ["q2"] * 3
    assert frame["item_id"].to_list() == ["i2", "i3", "i4", "i2", "i3", "i5"]
    assert frame["rank"].to_list() == [1, 2, 3, 1, 2, 3]
    np.testing.assert_allclose(frame["score"], [0.8, 0.6, 0, 1.4, 1.4, 0.2], atol=1e-6)


def test_seen_items_on_request(bundle: Bundle) -> None:
    frame = bundle.recommend(["q1"], n=2, exclude_seen=False)
    assert frame["item_id"].to_list() == ["i1", "i2"]


def test_an_unknown_query_gets_what_its_history_says(bundle: Bundle) -> None:
    without = bundle.recommend(["nobody"], n=5)
    assert without["item_id"].to_list() == ["i1", "i2", "i3", "i4", "i5"]  # all tie at 0
    given = bundle.recommend(["nobody"], n=2, history=[["i4", "what?"]])
    assert given["item_id"].to_list() == ["i3", "i5"]  # .8 and .8; i4 is seen


def test_a_given_history_replaces_the_stored_one(bundle: Bundle) -> None:
    frame = bundle.recommend(["q1"], n=1, history=[["i4"]], exclude=["i3"])
    assert frame["item_id"].to_list() == ["i5"]
    none = bundle.recommend(["q1", "q2"], n=1, history=[None, []])
    assert none["item_id"].to_list() == ["i1", "i1"]


def test_a_query_that_has_seen_all_gets_nothing(bundle: Bundle) -> None:
    frame = bundle.recommend(["q4", "q1"], n=100)
    assert frame["user_id"].to_list() == ["q1"] * 4


def test_more_than_the_corpus_takes_no_memory(bundle: Bundle) -> None:
    assert bundle.recommend(["q1"], n=10**12).equals(bundle.recommend(["q1"], n=5))
    assert len(bundle.similar_items(["i1"], n=10**12)) == 4


def test_lists_may_be_numpy_arrays(bundle: Bundle) -> None:
    history = np.array([["i4", "i5"], ["i1", "i2"]])
    frame = bundle.recommend(["a", "b"], n=1, history=history)
    assert frame.equals(bundle.recommend(["a", "b"], n=1, history=history.tolist()))
    frame = bundle.recommend(["q1", "q2"], n=1, exclude=history)
    assert frame["item_id"].to_list() == ["i2", "i3"]


def test_categories(bundle: Bundle) -> None:
    assert bundle.recommend(["q1"], category="cake")["item_id"].to_list() == ["i3", "i4"]
    both = bundle.recommend(["q1"], category=["cake", "tea"])
    assert both["item_id"].to_list() == ["i2", "i3", "i4"]
    for several in ({"cake", "tea"}, np.array(["cake", "tea"]), pl.Series(["cake", "tea"])):
        assert bundle.recommend(["q1"], category=several).equals(both)
    with pytest.raises(DataError, match=r"category: 'cakes' is not one of the 2 .* cake"):
        bundle.recommend(["q1"], category="cakes")


def test_an_unknown_category_is_compared_with_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{letter} {number}" for letter in "abc" for number in range(400)]
    dataset = tiny_dataset([[1]], item_count=1_201, categories=names)
    encoder = RequestEncoder.from_log(dataset.everything())
    compared: list[str] = []

    def near(word: str, known: list[str], **_: object) -> list[str]:
        compared.extend(known)
        return known[:2]

    monkeypatch.setattr("difflib.get_close_matches", near)
    with pytest.raises(DataError, match=r"'Bx' is not one of the 1200 .* near it are b 0, b 1"):
        encoder.positions_of_categories(pl.Series(["Bx"]))
    assert len(set(compared)) == 20
    assert all(name.startswith("b") for name in compared)
    compared.clear()
    for word, first in (("C 39", "c 39"), (" 399", "a 399"), ("b 1x", "b 1")):
        with pytest.raises(DataError, match=f"near it are {first}, "):
            encoder.positions_of_categories(pl.Series([word]))
    assert len(compared) == 60


def test_of_long_categories_the_beginning_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = tiny_dataset([[1]], item_count=3, categories=["x" * 900, "tea"])
    encoder = RequestEncoder.from_log(dataset.everything())
    compared: list[str] = []

    def near(word: str, known: list[str], **_: object) -> list[str]:
        compared.extend([word, *known])
        return known

    monkeypatch.setattr("difflib.get_close_matches", near)
    with pytest.raises(DataError, match="near it are"):
        encoder.positions_of_categories(pl.Series(["y" * 1_000]))
    assert sorted(map(len, compared)) == [3, 60, 60]


def test_of_long_categories_the_whole_names_are_said() -> None:
    names = ["x" * 900 + "a", "x" * 900 + "b", "tea"]
    encoder = RequestEncoder.from_log(
        tiny_dataset([[1]], item_count=4, categories=names).everything()
    )
    with pytest.raises(DataError, match=f"near it are {names[0]}, {names[1]}$"):
        encoder.positions_of_categories(pl.Series(["x" * 61]))


def test_category_of_items_without_any() -> None:
    dataset = tiny_dataset(LOGS)
    bundle = Bundle.build(SumOfHistory.of(dataset.space(), PLANE), dataset)
    with pytest.raises(DataError, match="prepared without categories"):
        bundle.recommend(["q1"], category="cake")


def test_more_exclusions(bundle: Bundle) -> None:
    for_all = bundle.recommend(["q1", "q2"], n=1, exclude=["i2", "i2", "unknown"])
    assert for_all["item_id"].to_list() == ["i3", "i3"]
    each = bundle.recommend(["q1", "q2"], n=1, exclude=[["i2", "i3"], None])
    assert each["item_id"].to_list() == ["i4", "i2"]
    with pytest.raises(DataError, match="exclude: 1 lists for 2 queries"):
        bundle.recommend(["q1", "q2"], exclude=[["i2"]])


def test_what_all_exclude_is_copied_for_a_few_queries_at_a_time(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    take = Ragged.take

    def recorded(lists: Ragged, rows: Any) -> Ragged:
        taken.append(len(rows))
        return take(lists, rows)

    monkeypatch.setattr(bundles, "_QUERIES_AT_ONCE", 2)
    monkeypatch.setattr(Ragged, "take", recorded)
    frame = bundle.recommend(["q1"] * 9, n=1, exclude=["i2"])
    assert frame["item_id"].to_list() == ["i3"] * 9
    assert max(taken) == 2


def test_arguments_that_do_not_fit(bundle: Bundle) -> None:
    with pytest.raises(DataError, match=r"query features: none .* age; the model has none"):
        bundle.recommend(["q1"], features=pl.DataFrame({"age": [5]}))
    for n in (0, 2.0, "3"):
        with pytest.raises(ConfigError, match=f"n: {n!r} items .* a whole number, 1 or more"):
            bundle.recommend(["q1"], n=n)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'q1' is one value; give a list"):
        bundle.recommend("q1")
    with pytest.raises(DataError, match="not all of one type"):
        bundle.recommend(["q1", 2])
    with pytest.raises(DataError, match=r"history: 1 rows .* for 2 queries"):
        bundle.recommend(["q1", "q2"], history=[["i1"]])
    with pytest.raises(DataError, match=r"history: .* one list of item ids per query"):
        bundle.recommend(["q1"], history=["i1"])


def test_no_queries_give_an_empty_frame_of_the_same_columns(bundle: Bundle) -> None:
    frame = bundle.recommend(pl.Series([], dtype=pl.String))
    assert frame.is_empty()
    assert frame.schema == bundle.recommend(["q1"]).schema


def test_similar_items(bundle: Bundle) -> None:
    frame = bundle.similar_items(["i1", "i4"], n=2)
    assert frame.columns == ["target_item_id", "item_id", "score", "rank"]
    assert frame["target_item_id"].to_list() == ["i1", "i1", "i4", "i4"]
    assert frame["item_id"].to_list() == ["i2", "i3", "i3", "i5"]
    np.testing.assert_allclose(frame["score"], [0.8, 0.6, 0.8, 0.8], atol=1e-6)
    with pytest.raises(DataError, match="item_id: 'i9' is unknown"):
        bundle.similar_items(["i1", "i9"])
    with pytest.raises(ConfigError, match="n: 0"):
        bundle.similar_items(["i1"], n=0)


def test_similar_items_compare_by_cosine_whatever_the_lengths() -> None:
    dataset = tiny_dataset(LOGS)
    lengths = np.array([1, 3, 0.1, 5, 2, 1])[:, None]
    bundle = Bundle.build(SumOfHistory.of(dataset.space(), PLANE * lengths), dataset)
    assert not bundle.manifest.normalised
    frame = bundle.similar_items(["i1"], n=2)
    assert frame["item_id"].to_list() == ["i2", "i3"]
    np.testing.assert_allclose(frame["score"], [0.8, 0.6], atol=1e-6)


def test_only_the_corpus_is_recommended_and_only_events_before_the_end_are_seen() -> None:
    dataset, model = plane()
    # The view ends before q2's second event, and item 5 is not in its corpus.
    log = Log(dataset, dataset.offsets[:-1], np.array([0, 1, 2, 3, 8]), np.arange(1, 5))
    bundle = Bundle.build(model, log)
    assert bundle.recommend(["q2"], n=9)["item_id"].to_list() == ["i3", "i2", "i1"]
    assert bundle.manifest.counts.corpus == 4
    with pytest.raises(DataError, match="'i5' is not in the corpus"):
        bundle.similar_items(["i5"])


def test_histories_of_a_view_end_where_it_ends() -> None:
    dataset, model = plane()
    split = leave_last_out_by_hand(dataset)
    encoder = Bundle.build(model, split.train).encoder
    assert encoder.history.take(np.array([4])).values.tolist() == [1, 2, 3]
    encoder = Bundle.build(model, split.train_and_validation).encoder
    assert encoder.history.take(np.array([4])).values.tolist() == [1, 2, 3, 4]


def test_histories_are_written_in_blocks_and_never_copied_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "CHUNK_EVENTS", 3)
    dataset, model = plane()
    for log in (leave_last_out_by_hand(dataset).train, dataset.everything()):
        built = Bundle.build(model, log)
        assert np.shares_memory(built.encoder.history.values, dataset.items)
        built.save(tmp_path / "bundle")
        read = Bundle.load(tmp_path / "bundle")
        expected = [dataset.items[a:b].tolist() for a, b in zip(log.start, log.end, strict=True)]
        assert read.manifest.counts.events == sum(map(len, expected))
        rows = np.arange(dataset.query_count)
        for history in (built.encoder.history, read.encoder.history):
            assert [history.take(rows[[row]]).values.tolist() for row in rows] == expected


def test_ids_of_another_type_and_the_schemas_names() -> None:
    dataset = tiny_dataset(
        LOGS,
        schema=Schema(query_id="household", item_id="product"),
        query_ids=pl.Series([10, 20, 30, 40]),
        item_ids=pl.Series([100, 200, 300, 400, 500]),
    )
    bundle = Bundle.build(SumOfHistory.of(dataset.space(), PLANE), dataset)
    frame = bundle.recommend([10, 99], n=1)
    assert frame.to_dict(as_series=False) == {
        "household": [10, 99],
        "product": [200, 100],
        "score": [pytest.approx(0.8), 0.0],
        "rank": [1, 1],
    }
    assert bundle.recommend(np.array([10]), n=1)["product"].to_list() == [200]
    assert bundle.similar_items([100], n=1).columns[:2] == ["target_product", "product"]


def features_dataset() -> Dataset:
    age, hour = (Feature(name=name, kind=FeatureKind.NUMERIC) for name in ("age", "hour"))
    dataset = tiny_dataset(
        LOGS,
        schema=Schema(query_features=(age,), context_features=(hour,)),
        query_features={"age": FeatureColumn(age, np.array([0, -2, 0, 1, 0], dtype=np.float32))},
        context_features={"hour": FeatureColumn(hour, np.zeros(8, dtype=np.float32))},
    )
    dataset.numeric_scales.update({"query/age": (30.0, 10.0), "context/hour": (12.0, 6.0)})
    return dataset


def test_features_and_context_as_at_training(tmp_path: Path) -> None:
    dataset = features_dataset()
    built = Bundle.build(SumOfHistory.of(dataset.space(), PLANE), dataset)
    for bundle in (built, Bundle.load(built.save(tmp_path / "bundle") and tmp_path / "bundle")):
        # q1's stored age is -2 deviations: its vector is (1, 0) + (-2, 0).
        assert bundle.recommend(["q1"], n=1)["item_id"].to_list() == ["i5"]
        # 50 is two deviations above 30.
        older = bundle.recommend(["q1"], n=1, features=pl.DataFrame({"age": [50]}))
        assert older["score"].to_list() == pytest.approx([2.4])
        # hour 30 is three deviations above 12, and evens out the age.
        later = bundle.recommend(["q1"], n=1, context=pl.DataFrame({"hour": [30]}))
        assert later["score"].to_list() == pytest.approx([1.6])
        unknown = bundle.recommend(["new"], n=1, features=pl.DataFrame({"age": [None]}).to_pandas())
        assert unknown["score"].to_list() == [0.0]
        with pytest.raises(DataError, match="query features: 2 rows for 1 queries"):
            bundle.recommend(["q1"], features=pl.DataFrame({"age": [1, 2]}))
        with pytest.raises(DataError, match=r"context features: none .* minute; they are hour"):
            bundle.recommend(["q1"], context=pl.DataFrame({"minute": [5]}))
        with pytest.raises(DataError, match="age"):
            bundle.recommend(["q1"], features=pl.DataFrame({"age": ["old"]}))


def test_two_interests_are_merged_by_their_best() -> None:
    dataset = tiny_dataset(LOGS)
    bundle = Bundle.build(SumOfHistory.of(dataset.space(), PLANE, interests=2), dataset)
    # q2's interests are (1, 1) and (1, 0); i2: 1.4, i3: 1.4, i5: .2.
    frame = bundle.recommend(["q2"], n=3)
    np.testing.assert_allclose(frame["score"], [1.4, 1.4, 0.2], atol=1e-6)
    assert frame["item_id"].to_list() == ["i2", "i3", "i5"]


class Floor(Model):
    name = "floor"
    config = SumOfHistory().config
    fitted = True
    score = state = from_state = None  # type: ignore[assignment]


def test_models_that_cannot_be_served() -> None:
    dataset, model = plane()
    with pytest.raises(ConfigError, match="'floor' has no vectors"):
        Bundle.build(Floor(), dataset)
    with pytest.raises(NotFittedError, match="'sum_of_history' is not trained"):
        Bundle.build(SumOfHistory(), dataset)
    with pytest.raises(ConfigError, match="fitted for another dataset"):
        Bundle.build(model, tiny_dataset([[1]]))
    vectors = PLANE.copy()
    vectors[2, 1] = np.nan
    with pytest.raises(DataError, match=r"item vectors: row 1 .* NaN"):
        Bundle.build(SumOfHistory.of(dataset.space(), vectors), dataset)


def test_what_is_loaded_recommends_the_same(tmp_path: Path, bundle: Bundle) -> None:
    assert bundle.save(tmp_path / "bundle") is bundle
    loaded = Bundle.load(tmp_path / "bundle")
    ids = ["q1", "q2", "q3", "q4", "new"]
    assert loaded.recommend(ids, n=3).equals(bundle.recommend(ids, n=3))
    assert loaded.recommend(ids, category="cake").equals(bundle.recommend(ids, category="cake"))
    assert loaded.similar_items(["i2"]).equals(bundle.similar_items(["i2"]))
    assert loaded.manifest == bundle.manifest
    assert loaded.describe() == bundle.describe()


def test_what_a_bundle_says_of_itself(bundle: Bundle) -> None:
    facts = bundle.describe()
    assert facts["model"] == "sum_of_history"
    assert facts["fitted_on"] == "train"
    assert facts["normalised"] is True
    assert facts["counts"] == {
        "queries": 4,
        "items": 5,
        "categories": 2,
        "corpus": 5,
        "events": 8,
    }
    assert facts["index"]["kind"] == "flat"
    assert facts["index"]["recall_mean"] == facts["index"]["recall_first_percentile"] == 1
    assert "torch" in facts["versions"]
    json.dumps(facts)


def test_the_fingerprint_tells_logs_apart() -> None:
    def fingerprint(logs: list[list[int]], **ids: pl.Series) -> str:
        dataset = tiny_dataset(logs, item_count=6, **ids)
        model = SumOfHistory.of(dataset.space(), PLANE)
        return Bundle.build(model, dataset).manifest.dataset.fingerprint

    first = fingerprint(LOGS)
    assert first == fingerprint(LOGS)
    assert first != fingerprint([[1], [1, 4], [], [1, 2, 3, 4, 5]])
    assert first != fingerprint(LOGS, item_ids=pl.Series(["i1", "i2", "i3", "i5", "i4"]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every kind of file."""
    path = tmp_path_factory.mktemp("saved") / "bundle"
    tags = Feature(name="tags", kind=FeatureKind.MULTI_VALUED)
    dataset = tiny_dataset(
        LOGS,
        categories=CATEGORIES,
        schema=Schema(query_features=(tags,)),
        query_features={
            "tags": FeatureColumn(tags, np.array([1], np.int32), np.array([0, 0, 1, 1, 1, 1]))
        },
        feature_vocabularies={"query/tags": tiny_dataset([[1]]).query_vocabulary},
    )
    model = SumOfHistory.of(dataset.space(), PLANE)
    manual = Bundle.build(SumOfHistory.of(tiny_dataset(LOGS).space(), PLANE), tiny_dataset(LOGS))
    encoder = type(manual.encoder).from_log(dataset.everything())
    manifest = manual.manifest.model_copy(
        update={
            "columns": dataset.schema,
            "space": dataset.space(),
            "feature_vocabularies": ("query/tags",),
        }
    )
    Bundle(manifest, model, encoder, manual.retriever).save(path)
    return path


FILES = (
    "category_vocabulary.parquet",
    "corpus.npy",
    "feature_vocabulary_0.parquet",
    "history_items.npy",
    "history_offsets.npy",
    "item_categories.npy",
    "item_vocabulary.parquet",
    "items.safetensors",
    "manifest.json",
    "manifest.json.sha256",
    "model.safetensors",
    "query_feature_0_offsets.npy",
    "query_feature_0_values.npy",
    "query_vocabulary.parquet",
)


def test_the_files_of_a_bundle(saved: Path) -> None:
    assert tuple(sorted(file.name for file in saved.iterdir())) == FILES
    assert isinstance(Bundle.load(saved).encoder.history.values, np.memmap)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_by_name(saved: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(saved, copy)
    whole = (copy / name).read_bytes()
    for place in {0, len(whole) // 2, len(whole) - 1}:
        flipped = bytearray(whole)
        flipped[place] ^= 0x10
        (copy / name).write_bytes(flipped)
        with pytest.raises(BundleError, match=rf"{name.removesuffix('.sha256')}: damaged"):
            Bundle.load(copy)
    for damaged in (whole[: len(whole) // 2], b"", whole[:-1], whole + b"\n"):
        (copy / name).write_bytes(damaged)
        with pytest.raises(BundleError, match=rf"{name.removesuffix('.sha256')}: damaged"):
            Bundle.load(copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=r"missing"):
        Bundle.load(copy)


def rewrite_manifest(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    content.pop("files")
    files.write_manifest(folder, {**content, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, r"says 'dualtower-bundle' version 2; .* reads .* version 1"),
        ({"format": "dualtower-dataset"}, r"says 'dualtower-dataset'"),
        ({"model": "perceptron"}, r"the model 'perceptron', which this dualtower does not have"),
        ({"model": 3}, r"do not make a bundle .*model"),
        ({"surprise": 1}, r"do not make a bundle .*surprise"),
        ({"space": {}}, r"do not make a bundle"),
        ({"feature_vocabularies": ["query/tags", "query/more"]}, r"do not make a bundle"),
    ],
)
def test_a_manifest_of_another_kind(
    saved: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(saved, copy)
    rewrite_manifest(copy, **changes)
    with pytest.raises(BundleError, match=f"(?s){message}"):
        Bundle.load(copy)


def test_a_manifest_that_is_none(saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(saved, copy)
    for text in ("{", "[1]", "3"):
        (copy / "manifest.json").write_text(text)
        (copy / "manifest.json.sha256").write_text(files.sha256(copy / "manifest.json") + "\n")
        with pytest.raises(BundleError, match=r"manifest\.json: not a manifest"):
            Bundle.load(copy)


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        Bundle.load(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Bundle.load(tmp_path)


def test_a_save_that_fails_leaves_the_old_bundle(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bundle"
    bundle.save(path)
    dataset, model = plane()
    newer = Bundle.build(model, dataset, fitted_on="all")

    def fails(*arguments: object) -> None:
        raise OSError("no space left")

    for name in ("write_weights", "write_encoder", "write_manifest"):
        with monkeypatch.context() as patched:
            patched.setattr(f"dualtower.retrieval.bundle.{name}", fails)
            with pytest.raises(OSError, match="no space left"):
                newer.save(path)
        assert Bundle.load(path).manifest.fitted_on == "train"
        assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]
    newer.save(path)
    assert Bundle.load(path).manifest.fitted_on == "all"


def test_a_loaded_bundle_outlives_its_replacement(tmp_path: Path, bundle: Bundle) -> None:
    path = tmp_path / "bundle"
    loaded = Bundle.load(bundle.save(path) and path)
    dataset, model = plane()
    Bundle.build(model, dataset).save(path)
    assert loaded.recommend(["q1"], n=1)["item_id"].to_list() == ["i2"]


def test_saving_twice_writes_the_same_bytes(tmp_path: Path, bundle: Bundle) -> None:
    bundle.save(tmp_path / "one")
    Bundle.load(tmp_path / "one").save(tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_every_index_kind_survives_a_save(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    dataset = tiny_dataset([[row] for row in range(1, 3_000)], item_count=3_001)
    vectors = generator.normal(size=(3_001, 8))
    model = SumOfHistory.of(dataset.space(), vectors)
    ids = dataset.query_vocabulary.values.head(50)
    for kind in ("flat", "ivf", "hnsw", "compressed"):
        built = Bundle.build(
            model, dataset, index=IndexConfig(kind=kind, recall_queries=50, recall_at=10)
        )
        assert built.manifest.index.kind == kind
        assert built.manifest.index.recall_queries == 50
        assert built.manifest.index.recall_mean >= 0.99
        loaded = Bundle.load(built.save(tmp_path / kind) and tmp_path / kind)
        assert loaded.index.effort == built.index.effort
        assert loaded.recommend(ids, n=10).equals(built.recommend(ids, n=10))


def test_weights_are_kept_exactly(tmp_path: Path) -> None:
    kinds = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
    state = {
        "a": np.arange(6, dtype=np.int64).reshape(2, 3).T,
        "b": np.zeros((0, 4), np.float16),
        **{kind: np.array([[0, 1, 3]], dtype=kind) for kind in kinds},
        "one": np.array(7, dtype=np.int32),
    }
    bundle_files.write_weights(tmp_path, state, PLANE.astype(np.float32))
    with bundle_files.read_weights(tmp_path) as (read, vectors):
        assert read["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
    # What was kept is still there after its pages were let go of.
    assert read.keys() == state.keys()
    for name, array in state.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    np.testing.assert_array_equal(vectors, PLANE.astype(np.float32))
