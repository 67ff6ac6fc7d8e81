"""The commands from tables to recommendations, as a user types them."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from dualtower.cli import app
from dualtower.retrieval.bundle import Bundle
from dualtower.studies.run import fit_model
from tests.synthetic import category_of, interactions, write_tables
from tools.commands_page import commands


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_json(*arguments: str | Path) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which init and fit have been run."""
    folder = tmp_path_factory.mktemp("run")
    tables = write_tables(folder)
    made = run("init", *tables, "--output", folder / "dualtower.toml")
    assert made.exit_code == 0, made.stderr
    assert "fit" in made.stdout
    fitted = run("fit", folder / "dualtower.toml", "--epochs", "2")
    assert fitted.exit_code == 0, fitted.stderr
    assert "Preparing the dataset" in fitted.stderr
    return folder


def test_fit_reports_its_epochs_and_its_index(folder: Path) -> None:
    found = run_json(
        "fit", folder / "dualtower.toml", "--epochs", "1", "--bundle", folder / "other"
    )
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1]
    assert found["model"] == "dat"
    assert found["fitted_on"] == "train"
    assert found["bundle"]["counts"]["corpus"] == 40
    assert (folder / "other" / "manifest.json").is_file()


def test_prepare_counts_what_it_read(folder: Path) -> None:
    found = run_json("prepare", folder / "dualtower.toml")
    assert (found["queries"], found["items"], found["events"]) == (60, 40, 480)
    assert found["categories"] == 4


def test_evaluate_names_every_baseline_and_says_who_is_better(folder: Path) -> None:
    found = run_json("evaluate", folder / "dualtower.toml")
    assert list(found["models"]) == ["dat", "popularity", "item_knn"]
    assert found["models"]["dat"]["queries"] == 60
    assert [(row["baseline"], row["metric"]) for row in found["differences"]] == [
        ("popularity", "mrr"),
        ("popularity", "hit_rate@50"),
        ("item_knn", "mrr"),
        ("item_knn", "hit_rate@50"),
    ]
    for row in found["differences"]:
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["verdict"].startswith("dat ")
    # Two of a user's ten items are left at the test: whatever knows the category is far above
    # popularity's one in some thirty-three.
    assert found["models"]["item_knn"]["metrics"]["mrr"] > 0.5
    assert found["models"]["popularity"]["metrics"]["mrr"] < 0.3


def test_evaluate_trains_its_baseline_as_long_as_the_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = folder / "dualtower.toml"
    trained = config.with_name("with-two-tower.toml")
    trained.write_text(
        config.read_text(encoding="utf-8").replace(
            "[evaluation]\n", '[evaluation]\nbaselines = ["two_tower"]\n'
        ),
        encoding="utf-8",
    )
    bundle = ("--bundle", folder / "short")
    made = run("fit", trained, "--epochs", "1", "--seed", "7", *bundle)
    assert made.exit_code == 0, made.stderr
    fitted = []
    monkeypatch.setattr(
        "dualtower.studies.measure.fit_model",
        lambda name, config, *rest, **more: (
            fitted.append((name, config.training.epochs, config.training.seed))
            or fit_model(name, config, *rest, **more)
        ),
    )
    run_json("evaluate", trained, *bundle)
    assert fitted == [("two_tower", 1, 7)]


def test_evaluate_writes_a_report(folder: Path) -> None:
    result = run("evaluate", folder / "dualtower.toml", "--report", folder / "report")
    assert result.exit_code == 0, result.stderr
    assert "item_knn" in result.stdout
    assert "<!doctype html>" in (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))


def test_evaluate_refuses_events_that_the_model_was_fitted_on(folder: Path) -> None:
    config = folder / "dualtower.toml"
    everything = folder / "everything"
    assert run("fit", config, "--on", "all", "--epochs", "1", "--bundle", everything).exit_code == 0
    refused = run("evaluate", config, "--bundle", everything)
    assert refused.exit_code == 2
    assert "fitted on all events, the test events among them" in refused.stderr
    later = folder / "later"
    fit = run("fit", config, "--on", "train+validation", "--epochs", "1", "--bundle", later)
    assert fit.exit_code == 0, fit.stderr
    refused = run("evaluate", config, "--bundle", later, "--on", "validation")
    assert refused.exit_code == 2
    assert "fit with --on train first" in refused.stderr
    assert run("evaluate", config, "--bundle", later).exit_code == 0


