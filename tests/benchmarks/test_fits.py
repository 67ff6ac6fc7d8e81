from pathlib import Path

from benchmarks.fits import measure
from tests.studies.runs import CONFIG
from tests.synthetic import write_tables


def test_a_fit_is_measured_on_the_tables_of_its_configuration(tmp_path: Path) -> None:
    tables = tmp_path / "data" / "small"
    tables.mkdir(parents=True)
    write_tables(tables)
    config = tmp_path / "small.toml"
    config.write_text(CONFIG.replace("epochs = 1", "epochs = 2"), encoding="utf-8")
    found = measure(config, tmp_path / "data")
    assert (found["model"], found["passes"]) == ("dat", 2)
    assert 0 <= float(found["shortest_pass"]) <= float(found["longest_pass"])
    assert 0 < float(found["seconds"]) < 60
    assert not list(tmp_path.glob("**/bundle"))
