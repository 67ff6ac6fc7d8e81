import json

import pytest

from dualtower.errors import ConfigError, DataError
from dualtower.evaluation import results as module
from dualtower.evaluation.results import (
    DataSource,
    Measurements,
    Results,
    Run,
    peak_memory_mb,
    processor,
    read_results,
    versions,
    write_results,
)


def run_of(model: str, seed: int, hit_rate: float, **changes) -> Run:
    metrics = {"hit_rate@50": hit_rate, "mrr": hit_rate / 4, "recall@50": 0.5}
    return Run(
        model=model, seed=seed, metrics=metrics, seconds=100 + seed, peak_memory_mb=1200 + seed
    ).model_copy(update=changes)


def results_of(*runs: Run) -> Results:
    return Results(
        command="make it",
        data=DataSource(name="made up", sha256="00"),
        protocol="leave last out",
        preset="recommended",
        versions={"python": "3.11"},
        processor="a processor",
        runs=runs,
    )


MEASURED = Measurements(
    command="python -m benchmarks.thing",
    protocol="made up",
    versions={},
    processor="a processor",
    runs=(
        {"way": "ours", "seconds": 1.2345, "rows": 20_000_000},
        {"way": "b", "seconds": 7.0, "rows": 3},
    ),
)


def test_results_are_read_as_written(tmp_path):
    written = results_of(run_of("dat", 0, 0.2))
    write_results(tmp_path / "a.json", written)
    write_results(tmp_path / "b.json", MEASURED)
    assert read_results(tmp_path / "a.json") == written
    assert read_results(tmp_path / "b.json") == MEASURED
    values = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert list(values) == [
        "command",
        "data",
        "protocol",
        "preset",
        "versions",
        "processor",
        "runs",
        "refusals",
        "tests",
    ]
    assert values["runs"][0]["metrics"]["hit_rate@50"] == 0.2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json: no such results file"):
        read_results(tmp_path / "gone.json")


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "cut.json").write_text('{"command": ', encoding="utf-8")
    with pytest.raises(DataError, match=r"cut\.json: not valid JSON"):
        read_results(tmp_path / "cut.json")


@pytest.mark.parametrize("text", ["[]", "{}", '{"data": 3}'])
def test_a_file_of_another_form_is_named(tmp_path, text):
    (tmp_path / "odd.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"odd\.json is not valid"):
        read_results(tmp_path / "odd.json")


def test_facts_of_the_machine(tmp_path):
    assert processor().endswith("cores")
    assert 20 < peak_memory_mb() < 1e6
    assert {"python", "torch", "numpy"} <= versions().keys()
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast One\n", encoding="utf-8")
    assert module._processor_name(cpuinfo) == "Fast One"
