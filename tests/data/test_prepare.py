"""`prepare` against a plain-Python implementation, and every choice that it makes."""

import errno
import json
import os
import resource
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dualtower import files
from dualtower.config import DataConfig, FilterConfig, RunConfig
from dualtower.data import arrays, sorting
from dualtower.data import prepare as module
from dualtower.data.dataset import Dataset
from dualtower.data.prepare import prepare, stale_reason
from dualtower.errors import ConfigError, DataError
from dualtower.schema import Feature, FeatureKind, Schema


def random_log(rows: int, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in random.integers(0, 40, rows)],
            "item_id": random.zipf(1.5, rows) % 30,
            "timestamp": random.integers(1_700_000_000, 1_700_000_050, rows),
            "weight": random.random(rows).astype(np.float32),
            "device": random.choice(["phone", "desk"], rows),
            "tags": [random.integers(0, 5, size).tolist() for size in random.integers(0, 3, rows)],
        }
    )


def by_hand(
    log: pl.DataFrame, min_query: int, min_item: int, duplicates: str
) -> dict[Any, list[tuple[Any, ...]]]:
    """Events of each query in order: (item, time, weight, device, tags)."""
    events = defaultdict(list)
    for place, row in enumerate(log.iter_rows(named=True)):
        events[row["user_id"]].append((row["timestamp"], place, row))
    kept = []
    for query, found in events.items():
        found.sort(key=lambda event: event[:2])
        if duplicates == "last":
            found.reverse()
        seen = set()
        chosen = []
        for event in found:
            item = event[2]["item_id"]
            if duplicates == "keep" or item not in seen:
                seen.add(item)
                chosen.append(event)
        if duplicates == "last":
            chosen.reverse()
        kept += [(query, row) for _, _, row in chosen]
    while True:
        size = len(kept)
        for key, least in (("user_id", min_query), ("item_id", min_item)):
            counts: dict[Any, int] = defaultdict(int)
            for _, row in kept:
                counts[row[key]] += 1
            kept = [(query, row) for query, row in kept if counts[row[key]] >= least]
        if len(kept) == size:
            break
    logs = defaultdict(list)
    for query, row in kept:
        micros = row["timestamp"] * 1_000_000
        logs[query].append((row["item_id"], micros, row["weight"], row["device"], row["tags"]))
    return dict(logs)


def decoded(dataset: Dataset) -> dict[Any, list[tuple[Any, ...]]]:
    items = dataset.item_vocabulary.decode(dataset.items).to_list()
    device = dataset.context_features["device"]
    devices = dataset.feature_vocabularies["context/device"].decode(device.values).to_list()
    tags = dataset.context_features["tags"]
    assert tags.offsets is not None
    tag_values = dataset.feature_vocabularies["context/tags"].decode(tags.values).to_list()
    logs = {}
    for row in range(1, dataset.query_count):
        query = dataset.query_vocabulary.decode(np.array([row])).item()
        logs[query] = [
            (
                items[event],
                int(dataset.times[event]),
                float(dataset.weights[event]),
                devices[event],
                tag_values[tags.offsets[event] : tags.offsets[event + 1]],
            )
            for event in range(dataset.offsets[row], dataset.offsets[row + 1])
        ]
    return logs


SCHEMA = Schema(
    timestamp="timestamp",
    weight="weight",
    context_features=(
        Feature(name="device"),
        Feature(name="tags", kind=FeatureKind.MULTI_VALUED),
    ),
)


