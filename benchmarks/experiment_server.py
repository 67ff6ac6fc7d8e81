"""A simulated week through the real server: arms, events and report end to end.

    python -m benchmarks.experiment_server [BUNDLE OTHER_BUNDLE] [--queries 5000]

Starts `dualtower serve` on a free port with an experiment of the two bundles, asks it for every
query's candidates and arm behind a ranking stage, posts the week's exposures, clicks and orders,
and reports on the server's event store. The report must be the one that the simulation itself
gives. The simulated week is in the past; the exposures that the server logs itself, of today, are
checked apart, and the guardrails come from them. Without bundles two small ones are made.

Writes results/experiment-server.json.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import polars as pl
import tomlkit

from benchmarks.server_process import server_process
from benchmarks.small_bundle import make_bundle
from dualtower.errors import DualtowerError
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.experiments.assignment import Arm, Experiment
from dualtower.experiments.guardrails import Guardrails, guard, sentences
from dualtower.experiments.observations import read_observations
from dualtower.experiments.report import Report, make_report, verdicts
from dualtower.experiments.requests import read_requests
from dualtower.experiments.simulator import Lift, Plan, events_before, events_of, simulate
from dualtower.files import write_text
from dualtower.progress import progress_bar
from dualtower.serving.event import Id
from dualtower.serving.event_table import event_table
from dualtower.serving.ranking import RankingTask
from dualtower.serving.settings import ServeConfig

BATCH = 256
"""Queries or events of a request: what the server takes by default."""
SHOWN = 10
PATIENCE_SECONDS = 600.0
"""A machine on which everything is paused for minutes is no lost server."""


def rank(task: RankingTask) -> list[Id]:
    """The benchmark's ranker: an order that can be checked without the bundles."""
    return sorted(task.items, key=_rank_key)


class Client:
    """One connection to a server."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)

    def post(self, path: str, body: Any) -> Any:
        """The answer to a request.

        Raises:
            DualtowerError: the server refuses it; the message is its own.
        """
        headers = {"content-type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise DualtowerError(f"{path}: {response.status}: {answer}")
        return answer


@dataclass(frozen=True)
class Week:
    """What came of a week."""

    requests: int
    events: int
    served: Report
    """From the server's event store."""
    simulated: Report
    """From the simulation, without a server."""
    guardrails: Guardrails
    """From the exposures that the server logged of its own answers."""
    rankings: Counter[str]
    """Answers by what became of the ranking."""


@contextmanager
def serving(folder: Path, experiment: Experiment, bundle: Path) -> Iterator[Client]:
    """The server in a process of its own, until the end of the block; events in `events.db`."""
    file = folder / "experiment.toml"
    write_text(file, tomlkit.dumps(experiment.model_dump(mode="json", exclude_none=True)))
    with server_process(bundle, "--experiment", file, "--events", folder / "events.db") as port:
        yield Client(port)


