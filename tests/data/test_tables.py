import errno
import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from dualtower.data.tables import open_table, reading, require_columns, writing
from dualtower.errors import DataError

FRAME = pl.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"]})


def read(source: Any, **options: Any) -> pl.DataFrame:
    return open_table(source, "interactions", **options).frame.collect()


def test_parquet_csv_tsv_and_gzip_give_the_same_rows(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "a.parquet")
    FRAME.write_csv(tmp_path / "a.csv")
    FRAME.write_csv(tmp_path / "b.csv", separator=";")
    FRAME.write_csv(tmp_path / "a.tsv", separator="\t")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    for name in ("a.parquet", "a.csv", "b.csv", "a.tsv", "c.csv.gz"):
        assert read(tmp_path / name).equals(FRAME), name


def test_parquet_is_known_by_its_content_too(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "part-0")
    assert read(tmp_path / "part-0").equals(FRAME)


@pytest.mark.parametrize("pattern", ["log", "log/*.parquet", "log/**/*.parquet"])
def test_folder_and_glob_read_all_files_by_name(tmp_path: Path, pattern: str) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    FRAME[1:].write_parquet(folder / "2.parquet")
    FRAME[:1].write_parquet(folder / "1.parquet")
    (folder / "_SUCCESS").touch()
    (folder / ".hidden").touch()
    assert read(tmp_path / pattern).equals(FRAME)


def test_files_of_one_table_may_differ_in_integer_width_and_column_order(tmp_path: Path) -> None:
    FRAME[:1].write_parquet(tmp_path / "1.parquet")
    narrow = FRAME[1:].select(pl.col("item_id"), pl.col("user_id").cast(pl.Int32))
    narrow.write_parquet(tmp_path / "2.parquet")
    assert read(tmp_path).equals(FRAME)


def test_frames_in_memory(tmp_path: Path) -> None:
    sources = [FRAME, FRAME.lazy(), FRAME.to_arrow(), FRAME.to_pandas()]
    for source in sources:
        assert read(source)["user_id"].to_list() == [1, 2]
        assert read(source)["item_id"].to_list() == ["a", "b"]


def test_csv_types_come_from_all_rows_and_leading_zeros_of_ids_are_kept(tmp_path: Path) -> None:
    late = [str(number) for number in range(20_000)] + ["x1"]
    pl.DataFrame({"user_id": late}).write_csv(tmp_path / "late.csv")
    assert read(tmp_path / "late.csv")["user_id"].to_list() == late
    (tmp_path / "zeros.csv").write_text("user_id,size\n10,01\n007,02\n0,3\n")
    kept = read(tmp_path / "zeros.csv", id_columns=["user_id"])
    assert kept["user_id"].to_list() == ["10", "007", "0"]
    assert kept["size"].to_list() == [1, 2, 3]


def test_csv_ids_that_are_no_numbers_of_64_bits_are_kept_as_texts(tmp_path: Path) -> None:
    long = ["108000000000000000001", "108000000000000000002"]
    (tmp_path / "1.csv").write_text("user_id,item_id,price\n" + f"{long[0]},1e5,1e5\n")
    (tmp_path / "2.csv").write_text("user_id,item_id,price\n" + "7,12,2.5\n" + f"{long[1]},3,1\n")
    (tmp_path / "3.csv").write_text("user_id,item_id,price\n" + "8,9,3\n")
    kept = read(tmp_path, id_columns=["user_id", "item_id"])
    assert kept["user_id"].to_list() == [long[0], "7", long[1], "8"]
    assert kept["item_id"].to_list() == ["1e5", "12", "3", "9"]
    assert kept["price"].to_list() == [100_000, 2.5, 1, 3]
    (tmp_path / "4.csv").write_text("user_id\n1.0\n2.0\n")
    assert read(tmp_path / "4.csv", id_columns=["user_id"])["user_id"].to_list() == [1.0, 2.0]


def test_csv_files_of_one_table_share_their_types(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("user_id,price\n1,2\n")
    (tmp_path / "2.csv").write_text("user_id,price\nx,2.5\n")
    both = read(tmp_path)
    assert both["user_id"].to_list() == ["1", "x"]
    assert both["price"].to_list() == [2.0, 2.5]


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv: no such file, folder or glob"):
        open_table(tmp_path / "nothing.csv", "interactions")
    with pytest.raises(DataError, match=r"or glob for the interactions table$"):
        open_table(tmp_path / "nothing.csv", "interactions")
    with pytest.raises(DataError, match=r"or glob for the table$"):
        open_table(tmp_path / "nothing.csv", "table")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: the folder .* holds no files"):
        open_table(tmp_path / "empty", "items")


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"is empty \(0 bytes\); the interactions table needs"):
        open_table(tmp_path / name, "interactions")


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id\n")
    FRAME.clear().write_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(DataError, match="has no rows"):
            open_table(tmp_path / name, "interactions")
    with pytest.raises(DataError, match="has no columns"):
        open_table(pl.DataFrame(), "interactions")