@pytest.mark.parametrize("chunk", [7, 100, 4_000_000])
@pytest.mark.parametrize("duplicates", ["keep", "first", "last"])
@pytest.mark.parametrize("least", [1, 4])
def test_the_dataset_is_that_of_a_plain_implementation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, duplicates: str, least: int
) -> None:
    monkeypatch.setattr(arrays, "CHUNK_EVENTS", chunk)
    monkeypatch.setattr(sorting, "CHUNK_EVENTS", chunk)
    log = random_log(600, seed=chunk)
    log.write_parquet(tmp_path / "log.parquet")
    config = RunConfig(
        data=DataConfig(
            interactions=str(tmp_path / "log.parquet"), dataset=str(tmp_path / "dataset")
        ),
        columns=SCHEMA,
        filter=FilterConfig(
            min_query_events=least,
            min_item_events=least,
            duplicates=duplicates,  # type: ignore[arg-type]
        ),
    )
    dataset = prepare(config, progress=False)
    expected = by_hand(log, least, least, duplicates)
    assert decoded(dataset) == expected
    assert list(decoded(dataset)) == sorted(expected)
    assert dataset.offsets[:2].tolist() == [0, 0]
    assert dataset.items.min() > 0
    dropped = 600 - dataset.event_count
    assert sum(dataset.source["dropped"].values()) == dropped
    assert not list((tmp_path / "dataset").glob("scratch"))
    again = Dataset.from_frames(log.to_pandas(), schema=SCHEMA, filter=config.filter)
    assert decoded(again) == expected


def test_a_csv_gives_the_same_dataset_as_a_parquet_file(tmp_path: Path) -> None:
    log = random_log(200, seed=1).drop("tags")
    log.write_csv(tmp_path / "log.csv")
    schema = Schema(timestamp="timestamp", weight="weight")
    from_csv = Dataset.from_frames(tmp_path / "log.csv", schema=schema)
    from_frame = Dataset.from_frames(log, schema=schema)
    for name in ("offsets", "items", "times", "weights"):
        assert np.array_equal(getattr(from_csv, name), getattr(from_frame, name)), name


def test_without_an_order_the_file_s_order_stays() -> None:
    dataset = Dataset.from_frames(
        pl.DataFrame({"user_id": ["b", "a", "b", "a"], "item_id": [3, 1, 2, 9]}), schema=Schema()
    )
    assert dataset.item_vocabulary.decode(dataset.items).to_list() == [1, 9, 3, 2]
    assert dataset.times is None


def scrambled_by_hand(row: int) -> int:
    """SplitMix64's mixing function on Python's whole numbers."""
    whole = 2**64
    mixed = (row + 0x9E3779B97F4A7C15) % whole
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % whole
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % whole
    return mixed ^ (mixed >> 31)


