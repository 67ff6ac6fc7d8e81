"""Guardrails against values worked out by hand, tea-tasting, and simulated arms that are alike."""

from math import sqrt
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import RatioOfMeans

from dualtower.experiments.guardrails import (
    NAMES,
    Guardrails,
    guard,
    percentile,
    ratio,
    sentences,
    table,
    unmeasured,
)
from dualtower.experiments.requests import Requests

Z = float(norm.isf(0.025))


def drawn(
    seed: int, queries: int = 1_000, slower: float = 0.0, **faults: tuple[float, float]
) -> Requests:
    """Two arms; each query has one to nine requests and a speed of its own."""
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(queries), rng.integers(1, 10, size=queries))
    arm = np.arange(queries)[query] % 2
    speed = np.exp(rng.normal(0, 0.5, size=queries))[query]
    latency = 0.003 * speed * np.exp(rng.normal(0, 0.5, size=len(query)))
    flags = {
        name: rng.random(len(query)) < np.array(faults.get(name, (0.0, 0.0)))[arm]
        for name in ("error", "empty", "short")
    }
    return Requests(
        ("old", "new"), query.astype(np.int64), arm, latency * (1 + slower * arm), **flags
    )


def test_a_ratio_has_its_error_by_the_delta_method() -> None:
    # 6 of 4; away from 1.5 of the requests each: -.5, .5, 0.
    value, error = ratio(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0]))
    assert value == 1.5
    assert error == pytest.approx(sqrt(3 / 2 * 0.5) / 4)
    assert ratio(np.array([1.0]), np.array([2.0])) == (0.5, float("inf"))


def test_a_percentile_has_percentiles_as_ends() -> None:
    # 16 queries of one request: .5 ± Z·sqrt(16/15·4)/16 = .247 … .753, so places 4 … 13 of 16.
    assert percentile(np.arange(1.0, 17.0), np.arange(16), 0.5) == (8, 4, 13)
    # Eight queries of two alike are worth less: .5 ± Z·sqrt(8/7·8)/16 = .130 … .870: 3 … 14.
    twice = np.repeat(np.arange(1.0, 9.0), 2)
    assert percentile(twice, np.repeat(np.arange(8), 2), 0.5) == (4, 2, 7)
    # Of 16 requests the upper end of the 99th percentile is beyond the largest.
    assert percentile(np.arange(1.0, 17.0), np.arange(16), 0.9) == (15, 1, None)


def arms(*parts: tuple[list[int], list[float], list[str]]) -> Requests:
    """Arms of requests: query, milliseconds and what went wrong."""
    query = np.concatenate([np.array(part[0]) + 10_000 * k for k, part in enumerate(parts)])
    what = np.array([word for part in parts for word in part[2]])
    return Requests(
        arms=("old", "new")[: len(parts)],
        query=query,
        arm=np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts]),
        latency=np.concatenate([np.array(part[1]) for part in parts]) / 1000,
        error=what == "error",
        empty=what == "empty",
        short=np.isin(what, ["empty", "short"]),
    )


def figure(found: Guardrails, place: int, metric: str) -> Any:
    return next(one for one in found.arms[place].figures if one.metric == metric)


def difference(found: Guardrails, metric: str) -> Any:
    return next(one for one in found.differences if one.metric == metric)


def test_figures_and_differences_by_hand() -> None:
    found = guard(
        arms(
            ([0, 1, 2, 2], [1, 2, 1, 2], ["", "", "", "error"]),
            ([0, 1, 2, 3], [1, 3, 3, 9], ["short", "", "empty", "error"]),
        ),
        expected_queries=100,
    )
    assert found is not None
    assert [(arm.arm, arm.queries, arm.requests) for arm in found.arms] == [
        ("old", 3, 4),
        ("new", 4, 4),
    ]
    # Errors have no latency: 1, 2, 1 and 1, 3, 3.
    old, new = figure(found, 0, "mean_latency"), figure(found, 1, "mean_latency")
    assert (old.value, new.value) == (pytest.approx(0.004 / 3), pytest.approx(0.007 / 3))
    assert (old.count, new.count) == (3, 3)
    assert old.error == pytest.approx(sqrt(3 / 2 * (1 + 4 + 1) / 9) / 3 / 1000)
    one = difference(found, "mean_latency")
    error = sqrt(1 / 3 + 4 / 3) / sqrt(3) / 1000  # variances 1/3 and 4/3
    assert one.difference == pytest.approx(0.001)
    assert one.low == pytest.approx(0.001 - Z * error)
    assert one.high == pytest.approx(0.001 + Z * error)
    assert one.p_value == pytest.approx(2 * norm.sf(0.001 / error))
    assert [figure(found, 0, name).count for name in ("errors", "empty", "short")] == [1, 0, 0]
    assert [figure(found, 1, name).count for name in ("errors", "empty", "short")] == [1, 1, 2]
    assert figure(found, 1, "short").value == 0.5
    # Wilson's interval of 0 in three queries: 0 … z² / (3 + z²).
    assert figure(found, 0, "empty").low == 0
    assert figure(found, 0, "empty").high == pytest.approx(Z**2 / (3 + Z**2))
    assert {one.verdict for one in found.differences} == {"too few to say"}
    assert figure(found, 0, "p99_latency").high is None


