import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dualtower.data.readers import records as module
from dualtower.data.readers.records import (
    Record,
    identifier,
    json_value,
    price,
    python_literal,
    text,
    texts,
    write_records,
)
from dualtower.errors import DataError

SCHEMA = {"id": pl.String(), "price": pl.Float64()}


def row(record: Record) -> tuple[Any, ...]:
    return identifier(record, "id"), price(record, "price")


def read(path: Path, parse: Any = python_literal) -> list[tuple[Any, ...]]:
    scratch = path.parent / "scratch"
    scratch.mkdir()
    frame = write_records(path, parse, row, SCHEMA, scratch, progress=False)
    return frame.collect().rows()


@pytest.mark.parametrize("compressed", [False, True])
def test_blocks_keep_the_order_of_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    monkeypatch.setattr(module, "BLOCK_RECORDS", 3)
    content = b"".join(b"{'id': 'i%d', 'price': %d}\n\n" % (n, n) for n in range(8))
    (tmp_path / "a").write_bytes(gzip.compress(content) if compressed else content)
    assert read(tmp_path / "a") == [(f"i{n}", float(n)) for n in range(8)]
    assert len(list((tmp_path / "scratch").iterdir())) == 3


def test_nothing_in_a_line_is_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    (tmp_path / "a").write_text(f"{{'id': open({str(target)!r}, 'w').name}}\n")
    with pytest.raises(DataError, match="a: line 1 cannot be read: malformed node"):
        read(tmp_path / "a")
    assert not target.exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{'id': 'b', 'pri", "line 2 cannot be read: not a Python literal"),
        (b"['id', 'b']", "line 2 cannot be read: a list, not a record with named values"),
        (b"{['id']: 1}", "line 2 cannot be read: not a Python literal: unhashable"),
        (b"(" * 5000, "line 2 cannot be read: not a Python literal: too many nested"),
        (b"-" * 100_000 + b"1", "line 2 cannot be read: not a Python literal"),
        (b"{'id': 'b\x00'}", "line 2 cannot be read"),
        (b"{'id': '\xff'}", "line 2 cannot be read: .*utf-8"),
        (b"{'id': " + b"9" * 5000 + b"}", "line 2 cannot be read"),
        (b"{'price': 1}", "line 2 cannot be read: it has no 'id'"),
        (b"{'id': ' '}", "line 2 cannot be read: it has no 'id'"),
        (b"{'id': ['b']}", "line 2 cannot be read: 'id' is a list; it should be a text"),
        (b"{'id': 'b', 'price': [1]}", "line 2 cannot be read: 'price' is a list"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(b"{'id': 'a'}\n" + line + b"\n{'id': 'c'}\n")
    with pytest.raises(DataError, match=f"a: {message}"):
        read(tmp_path / "a")


@pytest.mark.parametrize("line", [b'{"id": "b', b"NaN", b"[" * 100_000])
def test_a_line_that_is_not_json_is_named_by_its_number(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "a").write_bytes(b'{"id": "a"}\n' + line)
    with pytest.raises(DataError, match="a: line 2 cannot be read"):
        read(tmp_path / "a", json_value)


def test_a_truncated_or_damaged_gzip_is_refused(tmp_path: Path) -> None:
    lines = b"".join(b"{'id': 'i%d'}\n" % n for n in range(5000))
    content = gzip.compress(lines)
    damaged = content[:5000] + b"\xff\xff\xff" + content[5003:]
    for name, held in (("cut", content[:-500]), ("damaged", damaged), ("sum", content[:-9])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a").write_bytes(held)
        with pytest.raises(DataError, match=r"a: (damaged or truncated at line \d|line \d)"):
            read(folder / "a")


def test_an_empty_file_and_one_without_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(DataError, match=r"a: is empty \(0 bytes\)"):
        read(tmp_path / "a")
    (tmp_path / "scratch").rmdir()
    (tmp_path / "b").write_bytes(b"\n\n")
    with pytest.raises(DataError, match="b: has no records"):
        read(tmp_path / "b")


def test_a_file_without_lines_is_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_LINE", 20)
    (tmp_path / "a").write_bytes(b"{'id': 'a'}\n" + b"x" * 21)
    with pytest.raises(DataError, match="a: line 2 has more than 20 bytes"):
        read(tmp_path / "a")


def test_an_escape_that_python_warns_of_is_a_text(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "a").write_bytes(b"{'id': 'a\\d'}\n")
    assert read(tmp_path / "a") == [("a\\d", None)]
    assert len(recwarn) == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (9.5, 9.5),
        (3, 3.0),
        ("12.25", 12.25),
        ("from 14.99", None),
        ("—", None),
        (None, None),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
    ],
)
def test_a_price_is_a_number_or_none(value: Any, expected: float | None) -> None:
    assert price({"price": value}, "price") == expected


def test_texts_are_stripped_and_empty_ones_are_none() -> None:
    record = {"a": " x ", "b": "", "c": 7, "d": "half \ud800"}
    assert [text(record, key) for key in "abcde"] == ["x", None, "7", "half ?", None]
    assert texts([" x ", "", "y"], "a") == ["x", "y"]
    assert texts(None, "a") == []
    with pytest.raises(ValueError, match="'a' does not hold a list of texts"):
        texts(["x", 1], "a")
