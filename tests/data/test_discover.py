from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualtower.config import load_config
from dualtower.data.config_text import config_text
from dualtower.data.discover import discover
from dualtower.data.feature_guess import _reach_over_most
from dualtower.data.prepare import prepare
from dualtower.errors import DataError


def write(folder: Path, name: str, frame: pl.DataFrame) -> Path:
    path = folder / name
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return path


def interactions(rows: int = 300) -> pl.DataFrame:
    random = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "userId": random.integers(0, 20, rows),
            "movieId": random.integers(0, 30, rows),
            "rating": random.integers(1, 6, rows),
            "timestamp": 1_600_000_000 + random.integers(0, 10**6, rows),
            "device": random.choice(["phone", "desk"], rows),
        }
    )


def movies() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": range(30),
            "title": [f"Film {number}" for number in range(30)],
            "genre": ["a", "b", "c"] * 10,
        }
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_are_told_apart_by_names_and_ids(tmp_path: Path, suffix: str) -> None:
    log = write(tmp_path, f"ratings.{suffix}", interactions())
    items = write(tmp_path, f"movies.{suffix}", movies())
    users = write(
        tmp_path,
        f"users.{suffix}",
        pl.DataFrame({"userId": range(20), "age": [18, 25, 35, 50] * 5}),
    )
    guess = discover([users, items, log])
    assert guess.config.data.interactions == str(log)
    assert guess.config.data.items == str(items)
    assert guess.config.data.queries == str(users)
    columns = guess.config.columns
    assert (columns.query_id, columns.item_id) == ("userId", "movieId")
    assert (columns.item_id_in_items, columns.query_id_in_queries) == ("id", None)
    assert (columns.timestamp, columns.position, columns.weight) == ("timestamp", None, None)
    assert guess.weight_candidate == "rating"
    assert (columns.category, columns.split) == ("genre", None)
    assert [feature.name for feature in columns.item_features] == ["genre"]
    assert [feature.name for feature in columns.query_features] == ["age"]
    assert columns.context_features == ()
    assert [feature.name for feature in guess.context_candidates] == ["device"]
    assert guess.config.split.by == "leave_last_out"
    assert discover([tmp_path]) == guess
    assert any(note.startswith("columns.timestamp: ") for note in guess.notes)


def test_a_split_column_and_positions_that_only_dropped_rows_lack(tmp_path: Path) -> None:
    log = interactions().drop("timestamp", "rating")
    marks = (["train", "train", "valid", "test", None] * 60)[: len(log)]
    log = log.with_columns(
        split=pl.Series(marks),
        position=pl.Series([None if mark is None else place for place, mark in enumerate(marks)]),
    )
    guess = discover([write(tmp_path, "log.parquet", log)])
    assert guess.config.columns.split == "split"
    assert guess.config.columns.position == "position"
    assert guess.config.columns.timestamp is None
    assert guess.config.split.by == "column"


def test_small_whole_numbers_called_timestamp_are_positions(tmp_path: Path) -> None:
    log = interactions().with_columns(timestamp=pl.int_range(300))
    columns = discover([write(tmp_path, "log.parquet", log)]).config.columns
    assert (columns.timestamp, columns.position) == (None, "timestamp")


def test_a_weight_with_negative_values_is_passed_over(tmp_path: Path) -> None:
    log = interactions().with_columns(rating=pl.col("rating") - 3)
    guess = discover([write(tmp_path, "log.parquet", log)])
    assert (guess.config.columns.weight, guess.weight_candidate) == (None, None)


def test_only_a_column_called_weight_is_one_without_asking(tmp_path: Path) -> None:
    log = interactions().with_columns(quantity=pl.lit(2), weight=pl.lit(0.5))
    guess = discover([write(tmp_path, "log.parquet", log)])
    assert (guess.config.columns.weight, guess.weight_candidate) == ("weight", None)
    guess = discover([write(tmp_path, "other.parquet", log.drop("weight", "rating"))])
    assert (guess.config.columns.weight, guess.weight_candidate) == (None, "quantity")
    assert [feature.name for feature in guess.context_candidates] == ["device"]


def test_without_telling_names_the_most_repeated_columns_count(tmp_path: Path) -> None:
    log = interactions().select(
        pl.col("userId").alias("who"), pl.col("movieId").alias("what"), "timestamp"
    )
    columns = discover([write(tmp_path, "log.parquet", log)]).config.columns
    assert (columns.query_id, columns.item_id) == ("who", "what")


@pytest.mark.parametrize(
    "dtype",
    [pl.Float64(), pl.Decimal(10, 0), pl.Enum([str(number) for number in range(30)])],
    ids=str,
)
def test_ids_of_any_type_that_prepare_takes_are_seen(tmp_path: Path, dtype: pl.DataType) -> None:
    texts = isinstance(dtype, pl.Enum)
    frame = interactions().with_columns(
        pl.col(name).cast(pl.String if texts else pl.Int64).cast(dtype)
        for name in ("userId", "movieId")
    )
    users = frame.select(pl.col("userId").unique(maintain_order=True)).with_columns(
        age=pl.Series([18, 25] * 10)
    )
    guess = discover(
        [write(tmp_path, "log.parquet", frame), write(tmp_path, "users.parquet", users)]
    )
    assert (guess.config.columns.query_id, guess.config.columns.item_id) == ("userId", "movieId")
    assert guess.config.data.queries == str(tmp_path / "users.parquet")
    data = guess.config.data.model_copy(update={"dataset": str(tmp_path / "dataset")})
    dataset = prepare(guess.config.model_copy(update={"data": data}), progress=False)
    assert (dataset.query_count, dataset.item_count) == (21, 31)


