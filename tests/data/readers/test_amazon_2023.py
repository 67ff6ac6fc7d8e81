"""From raw files in the form of 2023 through `prepare`."""

from pathlib import Path

import polars as pl
import pytest

import dualtower as dt
from dualtower.data.readers.amazon_2023 import import_amazon_2023
from dualtower.errors import DataError
from tests.data.readers.raw import (
    ITEMS,
    START,
    events,
    write,
    write_2023_metadata,
    write_2023_ratings,
)


def test_from_files_to_dataset(tmp_path: Path) -> None:
    files = [
        write_2023_ratings(tmp_path / "Books.csv.gz"),
        write_2023_metadata(tmp_path / "meta_Books.jsonl.gz"),
    ]
    imported = import_amazon_2023(files, tmp_path / "out", progress=False)
    assert imported.rows == {"interactions": 162, "items": 28}
    assert imported.categories == {"Subject 0": 13, "Subject 1": 12, "Other": 1}
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items["price"].to_list()[:4] == [9.5, None, None, 12.25]
    assert items.row(1, named=True) == {
        "item_id": "0001X",
        "title": "Númber 1",
        "price": None,
        "categories": ["Books", "Subject 1"],
        "store": "Ada (Author)",
        "main_category": "Books",
        "category": "Subject 1",
    }
    data = dt.prepare(imported.config, progress=False)
    assert (data.query_count, data.item_count, len(data.category_vocabulary)) == (7, 27, 4)
    assert int(data.times[0]) == START * 1_000_000
    assert data.item_vocabulary.values.to_list() == list(ITEMS[:26])


def test_the_parts_with_histories_are_one_table(tmp_path: Path) -> None:
    parts = {"train": slice(100), "valid": slice(100, 130), "test": slice(130, None)}
    files = [
        write_2023_ratings(tmp_path / f"Books.{name}.csv", history=True, part=part)
        for name, part in parts.items()
    ]
    import_amazon_2023(files, tmp_path / "out", progress=False)
    table = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    expected = [(user, item, rating, 1000 * time) for user, item, rating, time in events()]
    assert table.columns == ["user_id", "item_id", "rating", "timestamp"]
    assert table.rows() == expected


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    text = "rating,timestamp,parent_asin,user_id\n4.0,1300000000000,0000X,A\n"
    path = write(tmp_path / "Books.csv", text)
    import_amazon_2023([path], tmp_path / "out", progress=False)
    table = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    assert table.rows() == [("A", "0000X", 4.0, 1_300_000_000_000)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,asin,rating,timestamp\n", "line 1 names no column 'parent_asin'"),
        ("user_id,parent_asin,rating,timestamp\n", "has no rows"),
        ("user_id,parent_asin,rating,timestamp\nA,0,4.0\n", "line 2 has 3 fields"),
        (
            "user_id,parent_asin,rating,timestamp\nA,0,4.0,1300000000\n",
            "line 2, column 'timestamp': '1300000000' is not a time in milliseconds since 1970",
        ),
    ],
)
def test_bad_ratings_are_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "Books.csv", text)
    with pytest.raises(DataError, match=r"Books\.csv: " + message):
        import_amazon_2023([path], tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"parent_asin": "0000X", "categ', "line 1 cannot be read"),
        ("{'parent_asin': '0000X'}", "line 1 cannot be read"),
        ('{"asin": "0000X"}', "line 1 cannot be read: it has no 'parent_asin'"),
        ('{"parent_asin": "0000X", "categories": [["Books"]]}', "line 1 .*list of texts"),
        ('{"parent_asin": "0000X", "rating": 5.0}', "no line has 'categories'"),
    ],
)
def test_bad_metadata_is_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    files = [write_2023_ratings(tmp_path / "r.csv"), write(tmp_path / "meta_Books.jsonl", text)]
    with pytest.raises(DataError, match=r"meta_Books\.jsonl: " + message):
        import_amazon_2023(files, tmp_path / "out", progress=False)


def test_ratings_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the ratings: a file that ends in"):
        import_amazon_2023([tmp_path / "meta.jsonl"], tmp_path / "out", progress=False)
