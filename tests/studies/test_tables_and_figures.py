"""The studies of the paper's tables and figure, and of single factors, from end to end."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.results import Measurements, Results, read_results
from dualtower.studies import factors as factors_module
from dualtower.studies.factors import factors, noise_of
from dualtower.studies.figure2 import figure2
from dualtower.studies.study import Entry, Measured, measure
from dualtower.studies.table1 import statistics, table1
from dualtower.studies.table2 import columns, paired_tests, table2
from tests.evaluation.test_results import results_of, run_of
from tests.helpers import leave_last_out_by_hand, tiny_dataset
from tests.studies.runs import CONFIG, small_study, work_here


def silent(line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return work_here(monkeypatch)


def test_table_1_counts(tmp_path: Path) -> None:
    plan = small_study(tmp_path)
    found = table1(plan, silent)
    row = found.runs[0]
    assert (row["queries"], row["items"], row["interactions"], row["categories"]) == (
        60,
        40,
        480,
        4,
    )
    assert row["density"] == pytest.approx(480 / (60 * 40))
    assert row["events_per_query"] == row["median_events_per_query"] == 8
    assert row["largest_category_share"] == 0.25
    assert (row["train"], row["validation"], row["test"]) == (360, 60, 60)
    assert read_results(plan.results) == found
    assert isinstance(found, Measurements)
    assert "| small | 60 | 40 |" in plan.results.with_suffix(".md").read_text(encoding="utf-8")


def test_statistics_by_hand() -> None:
    dataset = tiny_dataset([[1, 2, 3], [1, 1, 1, 3], [4]], categories=["a", "b", "b", None])
    found = statistics(dataset, leave_last_out_by_hand(dataset))
    assert (found["queries"], found["items"], found["interactions"]) == (3, 4, 8)
    assert found["density"] == pytest.approx(8 / 12)
    assert found["events_per_query"] == pytest.approx(8 / 3)
    assert found["median_events_per_query"] == 3
    # a: 1, 1, 1, 1; b: 2, 3, 3; item 4 has none.
    assert (found["largest_category"], found["largest_category_share"]) == (
        "a",
        pytest.approx(4 / 7),
    )
    assert (found["train"], found["validation"], found["test"]) == (4, 2, 2)


def test_statistics_without_categories() -> None:
    dataset = tiny_dataset([[1, 2, 3]])
    found = statistics(dataset, leave_last_out_by_hand(dataset))
    assert (found["categories"], found["largest_category"]) == (0, "–")
    assert found["largest_category_share"] == 0


def slow_paired_p(first: Sequence[float], second: Sequence[float], draws: int = 4000) -> float:
    """The two-sided bootstrap p as a loop over samples, with draws of its own."""
    random = np.random.default_rng(77)
    differences = [one - other for one, other in zip(first, second, strict=True)]
    below = above = 0
    for _ in range(draws):
        drawn = random.integers(0, len(differences), len(differences))
        total = sum(differences[place] for place in drawn)
        below += total <= 0
        above += total >= 0
    return min(1.0, 2 * (1 + min(below, above)) / (draws + 1))


def test_table_2_is_written_with_tests_of_dat_against_every_other(
    tmp_path: Path, done: list[str]
) -> None:
    plan = small_study(tmp_path)
    names = ("two_tower", "dat", "dat_learned", "item_knn", "popularity")
    found = table2(plan, names, silent)
    assert read_results(plan.results) == found
    assert found.command.endswith(
        "--models two_tower,dat,dat_learned,item_knn,popularity --seeds 0,1 --data FOLDER "
        "--results results/small.json"
    )
    others = [test.other for test in found.tests if test.metric == "mrr"]
    assert others == ["two_tower", "dat_learned", "item_knn", "popularity"]
    assert {test.model for test in found.tests} == {"dat"}
    for metric in ("mrr", "hit_rate@5", "hit_rate@10"):
        best = [test.other for test in found.tests if test.metric == metric and test.best_other]
        means = {
            name: np.mean([run.metrics[metric] for run in found.runs if run.model == name])
            for name in ("two_tower", "item_knn", "popularity")
        }
        assert best == [max(means, key=lambda name: means[name])]
    values = measure(plan, [Entry(name) for name in names], silent).values
    for test in found.tests:
        if test.metric == "mrr":
            first, second = values["dat"]["mrr"], values[test.other]["mrr"]
            assert test.difference == pytest.approx(float(np.mean(first) - np.mean(second)))
            slow = slow_paired_p(first.tolist(), second.tolist())
            assert test.p_value == pytest.approx(slow, rel=0.2, abs=0.01)
    text = plan.results.with_suffix(".md").read_text(encoding="utf-8")
    assert "mrr_x10" in text
    assert "| model (mrr) | minor categories" in text
    assert "| dat against |" in text
    assert "<svg" in plan.results.with_suffix(".svg").read_text(encoding="utf-8")


def test_p_averages_seeds_first() -> None:
    """Two seeds whose values per query differ a lot and whose means per query do not."""
    random = np.random.default_rng(3)
    values: npt.NDArray[np.float64] = random.random(50)
    averaged = {"dat": {"mrr": values + 0.001}, "ease": {"mrr": values}}
    results = results_of(run_of("dat", 0, 0.2), run_of("ease", 0, 0.1))
    measured = Measured((), (), averaged, config=None, dataset=None)  # type: ignore[arg-type]
    (test,) = paired_tests(measured, results, "dat", ["mrr"])
    assert test.difference == pytest.approx(0.001)
    assert test.p_value < 0.001
    assert test.best_other


def test_recall_and_ndcg_are_shown_where_queries_have_several_targets() -> None:
    run = run_of("dat", 0, 0.2)
    assert columns(results_of(run)) == ["hit_rate@50", "mrr", "mrr_x10", "recall@50", "ndcg@50"]
    one_each = run.model_copy(update={"metrics": {**run.metrics, "recall@50": 0.2}})
    assert columns(results_of(one_each)) == ["hit_rate@50", "mrr", "mrr_x10"]


def test_table_2_with_several_targets_and_a_model_that_cannot_run(
    tmp_path: Path, done: list[str]
) -> None:
    plan = small_study(tmp_path, seeds=(0,))
    blind = CONFIG.replace("[model]", "[model]\nhistory = false\n").replace(
        "[evaluation]", '[split]\nby = "time"\ntest_days = 2\nvalidation_days = 1\n\n[evaluation]'
    )
    plan.config_path.write_text(blind, encoding="utf-8")
    found = table2(plan, ("dat", "two_tower", "popularity"), silent)
    assert [refusal.model for refusal in found.refusals] == ["two_tower"]
    assert "the query tower has no input" in found.refusals[0].reason
    assert {test.other for test in found.tests} == {"popularity"}
    text = plan.results.with_suffix(".md").read_text(encoding="utf-8")
    assert "Could not run:\n\n- two_tower, seed 0: model: the query tower has no input" in text
    assert "recall@5 | ndcg@5" in text


def test_figure_2_has_a_curve_per_form_and_the_level(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path)
    found = figure2(plan, (4, 8), silent)
    labels = [run.label for run in found.runs if run.seed == 0]
    assert labels == [
        "two_tower",
        "dat, leave_out, 4",
        "dat, leave_out, 8",
        "dat, learned, 4",
        "dat, learned, 8",
    ]
    assert found.runs[2].settings["model.augmented_dim"] == 4
    assert read_results(plan.results) == found
    assert "study figure2" in found.command
    assert "--dims 4,8 --seeds 0,1 --data FOLDER" in found.command
    svg = plan.results.with_suffix(".svg").read_text(encoding="utf-8")
    assert "dat, learned" in svg
    assert "two_tower" in svg


@pytest.mark.parametrize(("dims", "forms"), [((), ("learned",)), ((0,), ()), ((8,), ("other",))])
def test_figure_2_of_nothing_is_refused(
    tmp_path: Path, dims: tuple[int, ...], forms: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match=r"figure2: forms .* given; name forms of leave_out"):
        figure2(small_study(tmp_path), dims, silent, forms=forms)


def test_factors_are_differences_to_the_model_as_configured(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few: dict[str, Any] = {
        "temperature": {"0.1": {"training.temperature": 0.1}, "0.5": {"training.temperature": 0.5}},
        "odd": {"blind": {"model.history": False, "model.augmented": "none"}},
    }
    monkeypatch.setattr(factors_module, "FACTORS", few)
    plan = small_study(tmp_path, final=False)
    found = factors(plan, silent)
    labels = list(dict.fromkeys(run.label for run in found.runs))
    assert labels == ["dat", "dat, temperature: 0.1", "dat, temperature: 0.5"]
    rows = factors_module.differences(found, "dat", ["mrr"])
    assert rows["temperature: 0.1"]["mrr"] == (0.0, [0.0, 0.0])
    of = {(run.label, run.seed): run.metrics["mrr"] for run in found.runs}
    seeds = [of["dat, temperature: 0.5", seed] - of["dat", seed] for seed in (0, 1)]
    assert rows["temperature: 0.5"]["mrr"] == (pytest.approx(np.mean(seeds)), seeds)
    text = plan.results.with_suffix(".md").read_text(encoding="utf-8")
    assert "| temperature: 0.1 | +0.0000 | +0.0000 | +0.0000 |" in text
    assert "- dat, odd: blind, seed 0: model: the query tower has no input" in text
    assert "measured on validation" in found.protocol
    assert "temperature: 0.5" in plan.results.with_suffix(".svg").read_text(encoding="utf-8")


def test_noise_is_half_the_interval_of_a_difference() -> None:
    runs = [run_of("dat", seed, rate) for seed, rate in enumerate((0.2, 0.4))]
    runs += [run_of("dat", seed, 0.3, variation="x") for seed in (0, 1)]
    # Deviations .141 and 0: pooled variance .01; of a difference of means of two: .01.
    # 4.303 is Student's t of two degrees of freedom at .975, from a printed table.
    once = {"hit_rate@50": pytest.approx(0.4303, abs=1e-4)}
    assert noise_of(results_of(*runs), "dat", ["hit_rate@50"]) == once
    # What is the model as configured once more tells nothing new.
    again = [run_of("dat", seed, rate, variation="y") for seed, rate in enumerate((0.2, 0.4))]
    assert noise_of(results_of(*runs, *again), "dat", ["hit_rate@50"]) == once
    assert noise_of(results_of(runs[0]), "dat", ["mrr"]) == {"mrr": 0.0}
    # Another setting with three seeds .1 apart: (.02 + 0 + .02) / 4 degrees, for which t is 2.776.
    more = [run_of("dat", seed, 0.1 * seed, variation="z") for seed in range(3)]
    assert noise_of(results_of(*runs, *more), "dat", ["hit_rate@50"]) == {
        "hit_rate@50": pytest.approx(2.776 * 0.1, abs=1e-4)
    }


def test_noise_of_single_runs_is_told_by_more_seeds_of_the_configuration(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run_of("dat", seed, rate) for seed, rate in enumerate((0.2, 0.3, 0.4))]
    runs += [run_of("dat", 0, 0.2, variation="the same"), run_of("dat", 0, 0.5, variation="x")]
    # Deviation .1 by three seeds, t of two degrees 4.303; one run less one run: a root of two.
    assert noise_of(results_of(*runs), "dat", ["hit_rate@50"]) == {
        "hit_rate@50": pytest.approx(4.303 * 0.1 * 2**0.5, abs=1e-4)
    }
    text = factors_module.markdown(results_of(*runs), "dat")
    assert "| as configured | 0.0500 | 0.2000 |" in text  # of the seed that is compared
    few: dict[str, Any] = {"temperature": {"0.5": {"training.temperature": 0.5}}}
    monkeypatch.setattr(factors_module, "FACTORS", few)
    plan = small_study(tmp_path, seeds=(0,), final=False)
    found = factors(plan, silent, noise_seeds=(1, 0))
    assert [(run.variation, run.seed) for run in found.runs] == [
        ("", 0),
        ("", 1),
        ("temperature: 0.5", 0),
    ]
    assert "--seeds 0 --noise-seeds 1,0" in found.command


def test_an_unknown_factor_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--factors: no factor 'colour'; there are augmented"):
        factors(small_study(tmp_path), silent, names=("colour",))


def test_factors_of_a_model_that_cannot_run_are_refused(tmp_path: Path, done: list[str]) -> None:
    plan = small_study(tmp_path, seeds=(0,), final=False)
    blind = CONFIG.replace("[model]", '[model]\nhistory = false\naugmented = "none"\n')
    plan.config_path.write_text(blind, encoding="utf-8")
    with pytest.raises(DataError, match="dat as configured could not run"):
        factors(plan, silent, names=("query_id",))


def test_results_of_earlier_studies_are_read(tmp_path: Path) -> None:
    old = results_of(run_of("dat", 0, 0.2)).model_dump(mode="json")
    for field in ("refusals", "tests"):
        del old[field]
    for field in ("variation", "segments"):
        del old["runs"][0][field]
    (tmp_path / "old.json").write_text(json.dumps(old), encoding="utf-8")
    assert isinstance(read_results(tmp_path / "old.json"), Results)
