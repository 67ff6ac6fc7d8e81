from pathlib import Path

import polars as pl
import pytest

from dualtower.data.profiles import ITEM_WORDS, QUERY_WORDS, profile_tables, word_score, words
from dualtower.errors import DataError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user_id", ("user", "id")),
        ("movieId", ("movie", "id")),
        ("reviewerID", ("reviewer", "id")),
        ("userid", ("user", "id")),
        ("Products", ("product",)),
        ("parent-asin", ("parent", "asin")),
        ("uid", ("uid",)),
    ],
)
def test_words_of_a_name(name: str, expected: tuple[str, ...]) -> None:
    assert words(name) == expected


def test_an_id_column_fits_better_than_a_mere_mention() -> None:
    assert word_score(("user", "id"), QUERY_WORDS) > word_score(("user", "type"), QUERY_WORDS) > 0
    assert word_score(("item", "id"), QUERY_WORDS) == 0
    assert word_score(("asin",), ITEM_WORDS) > 0


def test_a_folder_of_like_files_is_one_table_and_of_unlike_ones_several(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": [1, 1], "item_id": [2, 3]})
    log.write_parquet(tmp_path / "1.parquet")
    log.write_parquet(tmp_path / "2.parquet")
    (tmp_path / "README.md").write_text("about")
    assert [profile.rows for profile in profile_tables([tmp_path / "*.parquet"])] == [4]
    (profile,) = profile_tables([tmp_path])
    assert (profile.rows, profile.path) == (4, str(tmp_path / "*.parquet"))
    log.drop("user_id").write_parquet(tmp_path / "3.parquet")
    profiles = profile_tables([tmp_path])
    assert [Path(profile.path).name for profile in profiles] == [
        "1.parquet",
        "2.parquet",
        "3.parquet",
    ]
    user = profiles[0].column("user_id")
    assert (user.filled, user.distinct, user.unique) == (2, 1, False)
    assert profiles[0].column("item_id").unique


def test_a_folder_of_folders_is_a_table_each(tmp_path: Path) -> None:
    for name, columns in (("log", ["user_id", "item_id"]), ("items", ["item_id", "brand"])):
        (tmp_path / name).mkdir()
        for part in range(2):
            frame = pl.DataFrame({column: [part] for column in columns})
            frame.write_parquet(tmp_path / name / f"{part}.parquet")
    profiles = profile_tables([tmp_path])
    assert [(profile.path, profile.name, profile.rows) for profile in profiles] == [
        (str(tmp_path / "items" / "*.parquet"), "items", 2),
        (str(tmp_path / "log" / "*.parquet"), "log", 2),
    ]


def test_a_folder_is_named_itself_where_no_glob_stands_for_its_tables(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": [1, 1], "item_id": [2, 3]})
    for day in ("day=1", "day=2"):
        (tmp_path / "log" / day).mkdir(parents=True)
        log.write_csv(tmp_path / "log" / day / "part.csv")
    (profile,) = profile_tables([tmp_path / "log"])
    assert (profile.path, profile.name) == (str(tmp_path / "log" / "**" / "*.csv"), "log")
    (tmp_path / "log" / "_old").mkdir()
    log.write_csv(tmp_path / "log" / "_old" / "part.csv")
    (profile,) = profile_tables([tmp_path / "log"])
    assert (profile.path, profile.rows) == (str(tmp_path / "log"), 4)


def test_nothing_to_profile(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tables given"):
        profile_tables([])
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(DataError, match="holds no Parquet, CSV or TSV file"):
        profile_tables([tmp_path])