def test_evaluate_refuses_a_bundle_from_an_earlier_split(folder: Path) -> None:
    text = (folder / "dualtower.toml").read_text(encoding="utf-8")
    changed = folder / "changed.toml"
    by_time = '[split]\nby = "time"\ntest_days = 5\nvalidation_days = 1\n'
    head, tail = text.split("[split]")
    changed.write_text(head + by_time + "\n[" + tail.split("\n[", 1)[1], encoding="utf-8")
    refused = run("evaluate", changed)
    assert refused.exit_code == 2
    assert "or the split was changed since" in refused.stderr


def test_evaluate_refuses_a_bundle_of_other_features(folder: Path) -> None:
    text = (folder / "dualtower.toml").read_text(encoding="utf-8")
    changed = folder / "features.toml"
    other, count = re.subn(r"(?ms)^item_features = \[.*?^\]", "", text)
    assert count == 1
    changed.write_text(other, encoding="utf-8")
    refused = run("evaluate", changed)
    assert refused.exit_code == 2
    assert "fitted on other features than the configuration now gives (item/" in refused.stderr
    assert run("prepare", folder / "dualtower.toml").exit_code == 0


def test_recommend_gives_n_unseen_items(folder: Path) -> None:
    found = run_json("recommend", folder / "bundle", "--query", "u7", "--query", "u8", "-n", "5")
    rows = pl.DataFrame(found["recommendations"])
    assert rows["user_id"].to_list() == ["u7"] * 5 + ["u8"] * 5
    assert rows["rank"].to_list() == [1, 2, 3, 4, 5] * 2
    trained = interactions().filter(pl.col("user_id") == "u7")["item_id"][:-2]
    assert not set(rows["item_id"][:5]) & set(trained)


def test_recommend_within_a_category(folder: Path) -> None:
    found = run_json("recommend", folder / "bundle", "--query", "u7", "--category", "c2", "-n", "3")
    assert {category_of(row["item_id"]) for row in found["recommendations"]} == {"c2"}


def test_recommend_includes_seen_items_on_request(folder: Path) -> None:
    options = ("--query", "u7", "-n", "40", "--include-seen")
    found = run_json("recommend", folder / "bundle", *options)
    assert sorted(row["item_id"] for row in found["recommendations"]) == list(range(1, 41))


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_recommend_for_all_writes_what_python_gives(folder: Path, name: str) -> None:
    found = run_json("recommend", folder / "bundle", "--all", "-n", "3", "--output", folder / name)
    assert found == {"output": str(folder / name), "rows": 180}
    read = pl.read_parquet if name.endswith("parquet") else pl.read_csv
    bundle = Bundle.load(folder / "bundle")
    expected = bundle.recommend(bundle.encoder.query_vocabulary.values, n=3)
    written = read(folder / name)
    assert written.drop("score", "rank").equals(expected.drop("score", "rank"))
    assert written["score"].to_list() == pytest.approx(expected["score"].to_list())


def test_recommend_for_the_queries_of_a_file(folder: Path) -> None:
    pl.DataFrame({"user_id": ["u3", "new"]}).write_csv(folder / "who.csv")
    options = ("--queries", folder / "who.csv", "-n", "2")
    found = run_json("recommend", folder / "bundle", *options)
    assert [row["user_id"] for row in found["recommendations"]] == ["u3", "u3", "new", "new"]


def test_similar_items_leave_the_item_itself_out(folder: Path) -> None:
    found = run_json("similar", folder / "bundle", "--item", "9", "-n", "4")
    rows = found["similar_items"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert 9 not in [row["item_id"] for row in rows]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("dualtower.toml", "configuration"), ("dataset", "dataset"), ("bundle", "bundle")],
)
def test_inspect_says_what_it_is(folder: Path, name: str, kind: str) -> None:
    found = run_json("inspect", folder / name)
    assert found["kind"] == kind
    shown = run("inspect", folder / name)
    assert shown.exit_code == 0
    assert kind in shown.stdout


def test_a_dataset_is_prepared_again_only_when_tables_or_columns_changed(folder: Path) -> None:
    again = run("fit", folder / "dualtower.toml", "--epochs", "1", "--bundle", folder / "other")
    assert "Preparing" not in again.stderr
    text = (folder / "dualtower.toml").read_text(encoding="utf-8")
    more = folder / "more.toml"
    more.write_text(text.replace("# min_item_events = 1", "min_item_events = 2"), encoding="utf-8")
    again = run("fit", more, "--epochs", "1", "--bundle", folder / "other")
    assert "columns or filter were changed" in again.stderr
    assert run("prepare", folder / "dualtower.toml").exit_code == 0


