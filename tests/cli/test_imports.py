"""The import commands, as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dualtower.cli import app
from tests.data.readers.raw import (
    write_2014_metadata,
    write_2014_ratings,
    write_2023_metadata,
    write_2023_ratings,
)
from tests.data.readers.test_recbole import write_files
from tests.studies.runs import work_here


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_json(*arguments: str | Path) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_amazon_2014_is_imported_prepared_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_2014_ratings(Path("ratings_Books.csv"))
    write_2014_metadata(Path("meta_Books.json.gz"))
    files = ("ratings_Books.csv", "meta_Books.json.gz")
    found = run_json("import", "amazon-2014", *files, "--folder", "books")
    assert found["rows"] == {"interactions": 162, "items": 28}
    assert found["categories"]["Other"] == 6
    config = found["config"]
    assert config == "books/dualtower.toml"
    assert run_json("prepare", config)["events"] == 156
    options = ("--models", "item_knn,popularity", "--results", "results/books.json")
    work_here(monkeypatch)
    table = run_json("study", "table2", config, *options)
    assert [row["model"] for row in table["runs"]] == ["item_knn", "popularity"]


def test_amazon_2023_says_what_it_did(tmp_path: Path) -> None:
    ratings = write_2023_ratings(tmp_path / "Books.csv")
    metadata = write_2023_metadata(tmp_path / "meta_Books.jsonl")
    result = run("import", "amazon-2023", ratings, metadata, "--folder", tmp_path / "books")
    assert result.exit_code == 0, result.stderr
    assert "162 ratings of Books.csv" in result.stdout
    assert "Subject 0" in result.stdout
    assert f"Next: dualtower prepare {tmp_path / 'books' / 'dualtower.toml'}" in result.stdout


def test_recbole_is_imported_and_prepared(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "small")
    options = ("--folder", tmp_path / "out", "--category", "genre")
    found = run_json("import", "recbole", folder, *options)
    assert found["rows"] == {"interactions": 72, "items": 12, "queries": 6}
    assert run_json("prepare", found["config"])["categories"] == 4


def test_a_bad_file_ends_with_a_message_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("A,0,5.0,1300000000\nA,1\n")
    result = run("import", "amazon-2014", tmp_path / "ratings.csv", "--folder", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "ratings.csv: line 2 has 2 fields" in result.stderr
