import gzip
import io
import zipfile
from pathlib import Path

import polars as pl
import pytest

from dualtower.data.readers.fields import (
    check_fields,
    check_file,
    open_fields,
    read_header,
    require_fields,
)
from dualtower.data.rules import Rule
from dualtower.errors import DataError

COLUMNS = ("user", "stars")
RULES = [Rule("stars", pl.col("stars").cast(pl.Int64, strict=False).is_null(), "is not a number")]


def read(path: Path, *, separator: str = ",", has_header: bool = False) -> list[tuple[str, ...]]:
    fields = open_fields(path, separator, COLUMNS, has_header=has_header)
    count = check_fields(fields, RULES)
    rows = fields.frame.select(COLUMNS).collect().rows()
    assert len(rows) == count
    return rows


@pytest.mark.parametrize(
    "content",
    [
        b'a,1\n"b,2\n',
        b'a,1\n"b,2',
        b'\xef\xbb\xbfa,1\r\n\r\n"b,2\r\n\r\n',
        gzip.compress(b'a,1\n"b,2\n'),
    ],
)
def test_lines_are_cut_at_the_separator_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert read(tmp_path / "a") == [("a", "1"), ('"b', "2")]


def test_a_separator_may_be_longer_than_a_character(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a:b::1\n")
    assert read(tmp_path / "a", separator="::") == [("a:b", "1")]


def test_a_header_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\ufeffuser,stars\r\na,1\n", encoding="utf-8")
    assert read_header(tmp_path / "a", ",") == ["user", "stars"]
    assert read(tmp_path / "a", has_header=True) == [("a", "1")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a: is empty \(0 bytes\)"),
        (b"\n\r\n", "a: has no rows"),
        (b"a,1\n\nb\n", "a: line 3 has 1 fields between ','; there should be 2: user, stars"),
        (b"a,1\nb,2,3\n", "a: line 2 has 3 fields"),
        (b"a,1\n\nb,x\nc,y\n", "a: line 3, column 'stars': 'x' is not a number"),
        (b"a,1\nb,2\n\xff\xfe,3\n", "a: line 3 is not text in UTF-8"),
        (gzip.compress(b"a,1\n\xff,3\n"), "a: line 2 is not text in UTF-8"),
        (gzip.compress(b"a,1\n" * 1000)[:-20], "a: cannot be read: .*truncated"),
    ],
)
def test_a_fault_is_named_by_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a")


def test_an_archive_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", "a,1\n")
    (tmp_path / "a.zip").write_bytes(archive.getvalue())
    with pytest.raises(DataError, match=r"a\.zip: is a zip archive; unpack it first"):
        check_file(tmp_path / "a.zip")
    with pytest.raises(DataError, match="b: no such file"):
        check_file(tmp_path / "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b,a\n", "line 1 names the column 'a' twice"),
        (b"\xff\n", "line 1 cannot be read"),
        (gzip.compress(b"a,b\n")[:-12], "line 1 cannot be read"),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_header(tmp_path / "a", ",")


def test_a_column_that_is_missing_is_named_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"a\.csv: line 1 names no column 'z' \(why\); .*: x, y"):
        require_fields(Path("a.csv"), {"why": "z"}, ["x", "y"])
