from pathlib import Path

import pytest

from dualtower.config import load_config
from dualtower.studies.compare import Study

CONFIGS = sorted((Path(__file__).parent.parent.parent / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_committed_configuration_is_valid(path: Path) -> None:
    config = load_config(path)
    assert config.split.by == "column"
    assert config.model.preset == ("paper" if path.stem.endswith("-paper") else "recommended")
    if path.stem.endswith("-ids"):
        assert not config.model.history
        assert config.columns.item_features == config.columns.query_features == ()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_tables_are_taken_from_the_folder_that_the_command_names(path: Path) -> None:
    study = Study(path, ("dat",), (0,), True, Path("results/x.json"), data=Path("/somewhere"))
    data = study.config().data
    assert data.interactions == "/somewhere/interactions.parquet"
    assert data.items == "/somewhere/items.parquet"
    assert Path(data.dataset).parts[-3:] == ("runs", "x", "dataset")
