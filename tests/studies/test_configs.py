from pathlib import Path

import pytest

from dualtower.config import load_config
from dualtower.studies.grocery import write_config
from dualtower.studies.study import Study

CONFIGS = sorted((Path(__file__).parent.parent.parent / "configs").glob("*.toml"))

SPLITS = {"complete-journey": "time", "movielens-100k": "leave_last_out"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_committed_configuration_is_valid(path: Path) -> None:
    config = load_config(path)
    assert config.split.by == SPLITS.get(path.stem, "column")
    assert config.model.preset == ("paper" if path.stem.endswith("-paper") else "recommended")
    if path.stem.endswith("-ids"):
        assert config.model.query_id
        assert not config.model.history
        whole = load_config(path.with_stem(path.stem.removesuffix("-ids")))
        for part in ("data", "columns", "filter", "split"):
            assert getattr(config, part) == getattr(whole, part), part
    if path.stem == "movielens-100k":  # as imported
        assert config.model.model_fields_set == config.training.model_fields_set == set()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_tables_are_taken_from_the_folder_that_the_command_names(path: Path) -> None:
    study = Study(path, Path("results/x.json"), data=Path("/somewhere"))
    data, own = study.config().data, load_config(path).data
    for table in ("interactions", "items", "queries"):
        file = getattr(own, table)
        assert getattr(data, table) == (file and f"/somewhere/{Path(file).name}")
    assert Path(data.dataset).parts[-3:] == ("runs", "x", "dataset")


def test_the_grocery_study_is_the_quickstart_s_run(tmp_path: Path) -> None:
    write_config(tmp_path / "dualtower.toml")
    quickstart = load_config(tmp_path / "dualtower.toml").model_dump(exclude={"data", "bundle"})
    (committed,) = (path for path in CONFIGS if path.stem == "complete-journey")
    assert load_config(committed).model_dump(exclude={"data", "bundle"}) == quickstart
