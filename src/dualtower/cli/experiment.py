"""Commands of online experiments: power before the start, the report, and the simulator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dualtower.cli.app import app
from dualtower.cli.common import AsJson, note, print_json, print_table

if TYPE_CHECKING:
    from dualtower.experiments.report import Report

experiment = typer.Typer(no_args_is_help=True, help="Online (A/B) tests of bundles.")
app.add_typer(experiment, name="experiment")

ExperimentFile = Annotated[
    Path, typer.Argument(help="The experiment's TOML file.", show_default=False)
]
Chart = Annotated[
    Path | None,
    typer.Option(help="Also draw the lift day by day to this SVG file.", show_default=False),
]

_BLOCKED = 2
"""Exit status where the sample ratio withholds the results."""


@experiment.command(epilog="Example: dualtower experiment report experiment.toml events.db")
def report(
    config: ExperimentFile,
    events: Annotated[
        str,
        typer.Argument(
            help="Exposures, clicks and orders: a table, or the server's event store.",
            show_default=False,
        ),
    ],
    before: Annotated[
        str | None,
        typer.Option(
            help="Table or store of the time before the start, for CUPED.", show_default=False
        ),
    ] = None,
    chart: Chart = None,
    as_json: AsJson = False,
) -> None:
    """Say what an experiment shows: sample ratio, lift with intervals, bounds, guardrails."""
    from dualtower.experiments.assignment import load_experiment
    from dualtower.experiments.report import report_log

    planned, log = load_experiment(config), _events(events)
    found = report_log(log, planned, before=None if before is None else _events(before))
    _show(found, chart, as_json)


@experiment.command(
    epilog="Example: dualtower experiment power experiment.toml last-week.parquet --lift 0.05"
)
def power(
    config: ExperimentFile,
    events: Annotated[
        str,
        typer.Argument(
            help="A past log as long as the experiment will be: a table, or an event store.",
            show_default=False,
        ),
    ],
    lift: Annotated[
        float | None,
        typer.Option(help="The smallest lift worth finding, 0.05 for 5%.", show_default=False),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(help="Instead: how many queries there will be.", show_default=False),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="ctr or gmv; the primary without it.", show_default=False),
    ] = None,
    chance: Annotated[
        float, typer.Option("--power", help="Probability to find the lift, if it is there.")
    ] = 0.8,
    as_json: AsJson = False,
) -> None:
    """Say before the start how many queries find a lift, or which lift so many find."""
    from dualtower.experiments.assignment import load_experiment
    from dualtower.experiments.power import plan_power

    found = plan_power(
        _events(events),
        load_experiment(config),
        metric=_metric(metric),
        lift=lift,
        queries=queries,
        power=chance,
    )
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    typer.echo(
        f"{found.metric}: {found.baseline:.4g} over {found.past_queries:,} past queries. A lift of "
        f"{found.lift:+.2%} is found with probability {found.power:.0%} by {found.queries:,} "
        f"queries of all arms together with one look at the end, or by {found.queries_planned:,} "
        f"with {found.days} planned looks."
    )


@experiment.command(epilog="Example: dualtower experiment simulate --clicks 0.08 --output week")
def simulate(
    queries: Annotated[int, typer.Option(min=1, help="Of both arms together.")] = 10_000,
    days: Annotated[int, typer.Option(min=1, max=366, help="Of the experiment.")] = 7,
    clicks: Annotated[float, typer.Option(help="Planted lift in the rate of clicks.")] = 0.05,
    orders: Annotated[float, typer.Option(help="In orders a click.")] = 0.0,
    value: Annotated[float, typer.Option(help="In the worth of an order.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is by chance.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Also write experiment.toml, events.parquet and before.parquet to this folder, "
            "to try the other commands on.",
            show_default=False,
        ),
    ] = None,
    chart: Chart = None,
    as_json: AsJson = False,
) -> None:
    """Simulate an experiment whose truth is known, and report on it."""
    from dualtower.config import validate
    from dualtower.experiments.report import make_report
    from dualtower.experiments.simulator import Plan, simulated_experiment, write_simulated

    lift = {"clicks": clicks, "orders": orders, "value": value}
    values = {"queries": queries, "days": days, "lifts": {"treatment": lift}}
    plan = validate(Plan, values, "the simulation")
    planned, observations = simulated_experiment(plan, seed)
    if output is not None:
        write_simulated(output, planned, observations)
        note(f"Wrote experiment.toml, events.parquet and before.parquet to {output}")
    truth = plan.lifts["treatment"]
    note(f"True lift: CTR {truth.ctr:+.2%}, GMV per query {truth.gmv:+.2%}")
    _show(make_report(observations, planned), chart, as_json)


def _show(found: "Report", chart: Path | None, as_json: bool) -> None:
    blocked = found.sample_ratio.verdict == "blocked"
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print(found)
    if chart is not None and not blocked:  # last, for there may be nothing to draw
        from dualtower.experiments.plots import lift_chart
        from dualtower.files import write_text

        write_text(chart, lift_chart(found))
        note(f"Wrote {chart}")
    if blocked:
        raise typer.Exit(_BLOCKED)


def _print(found: "Report") -> None:
    from dualtower.experiments.guardrails import table
    from dualtower.experiments.report import TITLES, decisive, verdicts

    ratio = found.sample_ratio
    counted = ", ".join(
        f"{arm} {count:,} ({ratio.expected[arm]:.0%} expected)"
        for arm, count in ratio.queries.items()
    )
    typer.echo(f"Experiment {found.experiment}: {counted}; sample ratio {ratio.verdict}")
    for text in found.notes:
        typer.echo(f"Note: {text}")
    for what, count in found.left_out.model_dump().items():
        if count:
            typer.echo(f"Left out: {count:,} {what.replace('_', ' ')}")
    rows: list[list[Any]] = [
        [
            str(look.day),
            look.date,
            one.arm,
            TITLES[one.metric] + (", CUPED" if one.cuped else ""),
            *_shares(one.lift, one.low, one.high),
            f"{one.p_value:.2g}",
            _interval(one.planned),
            _interval(one.always),
        ]
        for look in found.cumulative
        for one in decisive(look.estimates)
    ]
    if rows:
        print_table(
            "Cumulative (* the interval leaves out 0)",
            [
                *("day", "date", "arm", "metric", "lift", "low", "high", "p, one look"),
                *("planned looks", "always valid"),
            ],
            rows,
            left=4,
        )
    if found.guardrails is not None:
        header, *lines = table(found.guardrails)
        print_table("Guardrails, with 95% intervals", header, lines, left=1)
    for line in verdicts(found):
        typer.echo(f"- {line}")


def _shares(*values: float) -> list[str]:
    return [f"{value:+.2%}" for value in values]


def _interval(interval: Any) -> str:
    if interval is None:
        return ""
    mark = " *" if interval.significant else ""
    return f"{interval.low:+.1%} … {interval.high:+.1%}{mark}"


def _metric(name: str | None) -> Literal["ctr", "gmv"] | None:
    if name is None or name == "ctr" or name == "gmv":
        return name  # type: ignore[return-value]
    raise typer.BadParameter(f"{name!r} given; it must be ctr or gmv", param_hint="--metric")


def _events(source: str) -> Any:
    """A table by its path, or the events of a store."""
    from dualtower.serving.event_table import event_table, is_store

    return event_table(source) if is_store(source) else source
