from pathlib import Path

import polars as pl
import pytest

from dualtower.config import RunConfig, load_config
from dualtower.data.config_text import config_text
from dualtower.data.discover import discover
from dualtower.data.prepare import prepare
from dualtower.data.splits import split
from dualtower.errors import ConfigError
from tests.data.test_discover import interactions, movies, write


def test_the_text_loads_as_what_was_guessed_and_runs(tmp_path: Path) -> None:
    tables = tmp_path / 'my "tables"'
    tables.mkdir()
    write(tables, "ratings.csv", interactions())
    write(tables, "movies.csv", movies().with_columns(tags=pl.Series(["x|y", "z"] * 15)))
    guess = discover([tables])
    output = tmp_path / "runs" / "dualtower.toml"
    output.parent.mkdir()
    text = config_text(guess, output)
    output.write_text(text, encoding="utf-8")
    config = load_config(output)
    assert config.columns == guess.config.columns
    assert config.split == guess.config.split
    assert config.data.interactions == str(tables / "ratings.csv")
    assert str(tmp_path) not in text
    dataset = prepare(config, progress=False)
    assert dataset.event_count == 300
    assert split(dataset, config.split).test.event_count > 0


def test_every_setting_is_there_and_has_a_remark(tmp_path: Path) -> None:
    path = write(tmp_path, "log.parquet", interactions())
    lines = config_text(discover([path]), tmp_path / "run.toml").splitlines()
    assert all(len(line) <= 100 for line in lines)
    for name, field in RunConfig.model_fields.items():
        assert f"[{name}]" in lines
        assert field.annotation is not None
        for setting in field.annotation.model_fields:
            at = [
                number
                for number, line in enumerate(lines)
                if line.removeprefix("# ").startswith(f"{setting} = ")
            ]
            assert at, setting
            assert lines[at[0] - 1].startswith(("# ", "[columns]")) or "features" in setting
    assert any('#   {name = "device"},' in line for line in lines)


def test_a_rating_is_only_suggested_as_a_weight(tmp_path: Path) -> None:
    path = write(tmp_path, "log.parquet", interactions())
    lines = config_text(discover([path]), tmp_path / "run.toml").splitlines()
    place = lines.index('# weight = "rating"')
    assert "A low rating" in " ".join(lines[place - 3 : place])


def test_tables_in_a_folder_called_dataset_are_not_replaced_by_it(tmp_path: Path) -> None:
    tables = tmp_path / "dataset"
    tables.mkdir()
    write(tables, "ratings.csv", interactions())
    output = tmp_path / "dualtower.toml"
    output.write_text(config_text(discover([tables]), output), encoding="utf-8")
    config = load_config(output)
    assert config.data.dataset == str(tmp_path / "dualtower-dataset")
    prepare(config, progress=False)
    assert (tables / "ratings.csv").is_file()


def write_parts(folder: Path, suffix: str = ".csv") -> None:
    folder.mkdir(parents=True)
    log = interactions()
    write(folder, f"1{suffix}", log[:150])
    write(folder, f"2{suffix}", log[150:])


def test_a_folder_of_like_files_may_hold_the_configuration_and_others(tmp_path: Path) -> None:
    folder = tmp_path / "log [v2]"
    write_parts(folder)
    (folder / "README.md").write_text("about", encoding="utf-8")
    output = folder / "dualtower.toml"
    output.write_text(config_text(discover([folder]), output), encoding="utf-8")
    for _ in range(2):  # the second time with a dataset beside the tables
        config = load_config(output)
        assert config.data.dataset == str(folder / "dataset")
        assert prepare(config, progress=False).event_count == 300


def test_a_configuration_among_the_parquet_files_of_a_table_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "log [v2]"
    write_parts(folder / "2024", ".parquet")
    (folder / "2025").mkdir()
    write(folder / "2025", "3.parquet", interactions())
    guess = discover([folder])
    with pytest.raises(ConfigError, match=r"data\.interactions: .* name a file elsewhere"):
        config_text(guess, folder / "dualtower.toml")
    output = tmp_path / "dualtower.toml"
    output.write_text(config_text(guess, output), encoding="utf-8")
    assert prepare(load_config(output), progress=False).event_count == 600


@pytest.mark.parametrize("name", ["log", "log [v2]"])
def test_a_configuration_may_be_among_nested_csv_files(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    write_parts(folder / "2024")
    (folder / "2025").mkdir()
    write(folder / "2025", "3.csv", interactions())
    output = folder / "dualtower.toml"
    output.write_text(config_text(discover([folder]), output), encoding="utf-8")
    for _ in range(2):  # the second time with a dataset among the tables
        assert prepare(load_config(output), progress=False).event_count == 600


def test_tables_named_from_a_folder_with_brackets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run [1]"
    write_parts(folder)
    write(folder, "log [v2].csv", interactions())
    monkeypatch.chdir(folder)
    output = Path("dualtower.toml")
    for name, events in (("log [v2].csv", 300), ("[0-9].csv", 300)):
        output.write_text(config_text(discover([name]), output), encoding="utf-8")
        assert f'interactions = "{name}"' in output.read_text(encoding="utf-8")
        assert prepare(load_config(output), progress=False).event_count == events