def test_a_query_that_is_not_known_is_told_from_one_that_is(folder: Path) -> None:
    known = run("recommend", folder / "bundle", "--query", "u1", "-n", "2")
    assert "not known" not in known.stderr
    typing_error = run("recommend", folder / "bundle", "--query", "u1", "--query", "U2", "-n", "2")
    assert typing_error.exit_code == 0
    assert "Not known to the bundle: 1 of 2 queries (U2)." in typing_error.stderr
    named = [word for name in "abcd" for word in ("--query", name)]
    many = run("recommend", folder / "bundle", *named, "-n", "2")
    assert "4 of 4 queries (a, b, c, …)." in many.stderr


def test_fewer_items_than_asked_for_are_told(folder: Path) -> None:
    query = ("recommend", folder / "bundle", "--query", "nobody")
    assert "instead of" not in run(*query, "-n", "40").stderr
    assert "40 rows instead of 41:" in run(*query, "-n", "41").stderr
    written = run(*query, "-n", "1000", "--output", folder / "short.csv")
    assert "40 rows instead of 1,000:" in written.stderr


def test_a_file_of_queries_is_told_how_to_name_its_column(folder: Path) -> None:
    pl.DataFrame({"user": ["u3"]}).write_csv(folder / "misnamed.csv")
    wrong = run("recommend", folder / "bundle", "--queries", folder / "misnamed.csv")
    assert wrong.exit_code == 2
    assert "Rename the one that holds the ids to 'user_id'" in wrong.stderr


def test_inspect_writes_values_in_words(folder: Path) -> None:
    shown = run("inspect", folder / "dualtower.toml").stdout
    assert not {"None", "True", "False", "{}"} & set(shown.split())
    assert "name category, kind categorical, min_count 1" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "missing.toml"], "missing.toml: no such file"),
        (["fit", "dualtower.toml", "--on", "test"], "one of train, train+validation, all"),
        (["fit", "dualtower.toml", "--model", "svd"], "must be one of dat, two_tower"),
        (["evaluate", "dualtower.toml", "--on", "train"], "must be test or validation"),
        (["evaluate", "dualtower.toml", "--bundle", "none"], "`dualtower fit` writes it"),
        (["init", "none.csv", "--output", "none.toml"], "none.csv"),
        (["init", "events.parquet", "--output", "dualtower.toml"], "--overwrite"),
        (["recommend", "bundle"], "--query ID, --queries FILE or --all"),
        (["recommend", "bundle", "--all"], "--output"),
        (["recommend", "bundle", "--all", "--output", "out.txt"], "ends in .parquet or .csv"),
        (["recommend", "bundle", "--query", "u1", "--category", "none"], "none"),
        (["recommend", "none", "--query", "u1"], "no such folder"),
        (["similar", "bundle", "--item", "99"], "99"),
        (["inspect", "empty"], "neither a dataset nor a bundle"),
    ],
)
def test_bad_input_ends_with_a_message_and_status_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir(exist_ok=True)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_report_without_matplotlib_is_refused_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("evaluate", folder / "dualtower.toml", "--report", folder / "report")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: the report's plots need matplotlib: pip install 'dualtower[demo]'\n"
    )


def test_a_folder_that_cannot_be_written_ends_with_status_1(folder: Path) -> None:
    blocked = folder / "events.parquet" / "bundle"
    result = run("fit", folder / "dualtower.toml", "--epochs", "1", "--bundle", blocked)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_every_command_has_a_help_with_an_example() -> None:
    found = dict(commands(typer.main.get_command(app), "dualtower"))
    assert {name.removeprefix("dualtower ") for name in found} == {
        "init",
        "prepare",
        "fit",
        "serve",
        "experiment report",
        "experiment power",
        "experiment simulate",
        "evaluate",
        "recommend",
        "similar",
        "inspect",
        "quickstart",
        "study leak",
        "tune",
        "study table1",
        "study table2",
        "study figure2",
        "study factors",
        "study live",
        "import amazon-2014",
        "import amazon-2023",
        "import recbole",
    }
    for name in found:
        result = run(*name.split()[1:], "--help")
        assert result.exit_code == 0
        assert f"Example: {name}" in " ".join(result.stdout.split())
        assert "--json" in result.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [("", "training.checkpoint is not set in"), ('checkpoint = "kept"', "last whole epoch, which")],
)
def test_a_fit_that_is_stopped_says_what_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dualtower.studies.run.fit_bundle", stop)
    text = (folder / "dualtower.toml").read_text(encoding="utf-8")
    config = folder / "stopped.toml"
    config.write_text(text.replace('# checkpoint = ""  (not set)', line), encoding="utf-8")
    stopped = run("fit", config)
    assert stopped.exit_code == 130
    assert words in stopped.stderr
    assert "stopped before it was done" in stopped.stderr
    assert "Traceback" not in stopped.stderr
