"""The experiment commands, as a user types them."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from dualtower.cli import app


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["experiment", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment") / "week"
    found = run(
        *("simulate", "--queries", "1500", "--days", "3", "--clicks", "0.4", "--json"),
        *("--output", folder),
    )
    assert found.exit_code == 0, found.stderr
    (folder / "report.json").write_text(found.stdout)
    return folder


def test_a_simulated_log_gives_the_simulations_report(week: Path, tmp_path: Path) -> None:
    files = (week / "experiment.toml", week / "events.parquet")
    chart = tmp_path / "chart.svg"
    found = run("report", *files, "--before", week / "before.parquet", "--chart", chart, "--json")
    assert found.exit_code == 0, found.stderr
    mine, simulated = json.loads(found.stdout), json.loads((week / "report.json").read_text())
    assert chart.read_text().startswith("<?xml")
    for one, other in zip(mine["decisive"], simulated["decisive"], strict=True):
        assert one["lift"] == pytest.approx(other["lift"])
        assert one["low"] == pytest.approx(other["low"])
    assert mine["crossed"] == simulated["crossed"]


def test_the_report_in_words(week: Path) -> None:
    found = run("report", week / "experiment.toml", week / "events.parquet")
    assert found.exit_code == 0, found.stderr
    assert "sample ratio ok" in found.stdout
    assert "- treatment against control, CTR: +" in found.stdout
    assert "2024-05-08" in found.stdout


def test_the_report_is_said_where_there_is_no_chart(week: Path, tmp_path: Path) -> None:
    events = pl.read_parquet(week / "events.parquet")
    events.filter(pl.col("kind") == "exposure").write_parquet(tmp_path / "shown.parquet")
    files = (week / "experiment.toml", tmp_path / "shown.parquet")
    found = run("report", *files, "--chart", tmp_path / "chart.svg")
    assert "sample ratio ok" in found.stdout
    assert "is not compared with control in CTR" in re.sub(r"\s+", " ", found.stdout)
    assert found.exit_code != 0
    assert "chart: nothing compares 'treatment' with" in re.sub(r"\s+", " ", found.stderr)


def test_guardrails_of_a_log_with_latencies(week: Path, tmp_path: Path) -> None:
    events = pl.read_parquet(week / "events.parquet")
    shown = pl.col("kind") == "exposure"
    slow = pl.when(pl.col("arm") == "control").then(0.002).otherwise(0.004)
    jitter = pl.int_range(pl.len()) % 7 / 10_000
    events.with_columns(
        latency=pl.when(shown).then(slow + jitter),
        asked=pl.when(shown).then(pl.col("value").cast(pl.Int64)),
    ).write_parquet(tmp_path / "timed.parquet")
    files = (week / "experiment.toml", tmp_path / "timed.parquet")
    found = run("report", *files)
    assert found.exit_code == 0, found.stderr
    assert "Guardrails, with 95% intervals" in found.stdout
    said = "- treatment against control, mean latency: 4.3[0-9]? ms against 2.[23][0-9]? ms"
    assert re.search(said, found.stdout)
    assert "short answers: 0 of " in found.stdout
    guarded = json.loads(run("report", *files, "--json").stdout)["guardrails"]
    verdicts = {one["metric"]: one["verdict"] for one in guarded["differences"]}
    assert verdicts["mean_latency"] == "worse"
    assert verdicts["errors"] == "no difference found"
    found = run("report", week / "experiment.toml", week / "events.parquet")
    assert "Guardrails" not in found.stdout
    assert "so there are no guardrails" in found.stdout


def test_lost_exposures_block_the_report_with_status_2(week: Path, tmp_path: Path) -> None:
    events = pl.read_parquet(week / "events.parquet")
    lost = (pl.col("arm") == "control") & (pl.col("query_id") % 3 == 0)
    events.filter(~lost).write_parquet(tmp_path / "lost.parquet")
    found = run("report", week / "experiment.toml", tmp_path / "lost.parquet", "--json")
    assert found.exit_code == 2
    report = json.loads(found.stdout)
    assert report["sample_ratio"]["verdict"] == "blocked"
    assert report["decisive"] == []
    found = run("report", week / "experiment.toml", tmp_path / "lost.parquet")
    assert found.exit_code == 2
    assert "- Blocked: the arms' queries differ from their weights" in found.stdout


def test_power_in_words_and_as_json(week: Path) -> None:
    files = (week / "experiment.toml", week / "events.parquet")
    found = run("power", *files, "--lift", "0.05")
    assert found.exit_code == 0, found.stderr
    assert "A lift of +5.00% is found with probability 80% by" in found.stdout
    found = run("power", *files, "--queries", "20000", "--metric", "gmv", "--json")
    assert json.loads(found.stdout)["queries"] == 20_000


def test_what_is_wrong_is_said(week: Path, tmp_path: Path) -> None:
    files = (week / "experiment.toml", week / "events.parquet")
    found = run("power", *files)
    assert found.exit_code == 2
    assert "either --lift or --queries" in found.stderr
    assert run("power", *files, "--lift", "0.1", "--metric", "views").exit_code == 2
    found = run("report", week / "experiment.toml", tmp_path / "none.parquet")
    assert found.exit_code == 2
    assert "no such file" in found.stderr
    found = run("simulate", "--clicks", "-1")
    assert found.exit_code == 2
    assert "lifts.treatment.clicks" in found.stderr
