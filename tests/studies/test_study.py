import json
import os
from pathlib import Path

import numpy as np
import pytest

from dualtower.config import FilterConfig, SplitConfig
from dualtower.data.dataset import Dataset
from dualtower.data.splits import split
from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.evaluate import evaluate
from dualtower.studies import floors, orders
from dualtower.studies.run import (
    fit_model,
    load_or_prepare,
    load_prepared,
    prepared_from,
    without_traces,
)
from dualtower.studies.study import Entry, Study, measure
from dualtower.studies.tuned import Best, Trial, Tuned, read_tuned, write_tuned
from dualtower.studies.variants import configured
from tests.studies.runs import CONFIG, kill_after, small_study, work_here


def silent(line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return work_here(monkeypatch)


def test_models_with_a_seed_run_with_each_and_floors_once(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path)
    entries = [Entry(name) for name in ("two_tower", "item_knn", "popularity")]
    found = measure(plan, entries, silent)
    assert [(run.model, run.seed) for run in found.runs] == [
        ("two_tower", 0),
        ("two_tower", 1),
        ("item_knn", 0),
        ("popularity", 0),
    ]
    assert set(found.runs[2].settings) == {"neighbours", "shrinkage", "decay"}
    assert found.runs[3].settings == {}
    # Each user's two last items of ten of the own category are left for validation and test.
    assert found.runs[2].metrics["hit_rate@10"] == 1
    assert found.runs[2].segments["warm queries"]["count"] == 60
    assert "fitted on train and validation, measured on test" in found.results(plan, "x").protocol


def test_a_run_gives_what_fit_and_evaluate_give(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path, seeds=(1,))
    settings = {"training.learning_rate": 0.003, "model.history": False, "model.query_id": True}
    found = measure(plan, [Entry("two_tower", "slow", settings)], silent)
    config = configured(without_traces(plan.config()), "two_tower", settings, seed=1)
    assert config.training.learning_rate == 0.003
    parts = split(Dataset.load(config.data.dataset), config.split)
    model = fit_model("two_tower", config, parts, "train+validation")
    expected = evaluate(model, parts.test, config=config.evaluation)
    assert found.runs[0].metrics == expected.metrics
    assert found.runs[0].label == "two_tower, slow"
    values = found.values["two_tower, slow"]["mrr"]
    assert values.tolist() == expected.per_query["mrr"].tolist()


def test_a_solver_that_starts_at_random_runs_per_seed(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(floors._GRIDS, "wals", [{"factors": 4, "iterations": 2}])
    found = measure(small_study(tmp_path), [Entry("wals")], silent)
    assert [run.settings for run in found.runs] == [
        {"factors": 4, "iterations": 2, "seed": 0},
        {"factors": 4, "iterations": 2, "seed": 1},
    ]
    assert found.runs[0].metrics != found.runs[1].metrics


def test_values_per_query_are_averaged_over_seeds(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path, final=False)
    both = measure(plan, [Entry("two_tower")], silent)
    means = [run.metrics["mrr"] for run in both.runs]
    assert means[0] != means[1]
    assert both.values["two_tower"]["mrr"].mean() == pytest.approx(np.mean(means))
    assert "fitted on train, measured on validation" in both.results(plan, "x").protocol


def test_what_is_finished_is_not_run_again(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path)
    first = measure(plan, [Entry("popularity"), Entry("ease")], silent)
    assert done == ["popularity, seed 0", "ease, seed 0"]
    done.clear()
    said: list[str] = []
    again = measure(plan, [Entry("popularity"), Entry("ease"), Entry("item_knn")], said.append)
    assert done == ["item_knn, seed 0"]
    assert again.runs[:2] == first.runs
    assert f"2 runs are finished already, in {plan.folder / 'finished'}" in said


def test_entries_of_the_same_settings_run_once(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path, seeds=(0,))
    entries = [
        Entry("dat"),
        Entry("dat_without_cal"),
        Entry("dat", "as it is", {"training.epochs": 1}),
        Entry("dat_with_cal"),
    ]
    found = measure(plan, entries, silent)
    assert done == ["dat, seed 0", "dat_with_cal, seed 0"]
    labels = ["dat", "dat_without_cal", "dat, as it is", "dat_with_cal"]
    assert [run.label for run in found.runs] == labels
    assert found.runs[0].metrics == found.runs[1].metrics == found.runs[2].metrics
    assert found.runs[0].metrics != found.runs[3].metrics


def test_a_changed_configuration_does_not_take_old_runs(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path)
    measure(plan, [Entry("popularity")], silent)
    plan.config_path.write_text(f"{CONFIG}exclude_seen = false\n", encoding="utf-8")
    measure(plan, [Entry("popularity")], silent)
    assert done == ["popularity, seed 0"] * 2


def test_runs_of_other_code_are_named(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_study(tmp_path)
    measure(plan, [Entry("popularity")], silent)
    monkeypatch.setattr("dualtower.studies.study.code_fingerprint", lambda: "other")
    said: list[str] = []
    measure(plan, [Entry("popularity")], said.append)
    assert any("1 of them were made by other code" in line for line in said)


def test_a_model_that_refuses_the_data_stands_with_its_reason(
    tmp_path: Path, done: list[str]
) -> None:
    plan = small_study(tmp_path, seeds=(0,))
    nothing = {"model.history": False, "model.augmented": "none"}
    unknown = {"model.histories": 3}
    entries = [Entry("dat", "blind", nothing), Entry("dat", "odd", unknown), Entry("popularity")]
    found = measure(plan, entries, silent)
    assert [run.model for run in found.runs] == ["popularity"]
    assert [refusal.variation for refusal in found.refusals] == ["blind", "odd"]
    assert "the query tower has no input" in found.refusals[0].reason
    assert "model.histories: no such setting" in found.refusals[1].reason
    done.clear()
    measure(plan, entries, silent)
    assert done == ["dat, blind, seed 0"]  # the reason may be gone by now


def test_a_study_in_which_nothing_can_run_says_why(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path)
    entry = Entry("dat", "blind", {"model.history": False, "model.augmented": "none"})
    with pytest.raises(DataError, match=r"not one model could run:\n  dat: .*has no input"):
        measure(plan, [entry], silent)


def test_an_unknown_model_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model 'svd'; there are dat, dat_learned, .*ease"):
        measure(small_study(tmp_path), [Entry("svd")], silent)


def test_a_study_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no model, no seed or no job"):
        measure(small_study(tmp_path), [], silent)


def test_the_recorded_command_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    plan = small_study(tmp_path)
    plan = Study(**{**vars(plan), "config_path": Path("configs/small.toml")})
    assert plan.command("study table2", "--models dat,ease") == (
        "dualtower study table2 configs/small.toml --models dat,ease --data FOLDER "
        "--results results/small.json"
    )
    elsewhere = Study(**{**vars(plan), "config_path": tmp_path / "small.toml"})
    assert elsewhere.command("study table1").startswith("dualtower study table1 small.toml ")


def tuned_file(path: Path, checksum: str | None) -> Path:
    best = Best(
        settings={"model.history": False, "model.query_id": True},
        metric=0.5,
        as_configured=0.4,
        trial=3,
        trials=5,
        seconds=9.0,
    )
    floor = best.model_copy(update={"settings": {"regularization": 7.0}})
    as_it_stood = best.model_copy(update={"settings": {}, "trial": 0})
    first = Trial(number=0, state="complete", settings={"training.learning_rate": 0.0123})
    tuned = Tuned(
        command="tune",
        data={"name": "small", "sha256": checksum},  # type: ignore[arg-type]
        protocol="p",
        versions={},
        processor="p",
        metric="mrr",
        trials=5,
        minutes=1,
        seed=0,
        best={"dat": best, "ease": floor, "fm": as_it_stood},
        tried={"fm": (first,)},
    )
    write_tuned(path, tuned)
    return path


def test_tuned_settings_are_used_by_a_model_and_its_variants(
    tmp_path: Path, done: list[str]
) -> None:
    plan = small_study(tmp_path, seeds=(0,))
    files = measure(plan, [Entry("popularity")], silent).dataset.source["files"]
    tuned = tuned_file(tmp_path / "tuned.json", files["interactions"][0]["sha256"])
    plan = Study(**{**vars(plan), "tuned": tuned})
    entries = [Entry(name) for name in ("dat", "dat_learned", "ease", "fm", "popularity")]
    found = measure(plan, entries, silent)
    assert found.runs[0].settings == {"model.history": False, "model.query_id": True}
    assert found.runs[1].settings == found.runs[0].settings
    assert found.runs[2].settings == {"regularization": 7.0}
    # What stays as configured is the configuration that was searched, not that of today.
    assert found.runs[3].settings == {"training.learning_rate": 0.0123}
    assert "--tuned" in plan.command("study table2")


def test_what_was_tuned_on_other_data_is_refused(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path)
    plan = Study(**{**vars(plan), "tuned": tuned_file(tmp_path / "tuned.json", "00")})
    with pytest.raises(ConfigError, match="was tuned on other interactions"):
        measure(plan, [Entry("popularity")], silent)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "`dualtower tune` writes it"), ("{", "not valid JSON"), ("{}", "is not valid")],
)
def test_a_bad_file_of_tuned_settings_is_named(
    tmp_path: Path, done: list[str], content: str | None, words: str
) -> None:
    file = tmp_path / "tuned.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    plan = Study(**{**vars(small_study(tmp_path)), "tuned": file})
    with pytest.raises((ConfigError, DataError), match=words):
        measure(plan, [Entry("popularity")], silent)