@pytest.mark.parametrize("chunk", [8, 1000])
def test_an_unordered_log_is_shuffled_within_its_parts(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(sorting, "CHUNK_EVENTS", chunk)
    log = pl.DataFrame(
        {
            "user_id": [1] * 20 + [2] * 10,
            "item_id": [*range(20), *range(10)],
            "split": ["train"] * 12 + ["test"] * 8 + ["train"] * 10,
        }
    )
    dataset = Dataset.from_frames(log, schema=Schema(split="split", unordered=True))
    ids = dataset.item_vocabulary.decode(dataset.items).to_list()
    assert ids[:12] == sorted(range(12), key=scrambled_by_hand)
    assert ids[12:20] == sorted(range(12, 20), key=scrambled_by_hand)
    assert ids[20:] == sorted(range(10), key=lambda item: scrambled_by_hand(20 + item))
    assert ids[:12] != sorted(ids[:12])


def sorted_rows(descending: bool = False, swapped: int = 0) -> pl.DataFrame:
    """Forty users with four training items and two test items, each part sorted by item.

    In each part the next item is another one, but for the first that `swapped` users have: there
    the first two of the part are swapped.
    """
    random = np.random.default_rng(3)
    rows = []
    for user in range(40):
        items = random.permutation(50)[:6].tolist()
        parts = {"train": sorted(items[:4]), "test": sorted(items[4:])}
        for part, own in parts.items():
            if descending:
                own.reverse()
            if part == "train" and user < swapped:
                own[:2] = own[1::-1]
            rows += [{"user_id": user, "item_id": item, "split": part} for item in own]
    return pl.DataFrame(rows)


SPLIT_ONLY = Schema(split="split")


def order_notes(log: pl.DataFrame, schema: Schema) -> list[str]:
    notes: list[str] = Dataset.from_frames(log, schema=schema).source["notes"]
    return [note for note in notes if "sorted table" in note]


@pytest.mark.parametrize(("descending", "size"), [(False, "smaller"), (True, "larger")])
@pytest.mark.parametrize("chunk", [25, 10_000])
def test_a_table_sorted_by_item_is_not_taken_for_a_sequence_without_a_word(
    monkeypatch: pytest.MonkeyPatch, descending: bool, size: str, chunk: int
) -> None:
    monkeypatch.setattr(arrays, "CHUNK_EVENTS", chunk)
    (note,) = order_notes(sorted_rows(descending), SPLIT_ONLY)
    assert f" 100% follow one with a {size} item id" in note
    assert "columns.unordered = true" in note


def test_a_table_looks_sorted_from_nine_rows_in_ten_on() -> None:
    # Of 40 · (3 + 1) rows that follow another of their user and part, one a swap is out of order.
    (note,) = order_notes(sorted_rows(swapped=16), SPLIT_ONLY)
    assert " 90% follow one with a smaller item id" in note
    assert not order_notes(sorted_rows(swapped=17), SPLIT_ONLY)


def test_repeats_of_an_item_say_nothing_of_the_order() -> None:
    log = sorted_rows()
    (note,) = order_notes(pl.concat([log, log]).sort("user_id", "item_id"), Schema())
    assert " 100% follow one with a smaller item id" in note


def test_other_tables_are_taken_as_they_are() -> None:
    log = sorted_rows()
    assert not order_notes(log, Schema(split="split", unordered=True))
    assert not order_notes(log.sample(fraction=1, shuffle=True, seed=1), SPLIT_ONLY)
    assert not order_notes(log.head(24 * 6), SPLIT_ONLY)  # 24 · 4 rows: so few may be chance
    timed = log.with_columns(timestamp=pl.int_range(len(log)))
    assert not order_notes(timed, Schema(timestamp="timestamp"))


def test_unordered_contradicts_an_order() -> None:
    with pytest.raises(ValueError, match="unordered contradicts timestamp and position"):
        Schema(unordered=True, position="position")


def test_split_comes_before_position() -> None:
    log = pl.DataFrame(
        {
            "user_id": [1] * 4,
            "item_id": [1, 2, 3, 4],
            "position": [4, 1, 3, 2],
            "split": ["test", "valid", "train", "train"],
        }
    )
    dataset = Dataset.from_frames(log, schema=Schema(position="position", split="split"))
    assert dataset.items.tolist() == [4, 3, 2, 1]
    assert dataset.split is not None
    assert dataset.split.tolist() == [0, 0, 1, 2]


def test_columns_with_the_usual_names_are_found() -> None:
    log = pl.DataFrame(
        {"user_id": [1, 1], "item_id": [5, 6], "datetime": ["2024-01-02", "2024-01-01"]}
    ).with_columns(rating=pl.Series([4, 5]), weight=pl.Series([1, 2]))
    items = pl.DataFrame({"item_id": [6, 5], "category": ["x", "y"]})
    dataset = Dataset.from_frames(log, items=items)
    assert dataset.schema == Schema(timestamp="datetime", weight="weight", category="category")
    assert dataset.items.tolist() == [2, 1]
    assert dataset.weights is not None
    assert dataset.weights.tolist() == [2.0, 1.0]
    assert dataset.category_vocabulary.decode(dataset.item_categories).to_list() == [
        None,
        "y",
        "x",
    ]


def test_a_rating_is_no_weight_unless_it_is_named_as_one() -> None:
    log = pl.DataFrame({"user_id": [1, 1], "item_id": [5, 6], "rating": [4, 5]})
    assert Dataset.from_frames(log).weights is None
    named = Dataset.from_frames(log, schema=Schema(weight="rating"))
    assert named.weights is not None
    assert named.weights.tolist() == [4.0, 5.0]


def test_ids_of_a_side_table_are_not_rounded() -> None:
    log = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2]})
    items = pl.DataFrame({"item_id": [2.0, 1.5], "category": ["x", "y"]})
    with pytest.raises(DataError, match=r"row 2, column 'item_id': 1\.5 is not a whole number"):
        Dataset.from_frames(log, items=items)


