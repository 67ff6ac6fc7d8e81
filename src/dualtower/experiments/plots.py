"""The chart of an experiment: cumulative lift day by day, with its intervals and bounds."""

from collections.abc import Sequence
from typing import Any

from dualtower.errors import DataError
from dualtower.evaluation.plots import COLOURS, GREY, draw_svg
from dualtower.experiments.report import TITLES, Look, Report, decisive
from dualtower.experiments.statistics import Estimate, Interval, MetricName

_PLANNED, _ALWAYS = COLOURS[1], COLOURS[3]


def lift_chart(report: Report, arm: str | None = None) -> str:
    """Cumulative lift in CTR and in GMV per query over the days, as SVG.

    The band is the 95% interval of a single look; around it stand the intervals by the planned
    bounds and the always-valid one; the dots are each day alone.

    Args:
        report: of an experiment that the sample ratio does not block.
        arm: which one against the control; the first without.

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

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, 2)
        for axes, metric in zip(panels, metrics, strict=True):
            _panel(axes, curves[metric], _of(report.daily, name, metric))
            adjusted = ", CUPED" if any(one.cuped for _, one in curves[metric]) else ""
            axes.set_title(f"{TITLES[metric]}{adjusted}", loc="left", fontsize=10)
            axes.set_xlabel("day")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.yaxis.set_major_formatter(lambda value, _: _percent(value))
        panels[0].set_ylabel(f"lift of {name} over {report.control}")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=5, fontsize=9)

    return draw_svg(draw, 9.6, 3.9)


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
