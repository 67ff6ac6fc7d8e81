"""The report of made observations, where what is true is known."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from dualtower.errors import DataError
from dualtower.experiments.assignment import Arm, Experiment
from dualtower.experiments.observations import Before, LeftOut, Observations
from dualtower.experiments.report import Report, look_at, make_report, verdicts
from dualtower.experiments.requests import Requests
from dualtower.experiments.sequential import always_valid_bound, obrien_fleming_bound
from dualtower.experiments.simulator import Lift, Plan, simulate


def planned(days: int = 3, arms: tuple[str, ...] = ("control", "treatment")) -> Experiment:
    return Experiment(
        name="test",
        salt="s",
        days=days,
        arms=tuple(Arm(name=name, bundle="b") for name in arms),
        expected_queries=2_000,
    )


def seen(lift: float = 0.0, queries: int = 2_000, days: int = 3, **more: object) -> Observations:
    plan = Plan(queries=queries, days=days, lifts={"treatment": Lift(clicks=lift)})
    plan = plan.model_copy(update=more)
    return simulate(plan, np.random.default_rng(3))


@pytest.fixture(scope="module")
def lifted() -> tuple[Observations, Report]:
    observations = seen(0.5)
    return observations, make_report(observations, planned())


def test_a_large_lift_is_found(lifted: tuple[Observations, Report]) -> None:
    report = lifted[1]
    assert report.sample_ratio.verdict == "ok"
    assert [look.day for look in report.cumulative] == [1, 2, 3]
    (ctr,) = (found for found in report.decisive if found.metric == "ctr")
    assert ctr.cuped
    assert ctr.low < 0.5 < ctr.high
    assert ctr.p_corrected is not None
    assert ctr.p_corrected < 1e-3
    assert report.crossed["treatment"] in (1, 2, 3)
    first = verdicts(report)[0]
    assert first.startswith("treatment against control, CTR, CUPED: +")
    assert "more than chance, planned bound crossed on day" in first


def test_looks_add_up_days_and_queries(lifted: tuple[Observations, Report]) -> None:
    observations, report = lifted
    control = observations.arm == 0
    second = report.cumulative[1]
    shown = observations.exposed <= 1
    assert second.queries["control"] == int((control & shown).sum())
    plain = next(found for found in second.estimates if not found.cuped)
    clicks = observations.clicks[control, :2].sum()
    assert plain.control == pytest.approx(clicks / observations.impressions[control, :2].sum())
    alone = report.daily[1]
    on_day = observations.impressions[:, 1] > 0
    assert alone.queries["control"] == int((control & on_day).sum())
    assert alone.estimates[0].control == pytest.approx(
        observations.clicks[control, 1].sum() / observations.impressions[control, 1].sum()
    )
    gmv = next(found for found in report.cumulative[2].estimates if found.metric == "gmv")
    assert gmv.control == pytest.approx(observations.gmv[control].sum() / control.sum())


def test_winsorised_gmv_is_cut_at_the_quantile_of_those_that_ordered(
    lifted: tuple[Observations, Report],
) -> None:
    observations, report = lifted
    gmv = observations.gmv.sum(axis=1)
    cut = np.minimum(gmv, np.quantile(gmv[gmv > 0], 0.99))[observations.arm == 0]
    name = "gmv_winsorised"
    found = next(found for found in report.cumulative[2].estimates if found.metric == name)
    assert found.control == pytest.approx(cut.mean())


def test_bounds_are_those_of_the_look(lifted: tuple[Observations, Report]) -> None:
    look = lifted[1].cumulative[0]
    found = look.estimates[0]
    bound = obrien_fleming_bound(1, 3)
    assert bound is not None
    assert found.planned == found.within(bound)
    assert found.always == found.within(always_valid_bound(sum(look.queries.values()), 2_000))


def test_a_broken_division_blocks_every_result() -> None:
    report = make_report(seen(0.5, shares={"control": 0.42, "treatment": 0.58}), planned())
    assert report.sample_ratio.verdict == "blocked"
    assert (report.cumulative, report.daily, report.decisive, report.crossed) == ((), (), (), {})
    assert verdicts(report)[0].startswith("Blocked: the arms' queries differ from their weights")


def test_before_the_planned_end_no_p_value_is_said() -> None:
    report = make_report(seen(days_before=0), planned(days=7), daily=False)
    assert report.daily == ()
    for line in verdicts(report):
        assert "day 3 of 7" in line
        assert "p =" not in line
        assert "CUPED" not in line


def test_after_the_planned_days_there_are_no_bounds() -> None:
    report = make_report(seen(days=3), planned(days=2), daily=False)
    assert all(found.planned is None for found in report.cumulative[2].estimates)
    assert all(found.always is not None for found in report.cumulative[2].estimates)
    assert any("3 days are in the log, 2 were planned" in note for note in report.notes)


def test_after_the_planned_days_the_verdict_is_theirs() -> None:
    """The days after the second are as far from it as can be: all clicks of the arm are gone."""
    observations = dataclasses.replace(seen(0.5, days=8), before=None)
    observations.clicks[observations.arm == 1, 2:] = 0
    by_then = observations.exposed < 2
    until_then = dataclasses.replace(
        observations,
        query_ids=observations.query_ids.filter(pl.Series(by_then)),
        arm=observations.arm[by_then],
        exposed=observations.exposed[by_then],
        impressions=observations.impressions[by_then, :2],
        clicks=observations.clicks[by_then, :2],
        orders=observations.orders[by_then, :2],
        gmv=observations.gmv[by_then, :2],
    )
    report, then = (
        make_report(found, planned(days=2), daily=False) for found in (observations, until_then)
    )
    assert report.decisive == then.decisive
    now = next(found for found in report.cumulative[7].estimates if found.metric == "ctr")
    assert now.lift < -0.5
    assert now.p_value < 1e-6
    for line, other in zip(verdicts(report), verdicts(then), strict=True):
        assert ", always-valid interval " in other
        as_then = other.replace("the end", "the planned end on day 2").split(", always-valid")[0]
        assert line.split(", always-valid")[0] == as_then
    assert verdicts(report)[0].endswith("always-valid interval leaves out 0 on day 8.")


def test_small_and_crossed_samples_are_noted() -> None:
    observations = seen(queries=60)
    observations = dataclasses.replace(observations, left_out=LeftOut(crossed_queries=30))
    notes = make_report(observations, planned(), daily=False).notes
    assert any("the intervals hold for large numbers" in note for note in notes)
    assert any("30 queries were in more than one arm" in note for note in notes)


def test_few_queries_are_those_of_the_look_that_decides() -> None:
    """60 queries in each arm by the second day, the planned end, and hundreds more on the third."""
    observations = seen()
    query = np.arange(len(observations.arm))
    observations = dataclasses.replace(
        observations, arm=query % 2, exposed=np.where(query < 120, 0, 2)
    )
    notes = make_report(observations, planned(days=2), daily=False).notes
    assert notes[0] == (
        "An arm has only 60 queries by the planned end; the intervals hold for large numbers, 100 "
        "at the very least."
    )
    notes = make_report(observations, planned(days=3), daily=False).notes
    assert not any("An arm has only" in note for note in notes)


@pytest.mark.parametrize("days", [2, 3])
def test_guardrails_are_noted_to_go_on_after_the_planned_days(days: int) -> None:
    query = np.arange(1_000)
    none = np.zeros(1_000, dtype=np.bool_)
    requests = Requests(("control", "treatment"), query, query % 2, query / 1e6, none, none, none)
    report = make_report(seen(), planned(days=days), daily=False, requests=requests)
    noted = any(
        note.startswith("The guardrails are of all days in the log")
        and note.endswith("'perhaps' only at one look.")
        for note in report.notes
    )
    assert noted is (days == 2)
    without = make_report(seen(), planned(days=days), daily=False)
    assert not any("guardrails" in note for note in without.notes)


def test_several_arms_are_each_compared_with_the_control() -> None:
    arms = ("control", "treatment", "other")
    observations = seen(0.5, shares=dict.fromkeys(arms, 1.0))
    report = make_report(observations, planned(arms=arms), daily=False)
    assert {found.arm for found in report.decisive} == {"treatment", "other"}
    assert len(report.decisive) == 6


def test_an_arm_without_queries_is_not_compared() -> None:
    observations = seen(queries=50)
    alone = dataclasses.replace(observations, arm=np.zeros_like(observations.arm))
    assert look_at(alone, planned(), 0).estimates == ()


def without(place: int, *, before: bool) -> Observations:
    """One arm has no clicks and no orders."""
    observations = seen()
    kept = observations.arm[:, None] != place
    return dataclasses.replace(
        observations,
        clicks=observations.clicks * kept,
        gmv=observations.gmv * kept,
        before=observations.before if before else None,
    )


@pytest.mark.parametrize("before", [False, True])
def test_an_arm_whose_clicks_are_gone_is_said(before: bool) -> None:
    report = make_report(without(1, before=before), planned())
    first = verdicts(report)[0]
    assert "CTR" in first
    assert ": -10" in first or ": -9" in first
    assert "more than chance, planned bound crossed on day 1" in first
    assert "leaves out 0" in first
    assert report.notes == ()


def test_what_is_not_compared_is_noted() -> None:
    report = make_report(without(0, before=False), planned())
    assert report.decisive == ()
    assert report.notes == (
        "treatment is not compared with control in CTR, GMV per query, GMV per query, winsorised: "
        "the control has none of it, it is the same for every query, or one of the two has fewer "
        "than two queries.",
    )


@pytest.mark.parametrize("away", [1e-9, -1e-9])
def test_an_arm_whose_adjusted_value_is_near_nothing_is_compared_without_cuped(away: float) -> None:
    """Both arms had the same before, but for a little; then one had no orders and no clicks."""
    before = np.tile([1.0, 2.0, 3.0, 5.0], 50)
    arm = np.repeat([0, 1], 100)
    earlier = before.copy()
    earlier[100] += away
    observations = dataclasses.replace(
        seen(queries=200, days=1),
        query_ids=pl.Series(np.arange(200)),
        arm=arm,
        exposed=np.zeros(200, dtype=np.int64),
        impressions=np.full((200, 1), 10.0),
        clicks=(before * (arm == 0))[:, None],
        orders=(before * (arm == 0))[:, None],
        gmv=(before * (arm == 0))[:, None],
        before=Before(np.full(200, 10.0), earlier, earlier),
    )
    report = make_report(observations, planned(days=1))
    assert len(report.decisive) == 3
    for found in report.decisive:
        # 100 of 1, 2, 3 and 5: mean 2.75, and 2.1875 · 100 / 99 their variance.
        assert not found.cuped
        assert found.lift == -1
        assert found.z == pytest.approx(-2.75 / (2.1875 / 99) ** 0.5)
    assert [note.split(":")[0] for note in report.notes] == [
        f"treatment is compared with control in {title} without CUPED"
        for title in ("CTR", "GMV per query", "GMV per query, winsorised")
    ]


def test_observations_of_other_arms() -> None:
    with pytest.raises(DataError, match=r"are of the arms control, treatment; .* has a, b"):
        make_report(seen(), planned(arms=("a", "b")))


def test_guardrails_are_said_whatever_the_sample_ratio() -> None:
    query = np.arange(1_000)
    none = np.zeros(1_000, dtype=np.bool_)
    slow = np.where(query % 2, 0.02, 0.01) + query / 1e6
    requests = Requests(("control", "treatment"), query, query % 2, slow, none, none, none, 3)
    report = make_report(seen(queries=200), planned(), daily=False, requests=requests)
    assert report.guardrails is not None
    assert verdicts(report)[-5].startswith("treatment against control, mean latency: 20.5 ms")
    assert verdicts(report)[-5].endswith("; worse.")
    assert any("3 exposures carry no latency" in note for note in report.notes)
    broken = seen(0.5, shares={"control": 0.42, "treatment": 0.58})
    blocked = make_report(broken, planned(), requests=requests)
    lines = verdicts(blocked)
    assert lines[0].startswith("Blocked")
    assert lines[1].startswith("treatment against control, mean latency")
    assert make_report(seen(), planned(), daily=False).guardrails is None
