import pytest

from dualtower.errors import DataError
from dualtower.evaluation.results import PairedTest, Refusal
from dualtower.evaluation.tables import (
    mean_and_deviation,
    paired_tests_table,
    refusals_list,
    results_table,
    segments_table,
    value_of,
)
from tests.evaluation.test_results import MEASURED, results_of, run_of

SEGMENTS = {
    "cold items": {"count": 0, "hit_rate@50": None, "mrr": None},
    "warm items": {"count": 1200, "hit_rate@50": 0.3, "mrr": 0.06},
}


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


def test_mean_and_deviation():
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_deviation([4.0]) == (4.0, None)


def test_a_figure_by_its_name():
    run = run_of("dat", 0, 0.2, segments=SEGMENTS)
    assert value_of(run, "hit_rate@50") == 0.2
    assert value_of(run, "mrr_x10") == 0.5
    assert value_of(run, "warm_items.mrr") == 0.06
    assert value_of(run, "cold_items.mrr") is None
    with pytest.raises(DataError, match=r"dat, seed 0: no metric 'warm_queries.mrr'"):
        value_of(run, "warm_queries.mrr")


def test_variations_of_a_model_have_rows_of_their_own():
    runs = [run_of("dat", 0, 0.2), run_of("dat", 0, 0.3, variation="no history")]
    lines = results_table(results_of(*runs), ["mrr"]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["dat", "dat, no history"]


def test_segments_have_a_column_each_and_a_dash_where_they_are_empty():
    runs = [run_of("dat", seed, 0.2, segments=SEGMENTS) for seed in (0, 1)]
    assert segments_table(results_of(*runs)).splitlines() == [
        "| model (mrr) | cold items (0) | warm items (1,200) |",
        "| --- | ---: | ---: |",
        "| dat | – | 0.0600 ± 0.0000 |",
    ]


def test_paired_tests_have_a_row_per_other_model():
    test = PairedTest(
        model="dat",
        other="ease",
        metric="mrr",
        difference=0.01,
        low=0.005,
        high=0.015,
        p_value=0.0002,
        best_other=True,
    )
    results = results_of(run_of("dat", 0, 0.2)).model_copy(update={"tests": (test,)})
    assert paired_tests_table(results).splitlines() == [
        "| dat against | mrr |",
        "| --- | ---: |",
        "| ease | +0.0100 (+0.0050 … +0.0150), p = 0.0002, best other |",
    ]
    with pytest.raises(DataError, match="no test of 'hit_rate@50' against ease"):
        paired_tests_table(results, ["hit_rate@50"])


def test_what_could_not_run_is_listed_with_its_reason():
    refusal = Refusal(model="ease", seed=0, reason="too many\n  items")
    results = results_of(run_of("dat", 0, 0.2)).model_copy(update={"refusals": (refusal,)})
    assert refusals_list(results) == "- ease, seed 0: too many items"