def test_side_tables_follow_the_vocabulary() -> None:
    log = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": [3, 1, 2]})
    items = pl.DataFrame(
        {
            "movie": ["1", "3", "3", "8", None],
            "genre": ["x", "y", "z", "w", "w"],
            "price": [1.0, 3.0, 9.0, 9.0, 9.0],
        }
    )
    queries = pl.DataFrame({"user_id": ["b"], "seen": [[2, 7]]})
    dataset = Dataset.from_frames(
        log,
        items=items,
        queries=queries,
        schema=Schema(
            item_id_in_items="movie",
            category="genre",
            item_features=(
                Feature(name="genre"),
                Feature(name="price", kind=FeatureKind.NUMERIC),
            ),
            query_features=(Feature(name="seen", kind=FeatureKind.SEQUENCE),),
        ),
    )
    genre = dataset.item_features["genre"].values
    assert dataset.feature_vocabularies["item/genre"].decode(genre).to_list() == [
        None,
        "x",
        None,
        "y",
    ]
    assert dataset.item_categories.tolist() == [0, 1, 0, 2]
    assert dataset.item_features["price"].values.tolist() == [0.0, -1.0, 0.0, 1.0]
    assert dataset.numeric_scales == {"item/price": (2.0, 1.0)}
    seen = dataset.query_features["seen"]
    assert seen.offsets is not None
    assert seen.offsets.tolist() == [0, 0, 0, 2]
    assert seen.values.tolist() == [2, 0]
    assert dataset.source["item_table"] == {
        "rows": 5,
        "used": 2,
        "no_id": 1,
        "repeats": 1,
        "without_events": 1,
        "missing": 1,
    }
    assert len(dataset.source["notes"]) == 4  # b's list holds its own item 2
    space = dataset.space()
    assert [spec.size for spec in space.item_features] == [3, 1]
    assert space.query_features[0].size == space.item_count == 4


def test_notes_are_said_in_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = pl.DataFrame({"user_id": [1, None, 2], "item_id": [1, 1, 1]})
    log.write_parquet(tmp_path / "log.parquet")
    (tmp_path / "run.toml").write_text('[data]\ninteractions = "log.parquet"\n')
    prepare(tmp_path / "run.toml")
    assert capsys.readouterr().err.splitlines() == ["3 rows read, left out: 1 (no user_id)"]
    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_text())
    assert manifest["source"]["files"]["interactions"][0]["name"] == "log.parquet"


def test_frames_say_what_is_left_out_too(capsys: pytest.CaptureFixture[str]) -> None:
    dataset = Dataset.from_frames(pl.DataFrame({"user_id": [1, None], "item_id": [1, 1]}))
    assert capsys.readouterr().err.splitlines() == ["2 rows read, left out: 1 (no user_id)"]
    assert dataset.source["dropped"] == {"no user_id": 1}


