from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from dualtower.config import (
    EvaluationConfig,
    ModelConfig,
    RunConfig,
    SplitConfig,
    TrainingConfig,
    load_config,
    validate,
)
from dualtower.errors import ConfigError

DATA = {"interactions": "events.parquet"}


def run(**sections: Any) -> RunConfig:
    return validate(RunConfig, {"data": DATA, **sections}, "run.toml")


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_left_out_comes_from_the_preset_of_model_and_training() -> None:
    config = run(model={"preset": "paper", "embedding_dim": 16}, training={"epochs": 3})
    assert config.model == ModelConfig.of("dat", "paper", embedding_dim=16)
    assert config.training == TrainingConfig.of("paper", epochs=3)
    assert run().model == ModelConfig.of("dat")
    assert run(model={"name": "two_tower"}).model.augmented == "none"


@pytest.mark.parametrize(
    "training", [{"same_time_history": True}, TrainingConfig(same_time_history=True)], ids=type
)
def test_evaluation_takes_from_training_what_counts_as_history(training: Any) -> None:
    assert not run().evaluation.same_time_history
    assert run(training=training).evaluation == EvaluationConfig(same_time_history=True)
    found = run(training=training, evaluation={"cold_events": 7}).evaluation
    assert found == EvaluationConfig(same_time_history=True, cold_events=7)
    found = run(training=training, evaluation={"same_time_history": False}).evaluation
    assert not found.same_time_history
    assert run(training=training, evaluation=EvaluationConfig()).evaluation == EvaluationConfig()


def test_a_model_that_is_an_object_brings_its_preset_along() -> None:
    config = RunConfig.model_validate({"data": DATA, "model": ModelConfig.of("dat", "paper")})
    assert config.training == TrainingConfig.of("paper")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"model": {"preset": "best"}}, r"model.preset: Input should be .* \(given: 'best'\)"),
        ({"model": {"preset": ["paper"]}}, "model.preset: Input should be"),
        ({"model": {"name": "svd"}}, "model.name: Input should be 'dat', 'two_tower'"),
        ({"model": "dat"}, "model: Input should be"),
        ({"training": ["epochs"]}, "training: Input should be"),
        ({"model": {"hidden_dims": [64, 0]}}, "model.hidden_dims.1: .* greater than or equal to 1"),
        ({"training": {"temperature": float("inf")}}, "training.temperature: .* finite"),
        ({"training": {"epoch": 3}}, "training.epoch: no such setting"),
        ({"training": {"logq_correction": True}}, "logq_correction: Input should be 'none', 'st"),
        ({"evaluation": {"cutoffs": []}}, "evaluation.cutoffs: .* at least 1 item"),
        ({"evaluation": {"cutoffs": [10**10]}}, "cutoffs.0: .* less than or equal to 10000"),
        ({"columns": {"timestamp": "t", "position": "p"}}, "columns: .* one order is enough"),
        (
            {"columns": {"item_features": [{"name": "a"}, {"name": "a"}]}},
            "item_features: a given more than once",
        ),
    ],
)
def test_every_fault_is_named_with_its_field(sections: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.toml is not valid") as caught:
        run(**sections)
    caught.match(words)


def test_all_faults_are_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        run(model={"embedding_dim": 0}, training={"epochs": 0, "speed": 1})
    assert len(str(caught.value).splitlines()) == 4


def test_an_unknown_preset_is_named_with_those_there_are() -> None:
    for make in (lambda: ModelConfig.of("dat", "best"), lambda: TrainingConfig.of("best")):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"'best' given; .* one of recommended, paper"):
            make()


def test_dates_need_no_quotes_in_toml(tmp_path: Path) -> None:
    text = (
        '[data]\ninteractions = "events.csv"\n[split]\nby = "time"\n'
        "validation_start = 2024-01-31\ntest_start = 2024-02-01T12:00:00Z\n"
    )
    split = load_config(write(tmp_path, text)).split
    assert date.fromisoformat(split.validation_start or "") == date(2024, 1, 31)
    assert datetime.fromisoformat(split.test_start or "").hour == 12
    assert SplitConfig(by="time", test_start="2024-01-31").test_start == "2024-01-31"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = '[data]\ninteractions = "../in/events.csv"\n[training]\ncheckpoint = "kept"\n'
    (tmp_path / "runs").mkdir()
    config = load_config(write(tmp_path / "runs", text))
    assert config.data.interactions == str(tmp_path / "in" / "events.csv")
    assert config.data.items is None
    assert config.data.dataset == str(tmp_path / "runs" / "dataset")
    assert config.bundle.path == str(tmp_path / "runs" / "bundle")
    assert config.training.checkpoint == str(tmp_path / "runs" / "kept")


