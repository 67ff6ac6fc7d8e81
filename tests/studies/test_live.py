from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualtower.errors import ConfigError
from dualtower.evaluation.results import read_results
from dualtower.evaluation.significance import compare_values
from dualtower.evaluation.tables import by_label
from dualtower.studies.live import LivePlan, _tests, live, share_reached
from dualtower.studies.live_order import LIVE_STATE_DIFFERENCE
from tests.studies.runs import small_study, work_here


def plan_of(folder: Path, **settings: Any) -> LivePlan:
    chosen: dict[str, Any] = {
        "period_share": 0.4,
        "held_share": 0.3,
        "counts": (0, 1, 2),
        "trained_at": 2,
        **settings,
    }
    return LivePlan(small_study(folder, seeds=(0,)), **chosen)


def silent(line: str) -> None:
    """Nobody listens."""


def test_from_end_to_end_and_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = work_here(monkeypatch)
    plan = plan_of(tmp_path)
    found = live(plan, silent)
    assert read_results(plan.study.results) == found
    assert found.protocol.startswith("replayed: the last 40% of each query's events")
    rows = by_label(found)
    for label in (
        "dat, live",
        "dat, frozen vectors",
        "dat, frozen",
        "two_tower, live",
        "dat, after 0",
        "dat, unknown row, after 2",
        "dat, trained with them, after 2",
        "two_tower, after 2",
        "item_knn, after 2",
    ):
        assert label in rows, (label, found.refusals)
    # Eight events each: ceil(.4 · 8) = 4 of every query, all new, are replayed.
    for variation in ("live", "frozen vectors", "frozen"):
        metrics = rows[f"dat, {variation}"][0].metrics
        assert (metrics["targets"], metrics["queries"]) == (240, 60)
    assert rows["dat, live"][0].metrics[LIVE_STATE_DIFFERENCE] < 1e-5
    # Nothing known of a query is the unknown row's answer.
    assert rows["dat, after 0"][0].metrics["queries"] == 18
    reached = share_reached(found, plan, "mrr")
    assert reached is not None
    assert f"mrr {reached:.1%}" in plan.study.results.with_suffix(".md").read_text(encoding="utf-8")
    assert "<svg" in plan.study.results.with_suffix(".svg").read_text(encoding="utf-8")
    assert {test.other for test in found.tests} >= {"dat, frozen", "item_knn, after 2"}
    fits = len(done)
    again = live(plan, silent)
    assert len(done) == fits + len(found.refusals)
    assert again.runs == found.runs


@pytest.mark.parametrize(
    ("question", "there", "missing", "words"),
    [
        ("period", "dat, live", "dat, after 2", "replayed: the last 40% of each query's events"),
        ("held_out", "dat, after 2", "dat, live", "held out: queries with more than 2 events"),
    ],
)
def test_one_question_alone(
    question: str,
    there: str,
    missing: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work_here(monkeypatch)
    plan = plan_of(tmp_path, questions=(question,))
    found = live(plan, silent)
    rows = by_label(found)
    assert there in rows
    assert missing not in rows
    assert ("dat, trained with them, after 2" in rows) == (question == "held_out")
    assert found.protocol.startswith(words)
    end = ". Fitted on all before the last 40% of each query's events; targets outside the corpus"
    assert end in found.protocol
    assert f"--questions {question}" in found.command
    assert "dat" in plan.study.results.with_suffix(".svg").read_text(encoding="utf-8")


def values(queries: list[int], metric: list[float]) -> dict[str, Any]:
    return {
        "queries": np.array(queries),
        **{name: np.array(metric) for name in ("hit_rate@10", "hit_rate@50", "mrr")},
    }


def test_a_query_that_several_seeds_measured_counts_once_in_the_tests(tmp_path: Path) -> None:
    """Three queries of two seeds are three draws of their means, not six."""
    live_values = {0: values([2, 3, 7], [0.1, 0.5, 0.9]), 1: values([2, 3, 7], [0.3, 0.7, 0.5])}
    frozen = {0: values([2, 3, 7], [0.1, 0.2, 0.3]), 1: values([2, 3, 7], [0.1, 0.2, 0.5])}
    tests = _tests({"dat, live": live_values, "dat, frozen": frozen}, plan_of(tmp_path))
    (found,) = [test for test in tests if test.metric == "mrr"]
    expected = compare_values("mrr", np.array([0.2, 0.6, 0.7]), np.array([0.1, 0.2, 0.4]))
    assert (found.difference, found.low, found.high, found.p_value) == pytest.approx(
        (expected.difference, expected.low, expected.high, expected.p_value)
    )


def test_the_tests_take_the_seeds_that_both_have(tmp_path: Path) -> None:
    """One fit crashed; and each seed holds out queries of its own."""
    ours = {0: values([1, 4], [0.5, 0.3]), 1: values([4, 9], [0.7, 0.1])}
    theirs = {1: values([4, 9], [0.2, 0.2])}
    plan = plan_of(tmp_path)
    (found,) = [
        test
        for test in _tests({"dat, after 2": ours, "wals, after 2": theirs}, plan)
        if test.metric == "mrr"
    ]
    assert found.difference == pytest.approx(0.2)
    assert _tests({"dat, after 2": {0: ours[0]}, "wals, after 2": theirs}, plan) == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"held_share": 1.0}, "between 0 and 1"),
        ({"period_share": 0.0}, "between 0 and 1"),
        ({"counts": ()}, "after no events"),
        ({"trained_at": 5}, "whole numbers from 0, 5"),
        ({"trained_at": 0}, "--trained-at: 0 given; queries are trained with 1 event or more"),
        ({"questions": ("test",)}, "questions test given; name some of period, held_out"),
        ({"questions": ()}, "questions none given"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(tmp_path, **settings)
