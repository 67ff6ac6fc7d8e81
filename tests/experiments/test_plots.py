"""The chart holds every curve, and says what it cannot draw."""

import re
from collections.abc import Sequence

import numpy as np
import pytest

from dualtower.errors import DataError
from dualtower.experiments.plots import lift_chart
from dualtower.experiments.report import Look, make_report
from dualtower.experiments.requests import Requests
from dualtower.experiments.simulator import Plan, simulated_experiment


def test_the_chart_names_its_curves() -> None:
    planned, observations = simulated_experiment(Plan(queries=400, days=3), 0)
    chart = lift_chart(make_report(observations, planned))
    for text in ("cumulative lift", "planned looks", "always valid", "CTR, CUPED", "day alone"):
        assert f"<!-- {text} -->" in chart


def test_the_ticks_have_the_decimals_that_tell_them_apart() -> None:
    planned, observations = simulated_experiment(Plan(queries=400, days=3), 0)
    report = make_report(observations, planned)
    # The same curves a hundredth as high, as a hundred times as many queries would draw them.
    chart = lift_chart(report.model_copy(update={"cumulative": small(report.cumulative)}))
    ticks = re.findall(r"<!-- ([+-]?[0-9.]+%) -->", chart.split("<!-- CTR, CUPED -->")[0])
    assert "0%" in ticks
    assert any("." in tick for tick in ticks)
    assert len(ticks) == len(set(ticks))


def small(looks: Sequence[Look]) -> tuple[Look, ...]:
    return tuple(
        look.model_copy(
            update={
                "estimates": tuple(
                    one.model_copy(
                        update={name: getattr(one, name) / 100 for name in ("lift", "low", "high")}
                    )
                    for one in look.estimates
                )
            }
        )
        for look in looks
    )


def test_the_chart_shows_the_guardrails_of_its_arm() -> None:
    planned, observations = simulated_experiment(Plan(queries=400, days=3), 0)
    query = np.arange(1_000)
    none = np.zeros(1_000, dtype=np.bool_)
    slow = np.where(query % 2, 0.02, 0.01) + query / 1e6
    requests = Requests(("control", "treatment"), query, query % 2, slow, none, none, none)
    report = make_report(observations, planned, requests=requests)
    chart = lift_chart(report)
    for text in ("cumulative lift", "mean latency", "99th percentile of latency", "short answers"):
        assert f"<!-- {text}" in chart
    worse = [one.verdict for one in report.guardrails.differences].count("worse")  # type: ignore[union-attr]
    assert worse == chart.count("worse") > 0
    assert "latency" not in lift_chart(report, guardrails=False)


def test_what_cannot_be_drawn() -> None:
    planned, observations = simulated_experiment(Plan(queries=400, days=2), 0)
    report = make_report(observations, planned)
    with pytest.raises(DataError, match="no arm 'x'; they are treatment"):
        lift_chart(report, "x")
    with pytest.raises(DataError, match="nothing compares 'treatment' with 'control'"):
        lift_chart(report.model_copy(update={"cumulative": ()}))