def test_truncated_foreign_and_damaged_parquet(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pl.DataFrame({"user_id": range(1000)}).write_parquet(whole)
    content = whole.read_bytes()
    (tmp_path / "short.parquet").write_bytes(content[:-20])
    (tmp_path / "text.parquet").write_text("user_id,item_id\n1,2\n")
    (tmp_path / "damaged.parquet").write_bytes(content[:-60] + b"\xff" * 50 + content[-10:])
    with pytest.raises(DataError, match=r"short\.parquet: is a truncated Parquet file"):
        open_table(tmp_path / "short.parquet", "interactions")
    with pytest.raises(DataError, match=r"text\.parquet: is not a Parquet file"):
        open_table(tmp_path / "text.parquet", "interactions")
    with pytest.raises(DataError, match=r"damaged\.parquet: cannot be read"):
        open_table(tmp_path / "damaged.parquet", "interactions")


def test_truncated_gzip_and_binary_text(tmp_path: Path) -> None:
    packed = gzip.compress(("user_id\n" + "1\n" * 5000).encode())
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01\n\x80\n")
    for name in ("a.csv.gz", "b.csv"):
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            open_table(tmp_path / name, "interactions")


def test_mixed_folder_and_unknown_kind(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "a.parquet")
    FRAME.write_csv(tmp_path / "b.csv")
    with pytest.raises(DataError, match=r"different formats \(\.csv, \.parquet\)"):
        open_table(tmp_path, "interactions")
    (tmp_path / "a.xlsx").write_bytes(b"PK..")
    with pytest.raises(DataError, match=r"a\.xlsx: not a known kind of table"):
        open_table(tmp_path / "a.xlsx", "interactions")


def test_files_with_other_columns(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "1.parquet")
    FRAME.rename({"item_id": "movie"}).write_parquet(tmp_path / "2.parquet")
    with pytest.raises(DataError, match=r"2\.parquet: its columns differ .* in item_id, movie"):
        open_table(tmp_path, "interactions")


def test_files_with_types_that_do_not_go_together(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "1.parquet")
    FRAME.with_columns(user_id=pl.lit("x")).write_parquet(tmp_path / "2.parquet")
    assert read(tmp_path)["user_id"].to_list() == ["1", "2", "x", "x"]
    FRAME.with_columns(user_id=pl.concat_list("user_id")).write_parquet(tmp_path / "2.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        open_table(tmp_path, "interactions")


def test_things_that_are_no_tables() -> None:
    with pytest.raises(DataError, match="a list is not a table"):
        open_table([1, 2], "interactions")
    mixed = pd.DataFrame({"user_id": [1, "a", 2.5]})
    with pytest.raises(DataError, match="a column cannot be converted"):
        open_table(mixed, "interactions")


def test_missing_column_names_the_nearest_and_all_there_are() -> None:
    table = open_table(FRAME.rename({"user_id": "userid"}), "interactions")
    with pytest.raises(DataError, match="no column 'user_id'") as caught:
        require_columns(table, {"columns.query_id": "user_id"})
    message = str(caught.value)
    assert "did you mean 'userid'?" in message
    assert "The columns are: userid, item_id. Set columns.query_id" in message
    with pytest.raises(DataError, match=r"no column 'q' \(ids\)\. The columns .*\. Name it ids\."):
        require_columns(table, {"ids": "q"}, remedy="Name it {purpose}.")


@pytest.mark.parametrize(
    "error",
    [
        pl.exceptions.ComputeError("IO error: No space left on device (os error 28)"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
    ids=type,
)
def test_a_full_disk_is_told_as_such(error: Exception) -> None:
    for into, name in ((None, None), (Path("scratch"), "scratch")):
        with (
            pytest.raises(OSError, match="No space left on device") as caught,
            reading("log.csv", into=into),
        ):
            raise error
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, name)


def test_other_errors_of_reading_and_writing() -> None:
    for error in (OSError(errno.EIO, "broken"), pl.exceptions.ComputeError("gone (os error 2)")):
        with pytest.raises(DataError, match=r"log\.csv: cannot be read"), reading("log.csv"):
            raise error
    with pytest.raises(OSError, match=r"out\.parquet: odd"), writing(Path("out.parquet")):
        raise pl.exceptions.ComputeError("odd")