def test_words_for_a_missing_id_are_kept_and_told(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "user_id,item_id\n7,1\nNULL,2\nNULL,1\nNULL,2\n8,\\N\n9,nap\n,1\n"
    )
    dataset = Dataset.from_frames(tmp_path / "log.csv")
    assert dataset.query_vocabulary.values.to_list() == ["7", "8", "9", "NULL"]
    assert dataset.source["dropped"] == {"no user_id": 1}
    first, second = dataset.source["notes"]
    assert first.startswith("3 rows have user_id 'NULL', which stands for a missing id in many")
    assert second.startswith(r"1 rows have item_id '\N', which")
    log = pl.DataFrame({"user_id": ["NA", "NA", "x"], "item_id": ["a", "b", "a"]})
    filtered = Dataset.from_frames(log, filter=FilterConfig(min_query_events=2))
    assert filtered.source["dropped"] == {"k-core": 1}
    (note,) = filtered.source["notes"]
    assert note.startswith("2 rows have user_id 'NA'")


def test_a_side_table_has_no_row_for_an_empty_id() -> None:
    log = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"]})
    items = pl.DataFrame({"item_id": ["x", "", "y"], "category": ["s", "t", "u"]})
    counts = Dataset.from_frames(log, items=items).source["item_table"]
    assert (counts["used"], counts["no_id"], counts["without_events"]) == (2, 1, 0)


