"""From raw files in the form of 2014 through `prepare`."""

import shutil
from pathlib import Path

import polars as pl
import pytest

import dualtower as dt
from dualtower.data.readers.amazon_2014 import import_amazon_2014
from dualtower.data.readers.folder import Imported
from dualtower.errors import ConfigError, DataError
from tests.data.readers.raw import (
    ITEMS,
    START,
    events,
    write,
    write_2014_metadata,
    write_2014_ratings,
)


def run(folder: Path, *, ratings: str = "ratings_Books.csv", metadata: str = "meta_Books.json.gz"):
    files = [write_2014_metadata(folder / metadata), write_2014_ratings(folder / ratings)]
    return import_amazon_2014(files, folder / "out", progress=False)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return run(tmp_path_factory.mktemp("amazon"))


def test_tables_hold_what_the_files_say(imported: Imported) -> None:
    folder = imported.config.parent
    table = pl.read_parquet(folder / "interactions.parquet")
    assert table.columns == ["user_id", "item_id", "rating", "timestamp"]
    assert table.rows() == events()
    items = pl.read_parquet(folder / "items.parquet")
    assert items["item_id"].to_list() == list(ITEMS[:28])
    assert items.row(5, named=True) == {
        "item_id": "0005X",
        "title": "It's number 5",
        "price": 5.5,
        "categories": ["Books", "Subject 05", "Kindle Store", "eBooks"],
        "brand": "Penguin",
        "category": "Subject 05",
    }
    assert items["brand"][27] is None
    assert imported.rows == {"interactions": 162, "items": 28}
    assert sorted(path.name for path in folder.iterdir()) == [
        "dualtower.toml",
        "interactions.parquet",
        "items.parquet",
    ]


def test_the_ten_largest_second_levels_and_the_rest(imported: Imported) -> None:
    # Of items 0 to 25 each subject has two; item 3 has no second level, so subject 3 has one.
    named = [f"Subject {number:02}" for number in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)]
    assert imported.categories == {"Other": 6, **dict.fromkeys(named, 2)}
    items = pl.read_parquet(imported.config.parent / "items.parquet")
    assert items.filter(category="Other")["item_id"].to_list() == [
        ITEMS[n] for n in (3, 11, 12, 16, 24, 25)
    ]


def test_prepare_takes_the_configuration_as_it_is(imported: Imported) -> None:
    data = dt.prepare(imported.config, progress=False)
    # The 5-core keeps six users and the 26 items that they have all rated.
    assert data.offsets.tolist() == [0, *range(0, 157, 26)]
    assert data.item_vocabulary.values.to_list() == list(ITEMS[:26])
    assert len(data.category_vocabulary) == 12
    split = data.leave_last_out()
    assert split.test.event_count == 6
    assert set(data.items[split.test.start[1:]].tolist()) == {26}
    assert int(data.times[0]) == START * 1_000_000
    assert [feature.name for feature in data.schema.item_features] == [
        "category",
        "categories",
        "brand",
        "price",
    ]


def test_plain_and_gzipped_files_are_the_same(imported: Imported, tmp_path: Path) -> None:
    other = run(tmp_path, ratings="ratings_Books.csv.gz", metadata="meta_Books.json")
    for name in ("interactions", "items"):
        first = pl.read_parquet(imported.config.parent / f"{name}.parquet")
        assert first.equals(pl.read_parquet(other.config.parent / f"{name}.parquet"))


def test_without_metadata_there_are_no_categories(tmp_path: Path) -> None:
    ratings = write_2014_ratings(tmp_path / "ratings_Books.csv")
    imported = import_amazon_2014([ratings], tmp_path / "out", progress=False)
    assert imported.categories == {}
    data = dt.prepare(imported.config, progress=False)
    assert data.schema.category is None
    assert data.item_count == 27


def test_what_is_there_is_replaced_only_on_request(tmp_path: Path) -> None:
    run(tmp_path)
    ratings = tmp_path / "ratings_Books.csv"
    with pytest.raises(ConfigError, match=r"interactions\.parquet exists; .*--overwrite"):
        import_amazon_2014([ratings], tmp_path / "out", progress=False)
    again = import_amazon_2014([ratings], tmp_path / "out", overwrite=True, progress=False)
    assert not (tmp_path / "out" / "items.parquet").exists()
    assert dt.prepare(again.config, progress=False).query_count == 7
    with pytest.raises(ConfigError, match=r"ratings_Books\.csv: is a file; name a folder"):
        import_amazon_2014([ratings], ratings, progress=False)