def drive(client: Client, events: Path, experiment: Experiment, plan: Plan, seed: int = 0) -> Week:
    """Take a simulated week through a server.

    Args:
        client: of a server with this experiment.
        events: its event store.
        experiment: what the server was started with.
        plan: what happens; its shares are named as the arms are.
        seed: of the simulation.

    Raises:
        DualtowerError: the server refuses a request, answers with another arm than the hash's or in
            another order than the ranker's, or did not log what it showed.
    """
    places = {name: place for place, name in enumerate(plan.shares)}
    answers = [
        answer
        for numbers in _batches(range(plan.queries), "queries")
        for answer in client.post(
            "/recommend/batch",
            {"queries": [{"query_id": number, "n": SHOWN} for number in numbers]},
        )["answers"]
    ]
    for number, answer in enumerate(answers):
        expected = experiment.arm_of(number).name
        if (answer["experiment"], answer["arm"]) != (experiment.name, expected):
            raise DualtowerError(f"query {number}: answered by {answer['arm']}, not {expected}")
    rankings = _check_ranked(answers)
    arms = [places[answer["arm"]] for answer in answers]
    observations = simulate(plan, np.random.default_rng(seed), arm=arms)
    log = [
        {
            "event_id": f"{experiment.name}/{place}",
            "query_id": row["query_id"],
            "item_id": _shown(answers[row["query_id"]]["items"], place),
            "timestamp": row["timestamp"].timestamp(),
            **{name: row[name] for name in ("kind", "value", "experiment", "arm")},
        }
        for place, row in enumerate(events_of(observations, experiment.name).iter_rows(named=True))
    ]
    for batch in _batches(log, "events"):
        if not all(client.post("/events", {"events": batch})["new"]):
            raise DualtowerError("the server's store has events of an earlier week; empty it")
    before = events_before(observations)
    stored = event_table(events)
    simulated = pl.col("timestamp") <= log[-1]["timestamp"]
    logged, names = stored.filter(~simulated), list(plan.shares)
    _check_logged(logged, answers)
    served = read_observations(
        stored.filter(simulated),
        experiment.name,
        names,
        before=None if before.is_empty() else before,
    )
    guardrails = guard(read_requests(logged, experiment.name, names), experiment.expected_queries)
    assert guardrails is not None
    return Week(
        requests=-(-plan.queries // BATCH) - (-len(log) // BATCH),
        events=len(log),
        served=make_report(served, experiment),
        simulated=make_report(observations, experiment),
        guardrails=guardrails,
        rankings=rankings,
    )


def difference(week: Week) -> float:
    """The largest difference between the two reports' estimates; they should agree."""
    pairs = zip(
        [found for look in week.served.cumulative for found in look.estimates],
        [found for look in week.simulated.cumulative for found in look.estimates],
        strict=True,
    )
    return max(
        abs(float(getattr(mine, name)) - float(getattr(other, name)))
        for mine, other in pairs
        for name in ("lift", "low", "high", "p_value")
    )


def _rank_key(item: Id) -> int:
    return crc32(str(item).encode())


def _check_ranked(answers: Sequence[Any]) -> Counter[str]:
    """Check that the ranked answers are in the ranker's order; those by what became of it."""
    for number, answer in enumerate(answers):
        keys = [_rank_key(item) for item in answer["items"]]
        if answer.get("ranking") == "ranked" and keys != sorted(keys):
            raise DualtowerError(f"query {number}: ranked, but not in the ranker's order")
    return Counter(answer.get("ranking", "none") for answer in answers)


def _check_logged(logged: pl.DataFrame, answers: Sequence[Any]) -> None:
    """Check that the server logged one exposure for each answer, with its arm and items."""
    expected = pl.DataFrame(
        {
            "query_id": [str(number) for number in range(len(answers))],
            "arm": [answer["arm"] for answer in answers],
            "kind": "exposure",
            "value": [float(len(answer["items"])) for answer in answers],
        }
    )
    found = logged.select(expected.columns)
    if not found.sort("query_id").equals(expected.sort("query_id")):
        raise DualtowerError("the server's own exposures are not those of its answers")


def _batches(rows: Sequence[Any], unit: str) -> Iterator[Sequence[Any]]:
    with progress_bar(f"{unit} to the server", len(rows), unit) as bar:
        for start in range(0, len(rows), BATCH):
            yield rows[start : start + BATCH]
            bar.advance(min(BATCH, len(rows) - start))


def _shown(items: Sequence[Any], place: int) -> Any:
    """One of the items that the query was shown."""
    return items[place % len(items)]


def row(week: Week, experiment: Experiment, plan: Plan) -> dict[str, str | int | float]:
    """The week's figures for the results file."""
    found = next(one for one in week.served.decisive if one.metric == experiment.primary)
    lift = plan.lifts[found.arm]
    by_arm = {
        f"{metric.replace('_', ' ')} ms, {arm.arm}": round(1000 * one.value, 3)
        for metric in ("mean_latency", "p99_latency")
        for arm in week.guardrails.arms
        for one in arm.figures
        if one.metric == metric
    }
    count = {one.metric: 0 for arm in week.guardrails.arms for one in arm.figures}
    for arm in week.guardrails.arms:
        for one in arm.figures:
            count[one.metric] += one.count
    return {
        "queries": plan.queries,
        "requests": week.requests,
        "events": week.events,
        "ranked": week.rankings["ranked"],
        "ranker late or failed": week.rankings["late"] + week.rankings["failed"],
        "true lift, ctr": lift.ctr,
        "lift": round(found.lift, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "largest difference from the simulation": float(f"{difference(week):.2g}"),
        **by_arm,
        **{name: count[name] for name in ("errors", "empty", "short")},
    }


def main() -> None:
    """Run one week, print its report and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="*", help="of the control and the treatment")
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--clicks", type=float, default=0.08, help="planted lift")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("results/experiment-server.json"))
    options = parser.parse_args()
    if len(options.bundles) not in (0, 2):
        parser.error("name two bundles, or none")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = [bundle.resolve() for bundle in options.bundles]
        for arm in ("control", "treatment") if not bundles else ():
            make_bundle(folder / arm)
            bundles.append(folder / arm)
        experiment = Experiment(
            name="simulated-week",
            salt=f"week-{options.seed}",
            arms=(
                Arm(name="control", bundle=str(bundles[0])),
                Arm(name="treatment", bundle=str(bundles[1])),
            ),
            expected_queries=options.queries,
            ranker="benchmarks.experiment_server:rank",
        )
        plan = Plan(
            queries=options.queries,
            shares=experiment.shares,
            lifts={"treatment": Lift(clicks=options.clicks)},
        )
        with serving(folder, experiment, bundles[0]) as client:
            week = drive(client, folder / "events.db", experiment, plan, options.seed)
    print(f"{week.requests:,} requests, {week.events:,} events; true lift {options.clicks:+.1%}")
    print("\n".join([*verdicts(week.served), *sentences(week.guardrails)]))
    print(f"largest difference from the simulation's own report: {difference(week):.1e}")
    of = "".join(f" {bundle}" for bundle in options.bundles)
    write_results(
        options.results,
        Measurements(
            command=f"python -m benchmarks.experiment_server{of} --queries {options.queries}",
            protocol="a simulated week through a server process over HTTP in batches of "
            f"{BATCH}, {SHOWN} items a query from {SHOWN * ServeConfig().candidates} candidates "
            "behind a ranker in Python; the latencies are those that the server logged of each "
            "answer, on a machine that others used too",
            versions=versions(),
            processor=processor(),
            runs=(row(week, experiment, plan),),
        ),
    )


if __name__ == "__main__":
    main()