@pytest.mark.parametrize("chunk", [1, 1000])
def test_a_split_column_that_is_not_in_time_is_told(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(arrays, "CHUNK_EVENTS", chunk)
    start = 1_700_000_000
    log = pl.DataFrame(
        {
            "user_id": [1, 1, 1, 1, 2, 2, 3],
            "item_id": [10, 20, 30, 40, 10, 20, 30],
            "timestamp": [start + seconds for seconds in (0, 1, 2, 3, 5, 5, 0)],
            # user 1: both tests are older than the validation event, one than the training event;
            # user 2: not older, but of one time, which is hidden; user 3: without a history
            "split": ["test", "train", "test", "valid", "train", "test", "test"],
        }
    )
    schema = Schema(timestamp="timestamp", split="split")
    notes = Dataset.from_frames(log, schema=schema).source["notes"]
    (note,) = [note for note in notes if note.startswith("columns.split")]
    assert "66.7% of the 3 test events of queries with a history are older" in note
    in_time = log.with_columns(split=pl.Series(["train", "train", "valid", "test"] + ["test"] * 3))
    notes = Dataset.from_frames(in_time, schema=schema).source["notes"]
    assert not [note for note in notes if note.startswith("columns.split")]


@pytest.mark.parametrize("chunk", [1, 1000])
def test_lists_of_a_query_s_own_items_are_told(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(arrays, "CHUNK_EVENTS", chunk)
    log = pl.DataFrame({"user_id": [1, 1, 2, 3], "item_id": [10, 20, 30, 10]})
    queries = pl.DataFrame(
        {
            "user_id": [1, 2, 3],
            "history": [[20, 10, 99], [10, 99], [10]],  # two of three hold an own item
            "wishes": [[30, 99], [], None],
        }
    )
    features = tuple(
        Feature(name=name, kind=FeatureKind.SEQUENCE) for name in ("history", "wishes")
    )
    dataset = Dataset.from_frames(log, queries=queries, schema=Schema(query_features=features))
    (note,) = dataset.source["notes"]
    assert note.startswith("columns.query_features 'history': the lists of 2 of 3 queries hold")


def test_a_full_disk_is_no_fault_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "CHUNK_EVENTS", 1000)
    random = np.random.default_rng(0)
    log = pl.DataFrame({name: random.integers(0, 2**40, 3000) for name in ("user_id", "item_id")})
    path = tmp_path / "log.parquet"
    log.write_parquet(path)
    config = RunConfig(data=DataConfig(interactions=str(path), dataset=str(tmp_path / "dataset")))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # a bucket has 1000 rows of 16 bytes
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            prepare(config, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert Path(caught.value.filename).name == "scratch"
    assert os.listdir(tmp_path) == ["log.parquet"]


def test_a_filter_that_leaves_nothing() -> None:
    log = pl.DataFrame({"user_id": [1, 2], "item_id": [1, 1]})
    with pytest.raises(DataError, match=r"min_query_events = 2 .* leave no events"):
        Dataset.from_frames(log, filter=FilterConfig(min_query_events=2))


def test_more_ids_than_can_be_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAXIMUM_ROWS", 2)
    log = pl.DataFrame({"user_id": [1, 2], "item_id": [1, 2]})
    assert Dataset.from_frames(log).query_count == 3
    with pytest.raises(DataError, match="3 different items; at most 2 can be numbered"):
        Dataset.from_frames(log.vstack(pl.DataFrame({"user_id": [1], "item_id": [3]})))


def test_features_without_their_table() -> None:
    log = pl.DataFrame({"user_id": [1], "item_id": [1]})
    with pytest.raises(ConfigError, match=r"columns\.category: columns of the items table"):
        Dataset.from_frames(log, schema=Schema(category="genre"))
    with pytest.raises(ConfigError, match=r"columns\.query_features: .* name it as data\.queries"):
        Dataset.from_frames(log, schema=Schema(query_features=(Feature(name="age"),)))
    items = pl.DataFrame({"item_id": [1], "gender": [1]})
    with pytest.raises(DataError, match=r"no column 'genre'.*did you mean 'gender'"):
        Dataset.from_frames(log, items=items, schema=Schema(category="genre"))


def test_a_fault_leaves_the_old_dataset(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    config = RunConfig(
        data=DataConfig(interactions=str(path), dataset=str(tmp_path / "dataset")),
        columns=Schema(weight="weight"),
    )
    pl.DataFrame({"user_id": [1], "item_id": [1], "weight": [1.0]}).write_parquet(path)
    prepare(config, progress=False)
    pl.DataFrame({"user_id": [1], "item_id": [1], "weight": [-1.0]}).write_parquet(path)
    with pytest.raises(DataError):
        prepare(config, progress=False)
    assert Dataset.load(tmp_path / "dataset").event_count == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["dataset", "log.parquet"]


def test_a_dataset_that_is_current_is_told_without_opening_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a CSV, opening reads all rows for their types."""
    for name in ("log", "items"):
        (tmp_path / f"{name}.csv").write_text("user_id,item_id\n1,2\n")
    config = RunConfig(
        data=DataConfig(
            interactions=str(tmp_path / "log.csv"),
            items=str(tmp_path / "items.csv"),
            dataset=str(tmp_path / "dataset"),
        )
    )
    prepare(config, progress=False)
    monkeypatch.setattr(module, "open_table", None)
    assert stale_reason(config) is None
    (tmp_path / "items.csv").write_text("user_id,item_id\n1,3\n")
    assert "tables were changed" in str(stale_reason(config))
    (tmp_path / "items.csv").unlink()
    with pytest.raises(DataError, match=r"items\.csv: no such file"):
        stale_reason(config)


def test_what_makes_a_dataset_stale(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    log = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2]})
    log.write_parquet(path)
    config = RunConfig(data=DataConfig(interactions=str(path), dataset=str(tmp_path / "dataset")))
    assert "does not exist yet" in str(stale_reason(config))
    prepare(config, progress=False)
    assert stale_reason(config) is None
    other = config.model_copy(update={"filter": FilterConfig(min_item_events=2)})
    assert "columns or filter were changed" in str(stale_reason(other))
    log.head(1).write_parquet(path)
    assert "tables were changed" in str(stale_reason(config))
    log.write_parquet(path)
    items = tmp_path / "dataset" / "items.npy"
    items.write_bytes(items.read_bytes()[:-1] + b"\x07")
    assert "damaged" in str(stale_reason(config))


def test_a_dataset_survives_a_kill_between_its_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    log = pl.DataFrame({"user_id": [1], "item_id": [1]})
    Dataset.from_frames(log).save(tmp_path / "dataset")
    (tmp_path / "dataset").rename(tmp_path / ".dataset.old")
    assert Dataset.load(tmp_path / "dataset").event_count == 1
