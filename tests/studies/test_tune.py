import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualtower.data.dataset import Dataset
from dualtower.data.splits import split
from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.evaluate import evaluate
from dualtower.fitting import fit as fit_alone
from dualtower.models.two_tower import TwoTower
from dualtower.studies import spaces, tuning, workers
from dualtower.studies.floors import floor
from dualtower.studies.orders import code_fingerprint
from dualtower.studies.run import fit_model, load_or_prepare, without_traces
from dualtower.studies.spaces import Range, settings_at
from dualtower.studies.trials import read_repeats, read_trials
from dualtower.studies.tune import TunePlan, tune_models
from dualtower.studies.tuned import Repeat, Trial, read_tuned, tuned_table
from dualtower.studies.tuning import (
    TuneOrder,
    best_of,
    finalists,
    tune_model,
)
from dualtower.studies.variants import configured
from dualtower.studies.worker import work
from tests.studies.runs import kill_after, small_study, work_here

FAST = ("loss", "epochs", "batch_size", "embedding_dim", "hidden_layers", "history")


def silent(line: str) -> None:
    """Nobody listens."""


def plan_of(folder: Path, *models: str, **changes: Any) -> TunePlan:
    options: dict[str, Any] = {"trials": 3, "minutes": 60.0, "keep": FAST, **changes}
    return TunePlan(study=small_study(folder), models=models, **options)


def without_seconds(trials: tuple[Trial, ...] | list[Trial]) -> list[Trial]:
    return [trial.model_copy(update={"seconds": 0.0}) for trial in trials]


def test_the_first_trial_is_the_configuration_and_the_best_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    plan = plan_of(tmp_path, "two_tower", "item_knn", "popularity")
    found = tune_models(plan, silent)
    assert {name: len(trials) for name, trials in found.tried.items()} == {
        "two_tower": 3,
        "item_knn": 3,
        "popularity": 1,
    }
    config = without_traces(plan.study.config())
    parts = split(Dataset.load(config.data.dataset), config.split)
    first = configured(config, "two_tower", {}, seed=0)
    model = fit_model("two_tower", first, parts, "train")
    expected = evaluate(model, parts.validation, config=config.evaluation).metrics["mrr"]
    assert found.tried["two_tower"][0].metric == pytest.approx(expected)
    for name, best in found.best.items():
        metrics = [trial.metric or 0.0 for trial in found.tried[name]]
        assert best.metric == max(metrics)
        assert best.trial == metrics.index(best.metric)
        assert best.as_configured == metrics[0]
        assert best.settings == (found.tried[name][best.trial].settings if best.trial else {})
    assert found.best["popularity"].settings == {}
    tried = found.tried["item_knn"][1]
    solved = fit_model("item_knn", config, parts, "train", settings=tried.settings)
    expected = evaluate(solved, parts.validation, config=config.evaluation).metrics["mrr"]
    assert tried.metric == pytest.approx(expected)
    assert floor("item_knn", tried.settings).config.model_dump() == tried.settings
    assert read_tuned(plan.study.results) == found
    assert "item_knn" in plan.study.results.with_suffix(".md").read_text(encoding="utf-8")
    assert "<svg" in plan.study.results.with_suffix(".svg").read_text(encoding="utf-8")
    assert "measured on validation" in found.protocol


