"""The chart holds every curve, and says what it cannot draw."""

import pytest

from dualtower.errors import DataError
from dualtower.experiments.plots import lift_chart
from dualtower.experiments.report import make_report
from dualtower.experiments.simulator import Plan, simulated_experiment


def test_the_chart_names_its_curves() -> None:
    planned, observations = simulated_experiment(Plan(queries=400, days=3), 0)
    chart = lift_chart(make_report(observations, planned))
    for text in ("cumulative lift", "planned looks", "always valid", "CTR, CUPED", "day alone"):
        assert f"<!-- {text} -->" in chart


def test_what_cannot_be_drawn() -> None:
    planned, observations = simulated_experiment(Plan(queries=400, days=2), 0)
    report = make_report(observations, planned)
    with pytest.raises(DataError, match="no arm 'x'; they are treatment"):
        lift_chart(report, "x")
    with pytest.raises(DataError, match="nothing compares 'treatment' with 'control'"):
        lift_chart(report.model_copy(update={"cumulative": ()}))
