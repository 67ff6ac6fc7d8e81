"""The study commands, as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dualtower.cli import app
from tests.studies.runs import small_study, work_here


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    work_here(monkeypatch)
    return tmp_path


def test_from_tuning_to_the_table(folder: Path) -> None:
    models = ("--models", "item_knn,ease,popularity", "--data", ".")
    tuned = run("tune", "small.toml", *models, "--trials", "2", "--json")
    assert tuned.exit_code == 0, tuned.stderr
    search = json.loads(tuned.stdout)
    assert list(search["best"]) == ["item_knn", "ease", "popularity"]
    assert (folder / "results" / "tuned-small.svg").is_file()
    options = (*models, "--tuned", "results/tuned-small.json", "--validation")
    table = run("study", "table2", "small.toml", *options)
    assert table.exit_code == 0, table.stderr
    assert "| item_knn |" in table.stdout
    assert "Wrote results/table2-small.json, table2-small.md and table2-small.svg" in table.stdout
    found = json.loads((folder / "results" / "table2-small.json").read_text(encoding="utf-8"))
    assert found["command"] == (
        "dualtower study table2 small.toml --models item_knn,ease,popularity --seeds 0 "
        "--validation --tuned results/tuned-small.json --data FOLDER "
        "--results results/table2-small.json"
    )
    for row in found["runs"]:
        trial = search["best"][row["model"]]["trial"]
        assert row["settings"] == search["tried"][row["model"]][trial]["settings"]


def test_the_other_studies_print_and_write(folder: Path) -> None:
    table = run("study", "table1", "small.toml", "--data", ".")
    assert "Wrote results/table1-small.json, table1-small.md" in table.stdout
    data = ("--data", ".", "--seeds", "0", "--json")
    figure = run("study", "figure2", "small.toml", "--dims", "4", "--forms", "learned", *data)
    runs = json.loads(figure.stdout)["runs"]
    assert [row["variation"] for row in runs] == ["", "learned, 4"]
    factors = run("study", "factors", "small.toml", "--factors", "query_id", *data)
    runs = json.loads(factors.stdout)["runs"]
    assert [row["variation"] for row in runs] == ["", "query_id: False", "query_id: True"]
    more = ("--factors", "query_id", "--noise-seeds", "1", *data)
    found = json.loads(run("study", "factors", "small.toml", *more).stdout)
    assert "--seeds 0 --noise-seeds 1 --factors query_id" in found["command"]
    assert [row["seed"] for row in found["runs"]] == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["study", "table2", "small.toml", "--seeds", "0,x"], "--seeds: '0,x' given"),
        (["study", "table2", "small.toml", "--models", "svd"], "no model 'svd'"),
        (["study", "table2", "small.toml", "--results", "x.txt"], "name a .json file"),
        (["study", "live", "small.toml", "--held-share", "2"], "between 0 and 1"),
        (["study", "live", "small.toml", "--counts", "0,1"], "whole numbers from 0, 5"),
        (["study", "table2", "none.toml"], "none.toml: no such file"),
        (["study", "table2", "small.toml", "--tuned", "none.json"], "`dualtower tune` writes it"),
        (["study", "figure2", "small.toml", "--dims", "wide"], "--dims: 'wide' given"),
        (["study", "factors", "small.toml", "--factors", "colour"], "no factor 'colour'"),
        (["study", "factors", "small.toml", "--noise-seeds", "a"], "--noise-seeds: 'a' given"),
        (
            ["study", "factors", "small.toml", "--model", "ease", "--noise-seeds", "1"],
            "--noise-seeds: ease has no seed",
        ),
        (["tune", "small.toml", "--pruning", "hard"], "it must be median or none"),
        (["tune", "small.toml", "--keep", "colour"], "no dimension 'colour'"),
        (["tune", "small.toml", "--try", "colour=red"], "--try: no dimension 'colour'"),
        (["tune", "small.toml", "--try", "epochs"], "'epochs' given; write dimension=value"),
        (["tune", "small.toml", "--try", "epochs=3;epochs=5"], "names a dimension twice"),
        (
            ["tune", "small.toml", "--try", "epochs=4"],
            "searched has epochs=4; epochs is one of 3; 5",
        ),
        (["tune", "small.toml", "--models", ","], "names no model"),
    ],
)
def test_bad_input_ends_with_a_message_and_status_2(
    folder: Path, arguments: list[str], words: str
) -> None:
    result = run(*arguments, "--data", ".")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: ") or "error: " in result.stderr
    assert words in result.stderr
    assert result.stdout == ""