def test_an_order_survives_its_json(tmp_path: Path) -> None:
    config = small_study(tmp_path).config()
    order = orders.Order(
        config=config,
        model="dat",
        settings={"model.hidden_dims": (16, 8), "model.history": True, "training.epochs": 3},
        seed=2,
        final=True,
    )
    again = orders.Order.model_validate_json(json.dumps(order.model_dump(mode="json")))
    assert again == order
    assert again.key({}) == order.key({})


def test_threads_and_traces_do_not_make_another_run(tmp_path: Path) -> None:
    config = small_study(tmp_path).config()
    order = orders.Order(config=config, model="dat", seed=0, final=True)
    changes = {"threads": 7, "checkpoint": "here", "tensorboard": "there"}
    training = config.training.model_copy(update=changes)
    other = order.model_copy(update={"config": config.model_copy(update={"training": training})})
    assert other.key({}) == order.key({})
    assert order.model_copy(update={"seed": 1}).key({}) != order.key({})
    assert order.key({"files": 1}) != order.key({})


def test_a_killed_study_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real kill of the command, with a run in a process of its own under way."""
    plan = small_study(tmp_path, seeds=(0,))
    options = ("--data", plan.data, "--work", plan.work, "--results", plan.results)
    names = "popularity,dat,item_knn"
    kill_after(
        "popularity, seed 0: mrr",
        *("study", "table2", plan.config_path, "--models", names),
        *(str(option) for option in options),
    )
    assert not plan.results.exists()
    kept = [file for file in os.listdir(plan.folder / "finished") if file.endswith(".json")]
    assert 1 <= len(kept) < 3
    done = work_here(monkeypatch)
    found = measure(plan, [Entry(name) for name in names.split(",")], silent)
    assert "popularity, seed 0" not in done
    assert [run.model for run in found.runs] == names.split(",")


def test_without_validation_events_nothing_is_fitted_on_train_alone(
    tmp_path: Path, done: list[str]
) -> None:
    plan = small_study(tmp_path, final=False)
    split = '\n[split]\nby = "time"\ntest_days = 5\n'
    plan.config_path.write_text(f"{CONFIG}{split}", encoding="utf-8")
    with pytest.raises(DataError, match="study: the split has no validation events"):
        measure(plan, [Entry("popularity")], silent)
    assert done == []


def test_a_run_on_a_dataset_that_was_replaced_is_refused(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualtower.studies.study.prepared_from", lambda _: "another")
    with pytest.raises(DataError, match=r"not one model could run:\n.* prepared anew"):
        measure(small_study(tmp_path), [Entry("popularity")], silent)


def test_a_dataset_that_was_replaced_meanwhile_is_not_measured(tmp_path: Path) -> None:
    plan = small_study(tmp_path)
    config = plan.config()
    prepared = prepared_from(load_or_prepare(config, silent))
    assert load_prepared(config, prepared).event_count == load_prepared(config, "").event_count
    other = config.model_copy(update={"filter": FilterConfig(min_item_events=3)})
    load_or_prepare(other, silent)
    with pytest.raises(DataError, match=r"prepared anew .* \(--work\)"):
        load_prepared(config, prepared)


@pytest.mark.parametrize("part", ["split", "filter"])
def test_what_was_tuned_on_another_split_is_refused(
    part: str, tmp_path: Path, done: list[str]
) -> None:
    plan = small_study(tmp_path, seeds=(0,))
    config = plan.config()
    files = load_or_prepare(config, silent).source["files"]
    path = tuned_file(tmp_path / "tuned.json", files["interactions"][0]["sha256"])
    plan = Study(**{**vars(plan), "tuned": path})
    write_tuned(path, read_tuned(path).model_copy(update={part: getattr(config, part)}))
    measure(plan, [Entry("popularity")], silent)
    changed = {"split": SplitConfig(by="column"), "filter": FilterConfig(min_item_events=2)}[part]
    write_tuned(path, read_tuned(path).model_copy(update={part: changed}))
    with pytest.raises(ConfigError, match=rf"was tuned with another \[{part}\]"):
        measure(plan, [Entry("popularity")], silent)


def test_what_was_refused_is_not_said_to_be_finished(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path, seeds=(0,))
    nothing = Entry("dat", "nothing", {"model.history": False, "model.augmented": "none"})
    said: list[str] = []
    for _ in range(2):
        said.clear()
        measure(plan, [Entry("popularity"), nothing], said.append)
    assert any(line.startswith("1 runs are finished already") for line in said)