def test_a_file_that_is_missing_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such file; `dualtower init"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"run\.toml: not valid TOML: .*Invalid value"):
        load_config(write(tmp_path, "data ="))
    with pytest.raises(ConfigError, match=r"data: Field required"):
        load_config(write(tmp_path, ""))


def test_settings_do_not_change_once_they_are_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        EvaluationConfig().exclude_seen = False  # type: ignore[misc]


@pytest.mark.parametrize("name", ["youtube_dnn", "mind", "sasrec"])
def test_models_of_a_history_train_on_windows_in_the_papers_preset_too(name: str):
    config = RunConfig.model_validate(
        {"data": {"interactions": "x.csv"}, "model": {"name": name, "preset": "paper"}}
    )
    assert config.training == TrainingConfig.of("paper", examples="windows")
    assert TrainingConfig.of("paper").for_model(name) == config.training
    assert TrainingConfig.of("paper").for_model("dat") == TrainingConfig.of("paper")


@pytest.mark.parametrize(
    ("by", "settings", "message"),
    [
        ("leave_last_out", "test_days = 14", 'test_days is for by = "time"'),
        ("column", 'test_start = "2024-01-01"', 'test_start is for by = "time"'),
        ("leave_last_out", "validation_days = 3", 'validation_days is for by = "time"'),
        ("time", "test_days = 14\nvalidation_share = 0.1", 'validation_share is for by = "column"'),
    ],
)
def test_settings_of_another_split_are_refused(
    by: str, settings: str, message: str, tmp_path: Path
) -> None:
    text = f'[data]\ninteractions = "events.csv"\n[split]\nby = "{by}"\n{settings}\n'
    with pytest.raises(ConfigError, match=f'{message} and does nothing with by = "{by}"'):
        load_config(write(tmp_path, text))


@pytest.mark.parametrize("split", [{}, {"by": "time", "test_days": 14}], ids=["default", "time"])
def test_a_split_column_that_the_split_does_not_read_is_refused(split: dict[str, Any]) -> None:
    by = split.get("by", "leave_last_out")
    message = f"columns.split names the column 'part', whose marks split.by = \"{by}\" does not"
    with pytest.raises(ConfigError, match=message) as caught:
        run(columns={"split": "part"}, split=split)
    assert "Value error" not in str(caught.value)
    assert "events.parquet" not in str(caught.value)  # not the whole configuration
    assert run(columns={"split": "part"}, split={"by": "column"}).columns.split == "part"


def load(folder: Path, dataset: str, bundle: str, training: str) -> RunConfig:
    data = f'interactions = "events.parquet"\ndataset = "{dataset}"'
    sections = f'[data]\n{data}\n[bundle]\npath = "{bundle}"\n[training]\n{training}\n'
    return load_config(write(folder, sections))


@pytest.mark.parametrize(
    ("dataset", "bundle", "training", "message"),
    [
        ("out", "./out/", "", "bundle.path = '.*/out' is in the folder of data.dataset = '.*/out'"),
        ("out/data", "out", "", "data.dataset = '.*/out/data' is in the folder of bundle.path = '"),
        ("data", ".", "", "data.dataset = '.*/data' is in the folder of bundle.path = '"),
        ("link/data", "out", "", "data.dataset = '.*/link/data' is in the folder of bundle.path"),
        ("a", "b", 'checkpoint = "b"', "training.checkpoint = '.*/b' is in the folder of bundle"),
        ("a", "b", 'checkpoint = "c"\ntensorboard = "c/log"', "tensorboard = '.*/c/log' is in the"),
    ],
)
def test_folders_that_would_replace_each_other_are_refused(
    dataset: str, bundle: str, training: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, dataset, bundle, training)
    assert "Value error" not in str(caught.value)


def test_folders_named_as_seen_from_elsewhere_are_compared_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.dataset = .* is in the folder of bundle\.path"):
        load(tmp_path, str(tmp_path / "out" / "data"), "out", "")


def test_folders_beside_each_other_are_not_in_each_other(tmp_path: Path) -> None:
    training = 'checkpoint = "out/bundle-checkpoint"\ntensorboard = "out/log"'
    load(tmp_path, "out/data", "out/bundle", training)
    (tmp_path / "run").mkdir()
    config = load(tmp_path / "run", "../x", ".", "")
    assert (config.data.dataset, config.bundle.path) == (str(tmp_path / "x"), str(tmp_path / "run"))


def test_brackets_are_escaped_where_a_glob_is_meant_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "run [1]"
    folder.mkdir()
    (folder / "log [v2].csv").touch()
    text = (
        '[data]\ninteractions = "log [v2].csv"\nitems = "*.parquet"\ndataset = "data [v2]"\n'
        '[bundle]\npath = "bundle [v2]"\n'
        '[training]\ncheckpoint = "kept [v2]"\ntensorboard = "traces [v2]"\n'
    )
    config = load_config(write(folder, text))
    assert config.data.interactions == str(folder / "log [v2].csv")
    assert config.data.items == str(tmp_path / "run [[]1]" / "*.parquet")
    assert config.data.dataset == str(folder / "data [v2]")
    assert config.bundle.path == str(folder / "bundle [v2]")
    assert config.training.checkpoint == str(folder / "kept [v2]")
    assert config.training.tensorboard == str(folder / "traces [v2]")
