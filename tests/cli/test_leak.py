"""The command that shows the label leak."""

import json
from pathlib import Path

import numpy as np
import polars as pl
from typer.testing import CliRunner

from dualtower.cli import app
from dualtower.evaluation.results import read_results


def test_leak_writes_its_results_and_prints_a_table(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    columns = {"user_id": random.integers(0, 40, 900), "item_id": random.integers(0, 20, 900)}
    table = pl.DataFrame({**columns, "rating": random.integers(1, 6, 900)})
    table.write_csv(tmp_path / "ratings.csv")
    results = tmp_path / "results" / "leak.json"
    command = ["study", "leak", "--data", str(tmp_path), "--seeds", "0,3"]
    shown = CliRunner().invoke(app, [*command, "--results", str(results)])
    assert shown.exit_code == 0, shown.stderr
    assert "| means_of_test_labels | " in shown.stdout
    printed = CliRunner().invoke(app, [*command, "--json"])
    written = read_results(results).model_dump(mode="json")
    metrics = [(run["model"], run["seed"], run["metrics"]) for run in written["runs"]]
    runs = json.loads(printed.stdout)["runs"]
    assert [(run["model"], run["seed"], run["metrics"]) for run in runs] == metrics


def test_seeds_are_whole_numbers(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["study", "leak", "--data", str(tmp_path), "--seeds", "a"])
    assert shown.exit_code == 2
    assert "--seeds: 'a' given" in shown.stderr
