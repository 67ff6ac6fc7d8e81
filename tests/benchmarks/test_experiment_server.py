"""A short week through a real server process: the report is the simulation's own."""

from pathlib import Path

import pytest

from benchmarks.experiment_server import difference, drive, row, serving
from dualtower.errors import DualtowerError
from dualtower.experiments.assignment import Arm, Experiment
from dualtower.experiments.simulator import Lift, Plan
from tests.serving.bundles import dat_bundle


def test_the_served_week_is_reported_as_simulated(tmp_path: Path) -> None:
    names = ("control", "treatment")
    for name in names:
        dat_bundle().save(tmp_path / name)
    experiment = Experiment(
        name="week",
        salt="w",
        days=3,
        ranker="benchmarks.experiment_server:rank",
        arms=tuple(
            Arm(name=name, bundle=str(tmp_path / name)) for name in ("control", "treatment")
        ),
    )
    plan = Plan(
        queries=700, days=3, shares=experiment.shares, lifts={"treatment": Lift(clicks=1.0)}
    )
    with serving(tmp_path, experiment, tmp_path / "control") as client:
        week = drive(client, tmp_path / "events.db", experiment, plan)
        with pytest.raises(DualtowerError, match="events of an earlier week"):
            drive(client, tmp_path / "events.db", experiment, plan)
        with pytest.raises(DualtowerError, match=r"/recommend/batch: 422: .*queries: 0"):
            client.post("/recommend/batch", {"queries": []})
    assert difference(week) < 1e-9
    figures = row(week, experiment, plan)
    assert figures["ranked"] + figures["ranker late or failed"] == 700
    assert figures["ranked"] > 0
    assert sum(arm.requests for arm in week.guardrails.arms) == 700
    assert figures["errors"] == 0
    assert week.served.sample_ratio == week.simulated.sample_ratio
    assert sum(week.served.sample_ratio.queries.values()) < 700
    assert week.served.crossed["treatment"] is not None
    assert week.served.left_out.model_dump() == week.simulated.left_out.model_dump()
