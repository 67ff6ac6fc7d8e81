"""The report of an experiment: is it to be believed, what differs, and by how much, day by day."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from dualtower.config import Settings
from dualtower.errors import DataError
from dualtower.experiments.assignment import Experiment
from dualtower.experiments.guardrails import Guardrails, guard, sentences, unmeasured
from dualtower.experiments.observations import Floats, LeftOut, Observations, read_observations
from dualtower.experiments.requests import Requests, read_requests
from dualtower.experiments.sequential import (
    always_valid_bound,
    always_valid_p,
    obrien_fleming_bound,
)
from dualtower.experiments.statistics import (
    ALPHA,
    METRICS,
    Estimate,
    SampleRatio,
    aggregate,
    check_library,
    compare,
    correct,
    sample_ratio,
)

FEW_QUERIES = 100
TITLES = {metric.name: metric.title for metric in METRICS}


class Look(Settings):
    """What one day, or all days up to one, show."""

    day: int
    """From 1."""
    date: str
    """ISO, UTC."""
    queries: dict[str, int]
    """By arm, those with an exposure then."""
    estimates: tuple[Estimate, ...]
    """Every metric of every arm but the control; empty where there is too little to compare."""


class Report(Settings):
    """What `dualtower experiment report` says."""

    experiment: str
    control: str
    arms: tuple[str, ...]
    """The others."""
    primary: str
    """The metric that decides."""
    planned_days: int
    sample_ratio: SampleRatio
    left_out: LeftOut
    notes: tuple[str, ...]
    """What else a reader has to know."""
    cumulative: tuple[Look, ...]
    """All days up to each; empty if the sample ratio blocks the report."""
    daily: tuple[Look, ...]
    """Each day alone."""
    decisive: tuple[Estimate, ...]
    """The last planned day's cumulative look's, before it the latest's; with CUPED where there is a
    time before, corrected over all."""
    crossed: dict[str, int | None]
    """By arm, the first day on which the primary metric crossed the planned bound."""
    guardrails: Guardrails | None = None
    """Latency, errors, empty and short answers of all days, where the log says; whatever the sample
    ratio."""


def report_log(events: Any, experiment: Experiment, *, before: Any = None) -> Report:
    """Read an experiment's log and analyse it, guardrails and all.

    Args:
        events: table as `read_observations` and `read_requests` take it.
        experiment: what was planned.
        before: table of the time before the start, for CUPED.

    Raises:
        ConfigError: tea-tasting is not installed.
        DataError: as `read_observations`, `read_requests` and `make_report`.
    """
    names = [arm.name for arm in experiment.arms]
    observations = read_observations(events, experiment.name, names, before=before)
    requests = read_requests(events, experiment.name, names)
    return make_report(observations, experiment, requests=requests)


def make_report(
    observations: Observations,
    experiment: Experiment,
    *,
    daily: bool = True,
    requests: Requests | None = None,
) -> Report:
    """Analyse an experiment.

    Args:
        observations: its sums per query and day.
        experiment: what was planned.
        daily: also analyse each day alone.
        requests: what the server logged of its requests, for the guardrails.

    Raises:
        ConfigError: tea-tasting is not installed.
        DataError: the observations are of other arms.
    """
    check_library()
    names = tuple(arm.name for arm in experiment.arms)
    if observations.arms != names:
        raise DataError(
            f"experiment {experiment.name!r}: the observations are of the arms "
            f"{', '.join(observations.arms)}; the experiment has {', '.join(names)}"
        )
    counts = np.bincount(observations.arm, minlength=len(names))
    ratio = sample_ratio(
        {name: int(count) for name, count in zip(names, counts, strict=True)}, experiment.shares
    )
    believed = ratio.verdict != "blocked"
    days = range(observations.days) if believed else range(0)
    looks = tuple(_with_bounds(look_at(observations, experiment, day), experiment) for day in days)
    end = looks[: experiment.days][-1] if looks else None
    last = [] if end is None else decisive(end.estimates)
    fewest = min(ratio.queries.values() if end is None else end.queries.values())
    lacking = _not_compared(last, names) if looks else []
    if observations.before is not None:
        lacking += _not_adjusted(last, names[0])
    guardrails = None if requests is None else guard(requests, experiment.expected_queries)
    return Report(
        experiment=experiment.name,
        control=names[0],
        arms=names[1:],
        primary=experiment.primary,
        planned_days=experiment.days,
        sample_ratio=ratio,
        left_out=observations.left_out,
        notes=(
            *observations.notes,
            *_notes(observations, experiment, fewest, guarded=guardrails is not None),
            *lacking,
            *([] if requests is None else unmeasured(requests)),
        ),
        cumulative=looks,
        daily=tuple(look_at(observations, experiment, day, alone=True) for day in days)
        if daily
        else (),
        decisive=tuple(correct(last)),
        crossed={arm: _first_crossing(looks, arm, experiment.primary) for arm in names[1:]}
        if believed
        else {},
        guardrails=guardrails,
    )


def look_at(
    observations: Observations, experiment: Experiment, day: int, *, alone: bool = False
) -> Look:
    """Compare every arm with the control after one day, or on it.

    Args:
        observations: sums per query and day.
        experiment: says where GMV is winsorised.
        day: from 0.
        alone: that day alone, over the queries with an exposure on it; else all days up to it,
            over the queries with one by then.
    """
    columns = _columns(observations, experiment.winsorise, day, alone=alone)
    seen = columns["impressions"] > 0 if alone else observations.exposed <= day
    columns = {name: column[seen] for name, column in columns.items()}
    arm = observations.arm[seen]
    counts = np.bincount(arm, minlength=len(observations.arms))
    found = {
        place: aggregate({name: column[arm == place] for name, column in columns.items()})
        for place in range(len(observations.arms))
        if counts[place] > 1
    }
    estimates: list[Estimate] = []
    for place, name in enumerate(observations.arms):
        if place and place in found and 0 in found:
            cuped = observations.before is not None
            estimates += compare(name, found[0], found[place], cuped=cuped)
    return Look(
        day=day + 1,
        date=observations.date(day),
        queries={name: int(count) for name, count in zip(observations.arms, counts, strict=True)},
        estimates=tuple(estimates),
    )


def decisive(estimates: Iterable[Estimate]) -> list[Estimate]:
    """Of each arm and metric the estimate with CUPED, or the one that there is without."""
    return list({(found.arm, found.metric): found for found in estimates}.values())


def verdicts(report: Report) -> list[str]:
    """What may be concluded, a sentence for each arm and metric, the primary first."""
    guarded = [] if report.guardrails is None else sentences(report.guardrails)
    if report.sample_ratio.verdict == "blocked":
        return [
            f"Blocked: the arms' queries differ from their weights (p = "
            f"{report.sample_ratio.p_value:.2g}), so something other than chance divided them; "
            "look for lost exposures, redirects, bots or a broken assignment.",
            *guarded,
        ]
    lines = []
    if report.sample_ratio.verdict == "warning":
        lines.append(
            f"Warning: the arms' queries fit their weights badly (p = "
            f"{report.sample_ratio.p_value:.2g}); look into it before you believe the rest."
        )
    for found in sorted(report.decisive, key=lambda found: found.metric != report.primary):
        lines.append(f"{_effect(found, report.control)}; {_judged(found, report)}.")
    return [*lines, *guarded]


def _columns(
    observations: Observations, quantile: float, day: int, *, alone: bool
) -> dict[str, Floats]:
    part = slice(day, day + 1) if alone else slice(0, day + 1)
    gmv = observations.gmv[:, part].sum(axis=1)
    columns = {
        "impressions": observations.impressions[:, part].sum(axis=1),
        "clicks": observations.clicks[:, part].sum(axis=1),
        "gmv": gmv,
        "gmv_winsorised": _winsorised(gmv, quantile),
    }
    if observations.before is not None:
        columns |= {
            "impressions_before": observations.before.impressions,
            "clicks_before": observations.before.clicks,
            "gmv_before": observations.before.gmv,
            "gmv_winsorised_before": _winsorised(observations.before.gmv, quantile),
        }
    return columns


def _winsorised(gmv: Floats, quantile: float) -> Floats:
    """GMV up to the quantile of those that ordered, of all arms together."""
    ordered = gmv[gmv > 0]
    return np.minimum(gmv, np.quantile(ordered, quantile)) if len(ordered) else gmv


def _with_bounds(look: Look, experiment: Experiment) -> Look:
    bound = obrien_fleming_bound(look.day, experiment.days, ALPHA)
    estimates = []
    for found in look.estimates:
        expected = experiment.expected_queries
        always = always_valid_bound(found.queries, expected, ALPHA)
        update = {
            "planned": None if bound is None else found.within(bound),
            "always": found.within(always),
            "always_p": always_valid_p(found.z, found.queries, expected, ALPHA),
        }
        estimates.append(found.model_copy(update=update))
    return look.model_copy(update={"estimates": tuple(estimates)})


def _first_crossing(looks: Iterable[Look], arm: str, primary: str) -> int | None:
    for look in looks:
        for found in decisive(look.estimates):
            mine = (found.arm, found.metric) == (arm, primary)
            if mine and found.planned is not None and found.planned.significant:
                return look.day
    return None


def _notes(
    observations: Observations, experiment: Experiment, fewest: int, *, guarded: bool
) -> list[str]:
    """What there is to say of the log; `fewest` is of the arm with the fewest queries."""
    notes = []
    longer = observations.days > experiment.days
    if fewest < FEW_QUERIES:
        notes.append(
            f"An arm has only {fewest:,} queries{' by the planned end' if longer else ''}; the "
            f"intervals hold for large numbers, {FEW_QUERIES} at the very least."
        )
    crossed = observations.left_out.crossed_queries
    if crossed > 0.01 * (len(observations.arm) + crossed):
        notes.append(
            f"{crossed:,} queries were in more than one arm and are left out, more than 1%; "
            "was a weight or the salt changed while the experiment ran?"
        )
    if longer:
        notes.append(
            f"{observations.days} days are in the log, {experiment.days} were planned: p and the "
            f"planned bounds are of day {experiment.days}, only the always-valid intervals go on."
        )
    if longer and guarded:
        notes.append(
            "The guardrails are of all days in the log: their 'worse' and 'better' hold whenever "
            "you look, 'perhaps' only at one look."
        )
    return notes


def _not_compared(last: Iterable[Estimate], names: tuple[str, ...]) -> list[str]:
    """What a reader misses among the results: a lift over nothing is no number."""
    control, *arms = names
    there = {(found.arm, found.metric) for found in last}
    missing = {
        arm: [TITLES[one.name] for one in METRICS if (arm, one.name) not in there] for arm in arms
    }
    return [
        f"{arm} is not compared with {control} in {', '.join(titles)}: the control has none of it, "
        "it is the same for every query, or one of the two has fewer than two queries."
        for arm, titles in missing.items()
        if titles
    ]


def _not_adjusted(last: Iterable[Estimate], control: str) -> list[str]:
    """There is a time before, and the decision is without it all the same."""
    return [
        f"{found.arm} is compared with {control} in {TITLES[found.metric]} without CUPED: "
        "adjusted, its value in an arm or its spread is about 0, or nothing was before."
        for found in last
        if not found.cuped
    ]


def _effect(found: Estimate, control: str) -> str:
    adjusted = ", CUPED" if found.cuped else ""
    return (
        f"{found.arm} against {control}, {TITLES[found.metric]}{adjusted}: {found.lift:+.2%} "
        f"({found.low:+.2%} … {found.high:+.2%})"
    )


def _judged(found: Estimate, report: Report) -> str:
    seen, planned = len(report.cumulative), report.planned_days
    if seen < planned:
        parts = [f"day {seen} of {planned}"]
    else:
        p_value = found.p_value if found.p_corrected is None else found.p_corrected
        chance = "more than chance" if p_value < ALPHA else "within chance"
        parts = [
            "the end" if seen == planned else f"the planned end on day {planned}",
            f"p = {found.p_value:.2g}, {p_value:.2g} corrected, {chance}",
        ]
    if found.metric == report.primary:
        day = report.crossed.get(found.arm)
        parts.append("planned bound " + ("not crossed" if day is None else f"crossed on day {day}"))
    # A p-value of each look after the planned end would be a new chance to find what is not there.
    mine = (found.arm, found.metric)
    latest = decisive(report.cumulative[-1].estimates)
    now = next((one for one in latest if (one.arm, one.metric) == mine), found)
    leaves_out = now.always is not None and now.always.significant
    parts.append(
        f"always-valid interval {'leaves out' if leaves_out else 'includes'} 0"
        + (f" on day {seen}" if seen > planned else "")
    )
    return ", ".join(parts)