def test_the_mean_is_tea_tastings() -> None:
    requests = drawn(1, slower=0.1)
    found = guard(requests, 1_000)
    assert found is not None
    parts = []
    for place in (0, 1):
        mine = requests.arm == place
        query = np.unique(requests.query[mine], return_inverse=True)[1]
        seconds, count = np.bincount(query, requests.latency[mine]), np.bincount(query)
        covariances = np.cov(seconds, count)
        parts.append(
            Aggregates(
                count_=len(count),
                mean_={"seconds": seconds.mean(), "requests": count.mean()},
                var_={"seconds": covariances[0, 0], "requests": covariances[1, 1]},
                cov_={("requests", "seconds"): covariances[0, 1]},
            )
        )
    metric = RatioOfMeans("seconds", "requests", use_t=False, equal_var=False)
    other = metric.analyze_aggregates(*parts)
    mine = difference(found, "mean_latency")
    assert mine.difference == pytest.approx(other.effect_size, rel=1e-9)
    assert mine.low == pytest.approx(other.effect_size_ci_lower, rel=1e-9)
    assert mine.high == pytest.approx(other.effect_size_ci_upper, rel=1e-9)
    assert mine.p_value == pytest.approx(other.pvalue, rel=1e-6)


def test_arms_that_are_alike_differ_by_chance_once_in_twenty() -> None:
    runs, below = 400, dict.fromkeys(NAMES, 0)
    for seed in range(runs):
        found = guard(drawn(seed, error=(0.03, 0.03), short=(0.1, 0.1)), 1_000)
        assert found is not None
        for one in found.differences:
            below[one.metric] += one.p_value is not None and one.p_value < 0.05
    # Three standard deviations of 400 runs at 5% are 3.3 points.
    for metric in ("mean_latency", "errors", "short"):
        assert 0.017 < below[metric] / runs < 0.083
    # The percentile's interval is a little wide at this size.
    assert below["p99_latency"] / runs < 0.083
    assert below["empty"] == 0


def test_verdicts_in_words() -> None:
    found = guard(drawn(3, slower=0.3, error=(0.0, 0.06), short=(0.2, 0.1)), 1_000)
    assert found is not None
    assert [one.verdict for one in found.differences] == [
        *("worse", "perhaps worse", "worse", "no difference found", "better")
    ]
    lines = sentences(found)
    assert lines[0].startswith("new against old, mean latency: 5.05 ms against 3.84 ms (+0.")
    assert lines[0].endswith(" ms); worse.")
    assert lines[3].startswith("new against old, empty answers: 0 of 2,")
    assert "(0%) against 0 of 2," in lines[3]
    header, old, new = table(found)
    assert header[:4] == ["arm", "queries", "requests", "mean latency"]
    assert (old[0], new[:2]) == ("old", ["new", "500"])
    assert " ms (" in old[3]


def test_holm_corrects_over_all_guardrails() -> None:
    found = guard(drawn(5, slower=0.08, error=(0.03, 0.03), short=(0.1, 0.1)), 10**9)
    assert found is not None
    judged = sorted(found.differences, key=lambda one: one.p_value or 0)
    expected, largest = [], 0.0
    for rank, one in enumerate(judged):
        assert one.p_value is not None
        largest = max(largest, min(1.0, (5 - rank) * one.p_value))
        expected.append(largest)
    assert [one.p_corrected for one in judged] == pytest.approx(expected)
    # So far from the number expected the always-valid bound is far off: only perhaps.
    assert difference(found, "mean_latency").verdict in ("perhaps worse", "no difference found")


def test_few_faults_say_nothing_and_an_arm_may_have_none() -> None:
    found = guard(drawn(7, queries=400, error=(0.0, 0.004)), 1_000)
    assert found is not None
    assert 0 < figure(found, 1, "errors").count < 10
    assert difference(found, "errors").verdict == "too few to say"
    everything = drawn(7)
    alone = Requests(
        ("old", "new", "other"),
        *(everything.query, everything.arm, everything.latency),
        *(everything.error, everything.empty, everything.short),
    )
    found = guard(alone, 1_000)
    assert found is not None
    assert found.arms[2].requests == 0
    assert {one.arm for one in found.differences} == {"new"}


def test_a_log_without_requests_has_no_guardrails() -> None:
    nothing = np.array([], dtype=np.int64)
    none = np.array([], dtype=np.bool_)
    empty = Requests(("old", "new"), nothing, nothing, np.array([]), none, none, none, 5)
    assert guard(empty, 100) is None
    assert unmeasured(empty)[0].endswith("so there are no guardrails.")
    assert unmeasured(drawn(1)) == []