def test_a_search_that_was_interrupted_draws_what_it_would_have_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parted").mkdir()
    whole = tune_models(plan_of(tmp_path / "whole", "two_tower", trials=6), silent)
    plan = plan_of(tmp_path / "parted", "two_tower", trials=6)
    real, calls = tuning.fit_model, []

    def third_time(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(tuning, "fit_model", third_time)
    with pytest.raises(KeyboardInterrupt):
        tune_models(plan, silent)
    assert not plan.study.results.exists()
    assert len(list(plan.study.folder.glob("trials/*/two_tower/begun.json"))) == 1
    found = tune_models(plan, silent)
    assert len(calls) == 7  # the third was begun again
    assert not list(plan.study.folder.glob("trials/*/two_tower/begun.json"))
    tried = without_seconds(found.tried["two_tower"])
    assert tried == without_seconds(whole.tried["two_tower"])
    assert len({json.dumps(trial.place) for trial in tried}) == 6


def test_more_trials_go_on_from_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    two = tune_models(plan_of(tmp_path, "ease", trials=2), silent)
    five = tune_models(plan_of(tmp_path, "ease", trials=5), silent)
    assert five.tried["ease"][:2] == two.tried["ease"]
    assert len(five.tried["ease"]) == 5


def test_a_killed_search_goes_on_with_the_model_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real kill of the command, while a model's process searches."""
    plan = plan_of(tmp_path, "popularity", "item_knn")
    study = plan.study
    kill_after(
        "popularity: ",
        *("tune", study.config_path, "--models", "popularity,item_knn", "--trials", "3"),
        *("--keep", ",".join(FAST), "--minutes", "60"),
        *("--data", str(study.data), "--work", str(study.work), "--results", study.results),
    )
    assert not study.results.exists()
    (kept,) = (study.folder / "trials").glob("*/popularity/0000.json")
    before = kept.read_bytes()
    work_here(monkeypatch)
    found = tune_models(plan, silent)
    assert kept.read_bytes() == before
    assert len(found.tried["item_knn"]) == 3


def order_of(folder: Path, model: str, **changes: Any) -> TuneOrder:
    config = small_study(folder).config()
    load_or_prepare(config, silent)
    options = {"trials": 3, "minutes": 60.0, "seed": 0, "pruning": False, **changes}
    return TuneOrder(config=config, model=model, keep=FAST, **options)


def test_the_first_trials_change_a_third_of_the_dimensions(tmp_path: Path) -> None:
    search = tuning._Search(order_of(tmp_path, "dat").model_copy(update={"keep": ()}), None)  # type: ignore[arg-type]
    start = search._start
    other = {part: f"{part} changed" for part in start}
    found = [search._near_start(other, number) for number in (1, 2, 3)]
    for place in found:
        changed = [part for part in start if place[part] != start[part]]
        assert len(changed) == -(-len(start) // 3)
    assert found[0] != found[1] != found[2]
    assert search._near_start(other, 1) == found[0]


def test_places_asked_for_come_right_after_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    tries: Any = ({"table_learning_rate": "0.05"}, {"neighbours": "100"})
    plan = plan_of(tmp_path, "two_tower", "item_knn", tries=tries)
    found = tune_models(plan, silent).tried
    first, second, third = found["two_tower"]
    assert second.place == {**first.place, "table_learning_rate": 0.05}
    assert second.settings["training.table_learning_rate"] == 0.05
    assert third.place != second.place
    first, second, third = found["item_knn"]
    assert second.place == {**first.place, "neighbours": "100"}
    assert "--try table_learning_rate=0.05 --try neighbours=100 " in plan.command
    two = replace(plan, tries=({"loss": "softmax, batch", "epochs": "3"},))
    assert "--try 'loss=softmax, batch;epochs=3' " in two.command


@pytest.mark.parametrize(
    ("model", "changes"),
    [("item_knn", {"neighbours": "800", "decay": "0.2"}), ("ease", {"regularization": "20"})],
)
def test_a_finished_search_goes_on_with_a_place_asked_for(
    model: str, changes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: numbers are the same after their way through a file."""
    work_here(monkeypatch)
    before = tune_models(plan_of(tmp_path, model), silent).tried[model]
    said: list[str] = []
    tune_models(plan_of(tmp_path, model, tries=(changes,)), said.append)
    assert f"{model}: {';'.join(f'{k}={v}' for k, v in changes.items())} was not tried" in said[-1]
    tune_models(plan_of(tmp_path, model, trials=4, tries=(changes,)), silent)
    found = tune_models(plan_of(tmp_path, model, trials=6, tries=(changes,)), said.append)
    tried = found.tried[model]
    assert tried[:3] == before
    assert {part: str(tried[3].place[part]).removesuffix(".0") for part in changes} == changes
    assert all(trial.place != tried[3].place for trial in (*tried[:3], *tried[4:]))
    assert "was not tried" not in said[-1]


@pytest.mark.parametrize(("state", "again"), [("out_of_time", True), ("failed", False)])
def test_a_place_asked_for_is_tried_again_only_where_the_clock_cut_it_off(
    state: Any, again: bool, tmp_path: Path
) -> None:
    order = order_of(tmp_path, "item_knn", tries=({"neighbours": "800"},))
    search = tuning._Search(order, None)  # type: ignore[arg-type]
    asked = {**search._start, "neighbours": "800"}
    done = [
        Trial(number=0, state="complete", place=search._start, metric=0.1),
        Trial(number=1, state=state, place=asked),
    ]
    assert search._not_tried(done[:1]) == asked
    assert search._not_tried(done) == (asked if again else None)


@pytest.mark.parametrize(
    ("models", "tries", "words"),
    [
        (
            ("wals", "ease"),
            ({"regularization": "0.01"},),
            "regularization=0.01; regularization is a number from 0.1 to 300 for wals; "
            "regularization is a number from 10 to 3000 for ease",
        ),
        (("dat",), ({"history_form": "mean"},), "is one of pools; attention for dat"),
        (("dat",), ({"epochs": "3"},), "name a dimension of one of them that --keep does not keep"),
        (("dat",), ({"normalise": "True"},) * 3, "3 places and --trials 3"),
    ],
)
def test_a_place_of_no_model_s_space_is_refused(
    tmp_path: Path, models: tuple[str, ...], tries: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=f"--try: .*{words}"):
        tune_models(plan_of(tmp_path, *models, tries=tries), silent)


def test_a_place_that_one_model_has_is_tried_by_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    plan = plan_of(tmp_path, "wals", "ease", tries=({"regularization": "5"},))
    tried = tune_models(plan, silent).tried
    assert tried["wals"][1].settings["regularization"] == 5.0
    assert tried["ease"][1].settings["regularization"] != 5.0


def test_no_trial_is_begun_when_the_minutes_are_over(tmp_path: Path) -> None:
    order = order_of(tmp_path, "item_knn", minutes=1e-9)
    tune_model(order, tmp_path / "trials")
    assert len(read_trials(tmp_path / "trials")) == 1


def test_a_trial_is_stopped_when_the_minutes_are_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training tells of three epochs; the clock stands still but for the second trial."""
    clock = {"now": 0.0}
    monkeypatch.setattr(tuning.time, "monotonic", lambda: clock["now"])

    def told(*arguments: Any, after_epoch: Any, **options: Any) -> None:
        for metric in (0.1, 0.2, 0.3):
            clock["now"] += 5
            after_epoch(metric)

    monkeypatch.setattr(tuning, "fit_model", told)
    config = order_of(tmp_path, "two_tower").config
    training = config.training.model_copy(update={"epochs": 3})
    order = order_of(tmp_path, "two_tower", minutes=22 / 60).model_copy(
        update={"config": config.model_copy(update={"training": training})}
    )
    tune_model(order, tmp_path / "trials")
    first, second = read_trials(tmp_path / "trials")
    assert (first.state, first.metric, first.seconds) == ("complete", 0.3, 15)
    assert (second.state, second.metric, second.curve) == ("out_of_time", 0.2, (0.1, 0.2))
    best = best_of([first, second])
    assert best is not None
    assert (best.trial, best.seconds) == (0, 25)


def test_a_trial_that_falls_behind_is_pruned_at_the_same_share_of_its_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = iter([[0.1 * step for step in range(1, 11)]] * 5 + [[0.01] * 10])

    def told(*arguments: Any, after_epoch: Any, **options: Any) -> None:
        for metric in next(curves):
            after_epoch(metric)

    monkeypatch.setattr(tuning, "fit_model", told)
    base = order_of(tmp_path, "two_tower", trials=6, pruning=True)
    training = base.config.training.model_copy(update={"epochs": 10})
    config = base.config.model_copy(update={"training": training})
    tune_model(base.model_copy(update={"config": config}), tmp_path / "trials")
    trials = read_trials(tmp_path / "trials")
    assert [trial.state for trial in trials] == ["complete"] * 5 + ["pruned"]
    assert len(trials[5].curve) == 3  # three tenths, the first part that counts


def test_a_trial_that_is_refused_has_its_reason_and_others_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = tuning.fit_model, []

    def second_refused(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise DataError("the loss is nan")
        return real(*arguments, **options)

    monkeypatch.setattr(tuning, "fit_model", second_refused)
    tune_model(order_of(tmp_path, "ease"), tmp_path / "trials")
    trials = read_trials(tmp_path / "trials")
    assert [trial.state for trial in trials] == ["complete", "failed", "complete"]
    assert trials[1].reason == "the loss is nan"


def test_a_trial_that_crashes_its_process_is_noted_and_others_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes = iter(["its process was ended by SIGKILL", None])

    def crash_once(job: Any, *_: object) -> str | None:
        crash = next(crashes)
        if crash is None:
            work(job.task)
        return crash

    monkeypatch.setattr("dualtower.studies.workers.run_job", crash_once)
    said: list[str] = []
    found = tune_models(plan_of(tmp_path, "ease"), said.append)
    assert "ease, trial 0: its process was ended by SIGKILL" in said
    assert [trial.state for trial in found.tried["ease"]] == ["failed", "complete", "complete"]
    assert found.best["ease"].as_configured is None
    assert "| – |" in tuned_table(found)
    assert found.tried["ease"][0].place == {}  # it was never begun


def crash_at_fit(monkeypatch: pytest.MonkeyPatch, *numbers: int, minutes_ago: float = 0) -> None:
    """Searches run in this process; the fits of these numbers, from 1, take it down."""
    real, fits = tuning.fit_model, []

    def fit(*arguments: Any, **options: Any) -> Any:
        fits.append(arguments)
        if len(fits) in numbers:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    def run(job: Any, *_: object) -> str | None:
        try:
            work(job.task)
        except KeyboardInterrupt:
            begun = Path(job.task.output) / "begun.json"
            then = begun.stat().st_mtime - 60 * minutes_ago
            os.utime(begun, (then, then))
            return "its process was ended by SIGKILL"
        return None

    monkeypatch.setattr(tuning, "fit_model", fit)
    monkeypatch.setattr(workers, "run_job", run)


def test_a_trial_that_crashes_says_where_it_was_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at_fit(monkeypatch, 2)
    plan = plan_of(tmp_path, "item_knn", trials=4, tries=({"neighbours": "800"},))
    tried = tune_models(plan, silent).tried["item_knn"]
    assert [trial.state for trial in tried] == ["complete", "failed", "complete", "complete"]
    assert tried[1].place == {**tried[0].place, "neighbours": "800"}
    assert tried[1].settings["neighbours"] == 800
    assert all(trial.place != tried[1].place for trial in tried[2:])


def test_a_trial_that_crashes_counts_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at_fit(monkeypatch, 1, minutes_ago=60)
    (trial,) = tune_models(plan_of(tmp_path, "item_knn"), silent).tried["item_knn"]
    assert trial.state == "failed"
    assert trial.seconds == pytest.approx(3600, abs=60)
    assert not list(tmp_path.rglob("begun.json"))


def test_a_trial_under_way_before_a_kill_is_not_the_one_that_crashes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, "item_knn", trials=2)
    work_here(monkeypatch)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "fit_model", killed)
    with pytest.raises(KeyboardInterrupt):
        tune_models(plan, silent)
    (begun,) = plan.study.folder.glob("trials/*/item_knn/begun.json")
    os.utime(begun, (1, 1))
    monkeypatch.setattr(workers, "run_job", lambda *_: "its process ended with status 1")
    tried = tune_models(plan, silent).tried["item_knn"]
    assert [(trial.state, trial.place, trial.seconds) for trial in tried] == [("failed", {}, 0)] * 2


def test_a_process_that_crashes_every_time_ends_the_search_with_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def crash(job: Any, *_: object) -> str:
        begun.append(job.label)
        assert len(begun) < 10
        return "its process ended with status 1"

    monkeypatch.setattr("dualtower.studies.workers.run_job", crash)
    found = tune_models(plan_of(tmp_path, "ease"), silent)
    assert [trial.state for trial in found.tried["ease"]] == ["failed"] * 3
    assert found.best == {}


def test_a_trial_has_all_its_epochs_as_the_final_fit_will(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the patience: the metric is that of the epoch with which the final fit ends."""
    metrics = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr(
        "dualtower.fitting.validation_metric", lambda *arguments, **options: next(metrics)
    )
    base = order_of(tmp_path, "two_tower", trials=1)
    training = base.config.training.model_copy(update={"epochs": 5, "patience": 1})
    config = base.config.model_copy(update={"training": training})
    tune_model(base.model_copy(update={"config": config}), tmp_path / "trials")
    (trial,) = read_trials(tmp_path / "trials")
    assert (trial.state, trial.metric) == ("complete", 0.1)
    assert trial.curve == (0.5, 0.4, 0.3, 0.2, 0.1)


def trial_of(number: int, metric: float | None, state: Any = "complete") -> Trial:
    settings = {"training.learning_rate": number / 100}
    return Trial(number=number, state=state, metric=metric, settings=settings)


def repeats_of(metrics: dict[int, tuple[float | None, ...]]) -> list[Repeat]:
    return [
        Repeat(trial=number, added_seed=added, metric=metric)
        for number, found in metrics.items()
        for added, metric in enumerate(found, start=1)
    ]


def test_the_best_is_that_of_the_best_mean_where_trials_were_fitted_again() -> None:
    """Trial 2 was lucky: .9, and then .3 and .3; trial 3 failed once; trial 1 has .7 and .5."""
    trials = [trial_of(0, 0.4), trial_of(1, 0.6), trial_of(2, 0.9), trial_of(3, 0.95)]
    metrics = {0: (0.5, 0.6), 1: (0.7, 0.5), 2: (0.3, 0.3), 3: (0.99, None)}
    best = best_of(trials, repeats_of(metrics))
    assert best is not None
    assert (best.trial, best.seeds) == (1, 2)
    assert best.metric == pytest.approx(0.6)
    assert best.as_configured == pytest.approx(0.55)
    assert best.settings == {"training.learning_rate": 0.01}


@pytest.mark.parametrize("repeats", [{}, {0: (None, 0.6), 3: (0.9, None)}])
def test_without_a_whole_set_of_repeats_the_trials_count(repeats: Any) -> None:
    trials = [trial_of(0, 0.4), trial_of(1, 0.6), trial_of(2, 0.9), trial_of(3, 0.95)]
    best = best_of(trials, repeats_of(repeats))
    assert best is not None
    assert (best.trial, best.seeds, best.metric, best.as_configured) == (3, 1, 0.95, 0.4)


def test_the_configuration_and_three_others_are_finalists() -> None:
    """Stopped and failed trials are none, nor copies; of equal ones the earlier comes first."""
    trials = [trial_of(0, 0.1), trial_of(1, 0.5), trial_of(2, 0.5), trial_of(3, 0.7)]
    trials += [
        trial_of(4, 0.9, "pruned"),
        trial_of(5, 0.9, "out_of_time"),
        trial_of(6, None, "failed"),
        trial_of(7, 0.6),
        trial_of(3, 0.7).model_copy(update={"number": 8}),
        trial_of(0, 0.1).model_copy(update={"number": 9}),
    ]
    assert [trial.number for trial in finalists(trials)] == [0, 3, 7, 1]


def seeds_fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seed of every fit of a trained model from now on."""
    fitted: list[int] = []

    def fit(name: str, config: Any, *arguments: Any, **options: Any) -> Any:
        fitted.append(config.training.seed)
        return fit_model(name, config, *arguments, **options)

    monkeypatch.setattr(tuning, "fit_model", fit)
    return fitted


def test_the_best_trials_are_fitted_again_with_other_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search may be finished before; a repeat has all its epochs and all validation queries."""
    work_here(monkeypatch)
    options: dict[str, Any] = {"trials": 2, "pruning": False}
    search = plan_of(tmp_path, "two_tower", "item_knn", **options)
    text = search.study.config_path.read_text(encoding="utf-8")
    changed = text.replace("[training]", "[training]\nseed = 5\nvalidation_queries = 3")
    assert changed != text
    search.study.config_path.write_text(changed, encoding="utf-8")
    before = tune_models(search, silent)
    assert before.repeats == {}
    assert before.best["two_tower"].seeds == 1
    fitted = seeds_fitted(monkeypatch)
    plan = plan_of(tmp_path, "two_tower", "item_knn", **options, confirm=2)
    plan.study.config_path.write_text(changed, encoding="utf-8")
    found = tune_models(plan, silent)
    assert fitted == [6, 7, 6, 7]  # the trials are those of before, and item-kNN has no seed
    assert without_seconds(found.tried["two_tower"]) == without_seconds(before.tried["two_tower"])
    config = without_traces(plan.study.config())
    parts = split(Dataset.load(config.data.dataset), config.split)
    for repeat in found.repeats["two_tower"]:
        settings = found.tried["two_tower"][repeat.trial].settings
        again = configured(config, "two_tower", settings, seed=5 + repeat.added_seed)
        model = fit_alone(TwoTower(again.model), parts.train, training=again.training)
        expected = evaluate(model, parts.validation, config=config.evaluation).metrics["mrr"]
        assert repeat.metric == pytest.approx(expected)
    assert list(found.repeats) == ["two_tower"]
    assert (found.best["two_tower"].seeds, found.best["item_knn"].seeds) == (2, 1)
    assert found.confirm == 2
    assert "--confirm 2" in found.command
    assert read_tuned(plan.study.results) == found
    tune_models(plan, silent)
    assert len(fitted) == 4
    fewer = tune_models(replace(plan, confirm=1), silent)
    assert len(fitted) == 4
    assert fewer.best["two_tower"].seeds == 1
    assert len(fewer.repeats["two_tower"]) == 2
    tune_models(replace(plan, confirm=3), silent)
    assert fitted[4:] == [8, 8]


def test_a_search_killed_between_repeats_goes_on_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = order_of(tmp_path, "two_tower", trials=2, pruning=False, confirm=2)
    fitted: list[int] = []

    def fit(name: str, config: Any, *arguments: Any, **options: Any) -> Any:
        if len(fitted) == 4:
            raise KeyboardInterrupt
        fitted.append(config.training.seed)
        return fit_model(name, config, *arguments, **options)

    monkeypatch.setattr(tuning, "fit_model", fit)
    with pytest.raises(KeyboardInterrupt):
        tune_model(order, tmp_path / "trials")
    assert fitted == [0, 0, 1, 2]
    fitted = seeds_fitted(monkeypatch)
    tune_model(order, tmp_path / "trials")
    assert fitted == [1, 2]


def test_a_floor_that_starts_at_random_is_fitted_again_too(tmp_path: Path) -> None:
    order = order_of(tmp_path, "wals", trials=3, confirm=1)
    tune_model(order, tmp_path / "trials")
    trials = read_trials(tmp_path / "trials")
    repeats = read_repeats(tmp_path / "trials", 1)
    assert {repeat.trial for repeat in repeats} == {trial.number for trial in finalists(trials)}
    assert all(repeat.metric is not None for repeat in repeats)
    assert [repeat.metric for repeat in repeats] != [
        trials[repeat.trial].metric for repeat in repeats
    ]


def test_a_fit_that_is_refused_with_another_seed_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(name: str, config: Any, *arguments: Any, **options: Any) -> Any:
        if config.training.seed:
            raise DataError("the loss is nan")
        return fit_model(name, config, *arguments, **options)

    work_here(monkeypatch)
    monkeypatch.setattr(tuning, "fit_model", fit)
    found = tune_models(plan_of(tmp_path, "two_tower", trials=2, pruning=False, confirm=1), silent)
    assert {repeat.reason for repeat in found.repeats["two_tower"]} == {"the loss is nan"}
    assert found.best["two_tower"].seeds == 1


@pytest.mark.parametrize("minutes", [60.0, 1e-6])
def test_a_repeat_that_crashes_its_process_is_noted_as_one(
    minutes: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trial is made up, whether trials or minutes ended the search, and the others follow."""
    work_here(monkeypatch)
    plan = plan_of(tmp_path, "two_tower", trials=2, pruning=False)
    tune_models(plan, silent)
    jobs: list[str] = []
    done_here = workers.run_job

    def crash_first(job: Any, *arguments: Any) -> Any:
        jobs.append(job.label)
        if len(jobs) == 1:
            return "its process ended with status 1"
        return done_here(job, *arguments)

    monkeypatch.setattr(workers, "run_job", crash_first)
    notes: list[str] = []
    confirming = replace(plan, confirm=1, minutes=minutes, trials=2 if minutes > 1 else 9)
    found = tune_models(confirming, notes.append)
    assert [trial.state for trial in found.tried["two_tower"]] == ["complete"] * 2
    first, second = found.repeats["two_tower"]
    assert (first.metric, first.reason) == (None, "its process ended with status 1")
    assert second.metric is not None
    assert any("trial 0, seed + 1: its process ended" in note for note in notes)
    assert found.best["two_tower"].trial == 1


def test_a_date_may_be_the_seed(tmp_path: Path) -> None:
    """Optuna's sampler takes no more than 32 bits."""
    tune_model(order_of(tmp_path, "item_knn", trials=2, seed=20261125), tmp_path / "trials")
    assert [trial.state for trial in read_trials(tmp_path / "trials")] == ["complete"] * 2


def test_a_split_without_validation_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "popularity")
    text = plan.study.config_path.read_text(encoding="utf-8")
    by_time = f'{text}\n[split]\nby = "time"\ntest_days = 2\n'
    plan.study.config_path.write_text(by_time, encoding="utf-8")
    with pytest.raises(DataError, match="the split has no validation events"):
        tune_models(plan, silent)


@pytest.mark.parametrize("changes", [{"models": ()}, {"trials": 0}, {"minutes": 0.0}])
def test_a_search_of_nothing_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    plan = TunePlan(**{**vars(plan_of(tmp_path, "ease")), **changes})
    with pytest.raises(ConfigError, match="names no model, trial, minute or job"):
        tune_models(plan, silent)


def test_fewer_than_no_seeds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--confirm: -1 given; it is a number of seeds"):
        tune_models(plan_of(tmp_path, "ease", confirm=-1), silent)


def test_without_optuna_it_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs optuna: pip install 'dualtower\[tune\]'"):
        tune_models(plan_of(tmp_path, "ease"), silent)


def test_the_command_is_recorded(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "dat", "ease", pruning=False, keep=("history",))
    assert plan.command.endswith(
        "small.toml --models dat,ease --trials 3 --minutes 60 --seed 0 --pruning none "
        "--keep history --data FOLDER --results results/small.json"
    )


def test_fits_of_other_code_are_said_and_trials_of_another_space_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    plan = plan_of(tmp_path, "ease", "two_tower", trials=2, confirm=1)
    found = tune_models(plan, silent)
    assert found.split == plan.study.config().split
    fits = [fit for of in (found.tried, found.repeats) for some in of.values() for fit in some]
    assert {fit.code for fit in fits} == {code_fingerprint()}
    said: list[str] = []
    tune_models(plan, said.append)
    assert not any("other code" in line for line in said)
    monkeypatch.setattr("dualtower.studies.tune.code_fingerprint", lambda: "other")
    tune_models(plan, said.append)
    told = f"{len(fits)} of the {len(fits)} fits that it goes on from were made by other code"
    assert any(line.startswith(told) for line in said)
    start, other = (float(trial.place["regularization"]) for trial in found.tried["ease"])
    reach = (other * 2, start * 4) if start > other else (start / 4, other / 2)
    monkeypatch.setitem(
        spaces.OWN_SPACE, "ease", {"regularization": Range("regularization", *sorted(reach))}
    )
    with pytest.raises(ConfigError, match=r"ease: its trials are of another search space"):
        tune_models(plan, silent)


def test_a_copied_trial_is_of_the_code_that_measured_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = order_of(tmp_path, "ease", trials=1)
    parts = split(Dataset.load(order.config.data.dataset), order.config.split)
    search = tuning._Search(order, parts)
    place, settings = search._start, settings_at(search._space, search._start)
    first = Trial(number=0, state="complete", metric=0.5, code="old")
    first = first.model_copy(update={"place": place, "settings": settings})
    monkeypatch.setattr(tuning._Search, "_near_start", lambda self, *_: self._start)
    copied = search.next_trial([first], tmp_path)
    assert (copied.number, copied.metric, copied.code) == (1, 0.5, "old")


def test_a_dataset_that_was_replaced_ends_the_search_and_is_no_trial_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, "ease", trials=2)
    monkeypatch.setattr("dualtower.studies.tune.prepared_from", lambda _: "another")
    monkeypatch.setattr("dualtower.studies.workers.run_job", lambda *_: "its process ended")
    with pytest.raises(DataError, match="prepared anew"):
        tune_models(plan, silent)
    assert not list(plan.study.folder.glob("trials/*/ease/*.json"))
    work_here(monkeypatch)
    with pytest.raises(DataError, match="prepared anew"):  # by the worker
        tune_models(plan, silent)
