from pathlib import Path

import pytest

from dualtower.errors import ConfigError
from dualtower.evaluation.results import read_results
from dualtower.studies import compare, floors
from dualtower.studies.compare import Study, compare_models
from tests.synthetic import write_tables

CONFIG = """\
[data]
interactions = "elsewhere/events.parquet"
items = "elsewhere/catalogue.csv"

[columns]
timestamp = "timestamp"
category = "category"

[training]
epochs = 1
"""


def study(folder: Path, *models: str, final: bool = True) -> Study:
    write_tables(folder)
    (folder / "small.toml").write_text(CONFIG, encoding="utf-8")
    return Study(
        config_path=folder / "small.toml",
        models=models,
        seeds=(0, 1),
        final=final,
        results=folder / "results" / "small.json",
        data=folder,
        work=folder / "work",
    )


def test_trained_models_run_per_seed_and_floors_once(tmp_path: Path) -> None:
    said: list[str] = []
    plan = study(tmp_path, "two_tower", "item_knn", "popularity")
    found = compare_models(plan, said.append)
    assert [(run.model, run.seed) for run in found.runs] == [
        ("two_tower", 0),
        ("two_tower", 1),
        ("item_knn", 0),
        ("popularity", 0),
    ]
    assert read_results(plan.results) == found
    assert set(found.runs[2].settings) == {"neighbours", "shrinkage", "decay"}
    assert found.runs[3].settings == {}
    # Each user's two last items of ten of the own category are left for validation and test.
    assert found.runs[2].metrics["hit_rate@10"] == 1
    assert "fitted on train and validation, measured on test" in found.protocol
    assert not (plan.folder / "finished").exists()


def test_a_solver_that_starts_at_random_runs_per_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(floors._GRIDS, "wals", [{"factors": 4, "iterations": 2}])
    found = compare_models(study(tmp_path, "wals"), lambda _: None)
    assert [run.settings for run in found.runs] == [
        {"factors": 4, "iterations": 2, "seed": 0},
        {"factors": 4, "iterations": 2, "seed": 1},
    ]
    assert found.runs[0].metrics != found.runs[1].metrics


def test_the_recorded_command_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    plan = study(tmp_path, "dat", "ease")
    plan = Study(**{**vars(plan), "config_path": Path("configs/small.toml")})
    assert plan.command == (
        "dualtower study compare configs/small.toml --models dat,ease --seeds 0,1 --final "
        "--data FOLDER --results results/small.json"
    )


def test_a_killed_study_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = study(tmp_path, "popularity", "ease", "item_knn")
    fitted: list[str] = []
    real = compare.fit_model

    def counting(name: str, *arguments: object, **options: object) -> object:
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(name)
        return real(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(compare, "fit_model", counting)
    with pytest.raises(KeyboardInterrupt):
        compare_models(plan, lambda line: None)
    assert not plan.results.exists()
    fitted.clear()
    found = compare_models(plan, lambda line: None)
    assert fitted == ["item_knn"]
    assert [run.model for run in found.runs] == ["popularity", "ease", "item_knn"]


def test_a_changed_configuration_does_not_take_old_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = study(tmp_path, "popularity", "item_knn")
    real = compare.fit_model

    def only_popularity(name: str, *arguments: object, **options: object) -> object:
        if name != "popularity":
            raise KeyboardInterrupt
        return real(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(compare, "fit_model", only_popularity)
    with pytest.raises(KeyboardInterrupt):
        compare_models(plan, lambda line: None)
    changed = CONFIG + "\n[evaluation]\nexclude_seen = false\n"
    plan.config_path.write_text(changed, encoding="utf-8")
    monkeypatch.setattr(compare, "fit_model", real)
    said: list[str] = []
    compare_models(plan, said.append)
    assert "popularity, seed 0: fitting" in said


def test_without_final_validation_is_measured(tmp_path: Path) -> None:
    found = compare_models(study(tmp_path, "popularity", final=False), lambda line: None)
    assert "fitted on train, measured on validation" in found.protocol


def test_an_unknown_model_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model 'svd'; there are .*popularity"):
        compare_models(study(tmp_path, "svd"), lambda line: None)


def test_a_study_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no model or no seed"):
        compare_models(study(tmp_path), lambda line: None)


def test_two_models_do_not_meet_in_one_checkpoint(tmp_path: Path) -> None:
    plan = study(tmp_path, "dat", "two_tower")
    plan.config_path.write_text(f'{CONFIG}checkpoint = "here"\n', encoding="utf-8")
    assert len(compare_models(plan, lambda line: None).runs) == 4
    assert not (tmp_path / "here").exists()