def test_a_failed_import_leaves_nothing_and_the_old_one_whole(tmp_path: Path) -> None:
    bad = write(tmp_path / "ratings_Bad.csv", "a,b,5.0,1300000000\na,c,5.0\n")
    with pytest.raises(DataError):
        import_amazon_2014([bad], tmp_path / "out", progress=False)
    assert list((tmp_path / "out").iterdir()) == []
    shutil.rmtree(tmp_path / "out")
    imported = run(tmp_path)
    with pytest.raises(DataError):
        import_amazon_2014([bad], tmp_path / "out", overwrite=True, progress=False)
    assert dt.prepare(imported.config, progress=False).query_count == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A,0,5.0,1300000000\nA,1,4.0\n", r"line 2 has 3 fields between ','; there should be 4"),
        ("A,0,5.0,1300000000\n,1,4.0,1300000000\n", "line 2, column 'user_id': '' is empty"),
        ("A,0,five,1300000000\n", "line 1, column 'rating': 'five' is not a number of stars"),
        ("A,0,9,1300000000\n", "line 1, column 'rating': '9' is not a number of stars, 0 to 5"),
        ("A,0,5.0,1300000000000\n", "line 1, column 'timestamp': .* is not a time in seconds"),
        ("A,0,5.0,1300000000\nA,1,4.0,130\n", "line 2, column 'timestamp': '130' is not a time"),
        ("userId,item,rating,timestamp\n", "line 1, column 'rating': 'rating' is not a number"),
        ("", r"is empty \(0 bytes\)"),
    ],
)
def test_bad_ratings_are_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "ratings_Books.csv", text)
    with pytest.raises(DataError, match=r"ratings_Books\.csv: " + message):
        import_amazon_2014([path], tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'asin': '0000X', 'categories': [['Books'", "line 1 cannot be read: not a Python"),
        ('{"asin": "0000X", "title": null}', "line 1 cannot be read: malformed node"),
        ("{'asin': '0000X', 'categories': 'Books'}", "line 1 .*'categories' is not a list"),
        ("{'asin': '0000X', 'categories': [[1]]}", "line 1 .*does not hold a list of texts"),
        ("{'reviewerID': 'A', 'asin': '0000X'}", "no line has 'categories'; is it the metadata"),
        ("{'asin': 'ZZZ', 'categories': [['Toys']]}", "none of its items is rated"),
    ],
)
def test_bad_metadata_is_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    files = [write_2014_ratings(tmp_path / "r.csv"), write(tmp_path / "meta_Books.json", text)]
    with pytest.raises(DataError, match=r"meta_Books\.json: " + message):
        import_amazon_2014(files, tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["meta.json"],
            "the ratings: one file that ends in .csv or .csv.gz is needed; given: none",
        ),
        (["a.csv", "b.csv"], "the ratings: .* given: a.csv, b.csv"),
        (["a.csv", "m.json", "n.json"], "the metadata: .* given: m.json, n.json"),
        (["a.csv", "b.parquet"], r"b\.parquet: not a known kind of file"),
        (["a.csv"], r"a\.csv: no such file"),
    ],
)
def test_files_that_are_not_the_right_ones_are_refused(
    tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        import_amazon_2014([tmp_path / name for name in names], tmp_path / "out", progress=False)


def test_ratings_with_the_item_first_are_refused(tmp_path: Path) -> None:
    """As the release of 2018 has them."""
    path = tmp_path / "Books.csv"
    path.write_text("".join(f"000171365{n},A1YJEY40YUW4S{n},5.0,13{n}\n" for n in range(9)))
    with pytest.raises(DataError, match=r"looks like items \('0001713650'\).*swap"):
        import_amazon_2014([path], tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "dualtower.toml").exists()


def test_a_damaged_archive_of_ratings_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ratings_Books.csv.gz"
    write_2014_ratings(path)
    content = bytearray(path.read_bytes())
    content[30:60] = b"\xff" * 30
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"ratings_Books\.csv\.gz"):
        import_amazon_2014([path], tmp_path / "out", progress=False)
