import json

import pytest

from dualtower.errors import ConfigError, DataError
from dualtower.evaluation import results as module
from dualtower.evaluation.results import (
    DataSource,
    Measurements,
    Results,
    Run,
    mean_and_deviation,
    peak_memory_mb,
    processor,
    read_results,
    results_table,
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
    ]
    assert values["runs"][0]["metrics"]["hit_rate@50"] == 0.2


def test_a_row_per_model_with_mean_and_deviation():
    runs = [run_of("dat", seed, rate) for seed, rate in enumerate((0.2, 0.22, 0.21))]
    table = results_table(results_of(*runs, run_of("ease", 0, 0.16)))
    assert table.splitlines() == [
        "| model | hit_rate@50 | mrr | seeds | fit, s | peak MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| dat | 0.2100 ± 0.0100 | 0.0525 ± 0.0025 | 3 | 101 | 1,202 |",
        "| ease | 0.1600 | 0.0400 | 1 | 100 | 1,200 |",
    ]


def test_columns_can_be_chosen():
    table = results_table(results_of(run_of("dat", 0, 0.2)), ["recall@50"])
    assert table.splitlines()[2] == "| dat | 0.5000 | 1 | 100 | 1,200 |"
    with pytest.raises(DataError, match=r"dat, seed 0: no metric 'auc'"):
        results_table(results_of(run_of("dat", 0, 0.2)), ["auc"])


def test_a_row_per_measurement():
    assert results_table(MEASURED).splitlines() == [
        "| way | seconds | rows |",
        "| --- | ---: | ---: |",
        "| ours | 1.23 | 20,000,000 |",
        "| b | 7 | 3 |",
    ]
    assert results_table(MEASURED, ["rows"]).splitlines()[2] == "| 20,000,000 |"
    with pytest.raises(DataError, match="run 0: no column 'ratio'"):
        results_table(MEASURED, ["ratio"])


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


def test_mean_and_deviation():
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_deviation([4.0]) == (4.0, None)


def test_facts_of_the_machine(tmp_path):
    assert processor().endswith("cores")
    assert 20 < peak_memory_mb() < 1e6
    assert {"python", "torch", "numpy"} <= versions().keys()
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast One\n", encoding="utf-8")
    assert module._processor_name(cpuinfo) == "Fast One"
