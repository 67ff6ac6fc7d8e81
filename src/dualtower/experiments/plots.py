"""The chart of an experiment: cumulative lift day by day, with its intervals and bounds."""

from collections.abc import Sequence
from typing import Any

from dualtower.errors import DataError
from dualtower.evaluation.plots import COLOURS, GREY, draw_svg
from dualtower.experiments.guardrails import SECONDS, Difference
from dualtower.experiments.guardrails import TITLES as GUARDRAILS
from dualtower.experiments.report import TITLES, Look, Report, decisive
from dualtower.experiments.statistics import Estimate, Interval, MetricName

_PLANNED, _ALWAYS = COLOURS[1], COLOURS[3]
_JUDGED = {"worse": COLOURS[1], "better": COLOURS[2]}
"""Colours of guardrails; the others' are grey."""


def lift_chart(report: Report, arm: str | None = None, *, guardrails: bool = True) -> str:
    """Cumulative lift in CTR and in GMV per query over the days, as SVG.

    The band is the 95% interval of a single look; around it stand the intervals by the planned
    bounds and the always-valid one; the crosses are each day alone. Below stand the guardrails of
    all days together, where the report has them: the difference from the control and its 95%
    interval, worse on the right of the line.

    Args:
        report: of an experiment that the sample ratio does not block.
        arm: which one against the control; the first without.
        guardrails: draw them too.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: there is no such arm, or nothing to draw.
    """
    name = report.arms[0] if arm is None else arm
    if name not in report.arms:
        raise DataError(f"chart: no arm {name!r}; they are {', '.join(report.arms)}")
    metrics: tuple[MetricName, ...] = ("ctr", "gmv")
    curves = {metric: _of(report.cumulative, name, metric) for metric in metrics}
    if not any(curves.values()):
        raise DataError(f"chart: nothing compares {name!r} with {report.control!r}")

    found = report.guardrails if guardrails else None
    differences = [] if found is None else [one for one in found.differences if one.arm == name]

    def draw(figure: Any) -> None:
        upper = figure
        if differences:
            upper, lower = figure.subfigures(2, 1, height_ratios=(3, 1))
            for axes, one in zip(lower.subplots(1, len(differences)), differences, strict=True):
                _guardrail(axes, one)
        panels = upper.subplots(1, 2)
        for axes, metric in zip(panels, metrics, strict=True):
            _panel(axes, curves[metric], _of(report.daily, name, metric))
            adjusted = ", CUPED" if any(one.cuped for _, one in curves[metric]) else ""
            axes.set_title(f"{TITLES[metric]}{adjusted}", loc="left", fontsize=10)
            axes.set_xlabel("day")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.yaxis.set_major_formatter(lambda value, _: _percent(value))
        panels[0].set_ylabel(f"lift of {name} over {report.control}")
        handles, labels = panels[0].get_legend_handles_labels()
        upper.legend(handles, labels, loc="outside upper left", ncols=5, fontsize=9)

    return draw_svg(draw, 9.6, 5.2 if differences else 3.9)


def _panel(
    axes: Any, curve: Sequence[tuple[int, Estimate]], alone: Sequence[tuple[int, Estimate]]
) -> None:
    axes.axhline(0, color=GREY, linewidth=1)
    if not curve:
        return
    days = [day for day, _ in curve]
    found = [one for _, one in curve]
    low, high = [one.low for one in found], [one.high for one in found]
    axes.fill_between(days, low, high, color=COLOURS[0], alpha=0.18, label="95%, one look")
    axes.plot(days, [one.lift for one in found], "o-", color=COLOURS[0], label="cumulative lift")
    planned = [(day, one.planned) for day, one in curve if one.planned is not None]
    always = [(day, one.always) for day, one in curve if one.always is not None]
    _edges(axes, planned, _PLANNED, "dashed", "planned looks")
    _edges(axes, always, _ALWAYS, "dotted", "always valid")
    axes.plot(
        [day for day, _ in alone],
        [one.lift for _, one in alone],
        "x",
        color=GREY,
        markersize=5,
        label="day alone",
    )
    last = found[-1]
    reach = 4 * max(last.high - last.lift, last.lift - last.low, abs(last.lift) / 2)
    axes.set_ylim(min(last.lift, 0) - reach, max(last.lift, 0) + reach)


def _percent(share: float) -> str:
    """A tick's label: with its sign, and with decimals where the ticks are that close."""
    rounded = round(100 * share, 6)
    return f"{rounded:+g}%" if rounded else "0%"


def _guardrail(axes: Any, one: Difference) -> None:
    """One difference with its interval, in milliseconds or percentage points."""
    seconds = one.metric in SECONDS
    scale, unit = (1_000, "ms") if seconds else (100, "points")
    colour = _JUDGED.get(one.verdict.rpartition(" ")[2], GREY)
    ends = [end for end in (one.low, one.high) if end is not None]
    axes.axvline(0, color=GREY, linewidth=1)
    axes.plot([scale * end for end in ends], [0] * len(ends), color=colour, linewidth=2.5)
    axes.plot([scale * one.difference], [0], "o", color=colour, markersize=6)
    reach = 1.3 * scale * max(map(abs, (one.difference, *ends))) or 1
    axes.set_xlim(-reach, reach)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=3)
    axes.set_title(f"{GUARDRAILS[one.metric]}\n{one.verdict}", loc="left", fontsize=9)
    axes.set_xlabel(unit, fontsize=9)


def _edges(
    axes: Any, intervals: Sequence[tuple[int, Interval]], colour: str, dash: str, label: str
) -> None:
    """Both ends of intervals that do not end where the panel does."""
    days = [day for day, _ in intervals]
    style = {"color": colour, "linestyle": dash, "linewidth": 1.5}
    axes.plot(days, [interval.low for _, interval in intervals], label=label, **style)
    axes.plot(days, [interval.high for _, interval in intervals], **style)


def _of(looks: Sequence[Look], arm: str, metric: str) -> list[tuple[int, Estimate]]:
    return [
        (look.day, found)
        for look in looks
        for found in decisive(look.estimates)
        if (found.arm, found.metric) == (arm, metric)
    ]