def test_without_telling_names_decimal_numbers_are_the_last_that_are_ids(tmp_path: Path) -> None:
    log = interactions().select(
        pl.col("userId").alias("who"),
        pl.col("movieId").alias("what"),
        paid=pl.int_range(300).cast(pl.Float64) % 100,
    )
    columns = discover([write(tmp_path, "log.parquet", log)]).config.columns
    assert (columns.query_id, columns.item_id) == ("who", "what")
    with pytest.raises(DataError, match=r"paid \(Float64\)"):  # 0.5, 1.5, …: no ids
        discover([write(tmp_path, "other.parquet", log.select("who", pl.col("paid") + 0.5))])


def test_a_decimal_rating_of_a_product_is_not_taken_for_its_id(tmp_path: Path) -> None:
    log = interactions().select(
        reviewer="userId",
        product_rating=pl.col("rating").cast(pl.Int64).cast(pl.Float64),
        asin=pl.format("B{}", "movieId"),
    )
    columns = discover([write(tmp_path, "log.parquet", log)]).config.columns
    assert (columns.query_id, columns.item_id) == ("reviewer", "asin")


@pytest.mark.parametrize(("lists", "over_most"), [([[2], [90]], True), ([[3, 7]], False)])
def test_one_id_far_from_the_others_hides_no_list_of_items(
    lists: list[list[int]], over_most: bool
) -> None:
    ids = pl.Series([*range(1, 101), 9_999_999])
    assert _reach_over_most(pl.Series(lists), ids) is over_most


def test_a_decimal_id_goes_before_a_text_that_is_called_no_id(tmp_path: Path) -> None:
    log = interactions().select(
        user_id="userId",
        item_id=pl.col("movieId").cast(pl.Float64),
        item_category=pl.format("c{}", pl.col("movieId") % 3),
    )
    columns = discover([write(tmp_path, "log.parquet", log)]).config.columns
    assert (columns.query_id, columns.item_id) == ("user_id", "item_id")


def test_a_table_of_other_ids_is_left_out(tmp_path: Path) -> None:
    log = write(tmp_path, "log.parquet", interactions())
    shops = write(tmp_path, "shops.parquet", pl.DataFrame({"shop_id": ["x", "y"], "size": [1, 2]}))
    guess = discover([log, shops])
    assert guess.config.data.items is None
    assert guess.config.data.queries is None


def test_no_interactions_lists_what_was_seen(tmp_path: Path) -> None:
    path = write(tmp_path, "movies.parquet", movies().drop("genre"))
    with pytest.raises(DataError, match=r"no table looks like interactions.*id \(Int64\), title"):
        discover([path])


def test_lists_of_items_of_the_queries_table_are_only_suggested(tmp_path: Path) -> None:
    log = write(tmp_path, "log.parquet", interactions())
    users = pl.DataFrame(
        {
            "userId": range(20),
            "age": [18, 25, 35, 50] * 5,
            "history": [[1, 2], [29]] * 10,
            "liked": ["3|4", "28|40"] * 10,
            "interests": [["film"], []] * 10,
            "codes": [[100, 200], [1]] * 10,  # one in three is an item
            "topics": [[3, 7], [1, 12]] * 10,  # all are, as all small numbers
            "bought": [[3, 7], [1, 12]] * 10,
        }
    )
    guess = discover([log, write(tmp_path, "users.parquet", users)])
    assert [feature.name for feature in guess.config.columns.query_features] == [
        "age",
        "interests",
        "codes",
        "topics",
    ]
    assert [(feature.name, feature.kind) for feature in guess.query_candidates] == [
        ("history", "sequence"),
        ("liked", "multi_valued"),
        ("bought", "sequence"),
    ]
    assert "not set, since it may hold items" in guess.reasons["columns.query_features.history"]
    output = tmp_path / "dualtower.toml"
    output.write_text(config_text(guess, output), encoding="utf-8")
    lines = output.read_text(encoding="utf-8").splitlines()
    assert '  # {name = "history", kind = "sequence"},' in lines
    assert "holds the test's answers" in " ".join(" ".join(lines).replace("#", "").split())
    assert load_config(output).columns == guess.config.columns
    alone = users.select("userId", "history")
    guess = discover([log, write(tmp_path, "users.parquet", alone)])
    lines = config_text(guess, output).splitlines()
    assert '#   {name = "history", kind = "sequence"},' in lines
    assert guess.config.columns.query_features == ()


def test_one_broken_time_is_told_and_not_passed_over(tmp_path: Path) -> None:
    texts = ["2024-01-31 18:05:00"] * 300
    texts[6] = "2024-13-45 18:05:00"
    log = write(tmp_path, "log.csv", interactions().with_columns(timestamp=pl.Series(texts)))
    guess = discover([log])
    assert guess.config.columns.timestamp is None
    reason = guess.reasons["columns.timestamp"]
    assert "timestamp is a time in all but 1 of 300 rows" in reason
    assert "log.csv: row 7, column 'timestamp': '2024-13-45 18:05:00'" in reason
    written = config_text(guess, tmp_path / "dualtower.toml")
    assert '\n# timestamp = ""' in written
    assert "all but 1 of 300 rows" in " ".join(written.replace("#", "").split())


def test_a_column_that_is_no_time_is_not_told_of(tmp_path: Path) -> None:
    frame = interactions().rename({"timestamp": "date"}).with_columns(date=pl.lit("monday"))
    assert "columns.timestamp" not in discover([write(tmp_path, "log.csv", frame)]).reasons
