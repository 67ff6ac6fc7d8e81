"""From RecBole's atomic files through `prepare`."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import dualtower as dt
from dualtower.data.readers.recbole import import_recbole
from dualtower.errors import DataError
from tests.data.readers.raw import write

GENRES = ("Drama Comedy", "Action", "", "Comedy")


def write_files(folder: Path) -> Path:
    """Six users on twelve items, later items later, and all three files."""
    folder.mkdir(exist_ok=True)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float\tdevice:token"]
    for user in range(6):
        for item in range(12):
            lines.append(f"u{user}\t{item:03}\t{1 + item % 5}\t{1.3e9 + item}\tphone")
    write(folder / "small.inter", "\n".join(lines) + "\n")
    lines = ["item_id:token\tname:token\tyear:float\tgenre:token_seq\tvector:float_seq"]
    for item in range(12):
        year = "" if item == 0 else 1990 + item
        lines.append(f'{item:03}\t"Film" {item}\t{year}\t{GENRES[item % 4]}\t{item} 0.5')
    write(folder / "small.item", "\n".join(lines) + "\n")
    lines = ["user_id:token\tage:float\tgender:token"]
    lines += [f"u{user}\t{20 + user}\t{'FM'[user % 2]}" for user in range(6)]
    write(folder / "small.user", "\n".join(lines) + "\n")
    write(folder / "small.kg", "not read")
    return folder


def test_from_files_to_dataset(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "small")
    imported = import_recbole([folder], tmp_path / "out", category="genre", progress=False)
    assert imported.rows == {"interactions": 72, "items": 12, "queries": 6}
    # Items 0, 4, 8 begin with Drama, 1, 5, 9 with Action, 3, 7, 11 with Comedy.
    assert imported.categories == {"Action": 3, "Comedy": 3, "Drama": 3, "Other": 3}
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items.row(0, named=True) == {
        "item_id": "000",
        "name": '"Film" 0',
        "year": None,
        "genre": ["Drama", "Comedy"],
        "vector": [0.0, 0.5],
        "top_genre": "Drama",
    }
    assert items["genre"][2].to_list() == []
    data = dt.prepare(imported.config, progress=False)
    assert (data.query_count, data.item_count, len(data.category_vocabulary)) == (7, 13, 5)
    assert [(feature.name, str(feature.kind)) for feature in data.schema.item_features] == [
        ("name", "categorical"),
        ("year", "numeric"),
        ("genre", "multi_valued"),
        ("vector", "vector"),
    ]
    assert [feature.name for feature in data.schema.query_features] == ["age", "gender"]
    # Every event is a positive alike, and a rating is not known when one asks.
    assert data.schema.weight is None
    assert 'name = "rating"' not in imported.config.read_text(encoding="utf-8")
    assert data.times is not None
    assert int(data.times[11]) == 1_300_000_011_000_000
    assert '#   {name = "device"' in imported.config.read_text(encoding="utf-8")


def test_interactions_alone_in_the_order_of_the_lines(tmp_path: Path) -> None:
    lines = ["sku:token\tvisitor:token\trating:float"]
    lines += [f"{item}\tv{user}\t-1" for item in "gfedcba" for user in range(5)]
    path = write(tmp_path / "log.inter", "\n".join(lines))
    imported = import_recbole(
        [path], tmp_path / "out", query_id="visitor", item_id="sku", progress=False
    )
    data = dt.prepare(imported.config, progress=False)
    assert data.item_vocabulary.values.gather(data.items[:7] - 1).to_list() == list("gfedcba")
    assert data.times is None


@pytest.mark.parametrize(
    ("timestamp", "message"),
    [
        ("time", "--timestamp time is not one of its columns; other float columns: timestamp"),
        ("device", "--timestamp device is of type token, and a time is a float"),
    ],
)
def test_a_time_that_is_none_is_refused(timestamp: str, message: str, tmp_path: Path) -> None:
    files = [write_files(tmp_path)]
    with pytest.raises(DataError, match=rf"small\.inter: {message}"):
        import_recbole(files, tmp_path / "out", timestamp=timestamp, progress=False)


INTER = "user_id:token\titem_id:token\trating:float\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id\titem_id\n", "line 1: 'user_id' is not NAME:TYPE"),
        (
            "user_id:token item_id:token\n",
            "line 1 names no column user_id:token; ",
        ),
        ("user_id:int\titem_id:token\n", "line 1: 'user_id:int' is not NAME:TYPE"),
        ("user_id:float\titem_id:token\n", "line 1 names no column user_id:token"),
        ("user_id:token\tuser_id:float\n", "line 1 names the column 'user_id' twice"),
        (INTER, "has no rows"),
        (INTER + "u\ti\t1\nu\ti\n", r"line 3 has 2 fields between '\\t'; there should be 3"),
        (INTER + "u\ti\tgood\n", "line 2, column 'rating': 'good' is not a finite number"),
        (INTER + "u\ti\tinf\n", "line 2, column 'rating': 'inf' is not a finite number"),
        (
            "user_id:token\titem_id:token\tv:float_seq\nu\ti\t1 2\nu\tj\t1 x\n",
            "line 3, column 'v': '1 x' does not hold finite numbers",
        ),
    ],
)
def test_bad_files_are_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "a.inter", text)
    with pytest.raises(DataError, match=r"a\.inter: " + message):
        import_recbole([path], tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["a.item"], {}, "the interactions: one file that ends in .inter is needed; given: none"),
        (["a.inter", "b.inter"], {}, "the interactions: .*given: a.inter, b.inter"),
        (["a.inter", "a.kg"], {}, r"a\.kg: not a known kind of file"),
        (["small.inter"], {"category": "genre"}, "a column of an .item file; none was given"),
        (
            ["small.inter", "small.item"],
            {"category": "year"},
            r"small\.item: line 1 names no column 'year' .*those are: item_id, name, genre",
        ),
    ],
)
def test_files_that_are_not_the_right_ones_are_refused(
    tmp_path: Path, names: list[str], options: dict[str, Any], message: str
) -> None:
    write_files(tmp_path)
    paths = [tmp_path / name for name in names]
    with pytest.raises(DataError, match=message):
        import_recbole(paths, tmp_path / "out", progress=False, **options)
