"""The studies' plots, as SVG on a white ground beside the results file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dualtower.evaluation.plots import COLOURS, GREY, draw_svg
from dualtower.evaluation.results import Results, Run
from dualtower.evaluation.tables import by_label, mean_and_deviation, value_of
from dualtower.studies.tuned import Tuned

_DASHES = ("solid", "dashed", "dotted", "dashdot")


def models_plot(results: Results, metrics: Sequence[str], main: str) -> str:
    """One panel a metric, one row a model: every seed, their mean, ± one standard deviation.

    Args:
        results: of models.
        metrics: the panels (see `value_of`).
        main: the label of the model in question, which has a colour of its own.
    """
    rows = by_label(results)
    labels = sorted(rows, key=lambda label: _mean(rows[label], metrics[0]))

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            for place, label in enumerate(labels):
                colour = COLOURS[1] if label == main else COLOURS[0]
                _dots(axes, place, _figures(rows[label], metric), colour)
            axes.set_title(_title(metric), loc="left", fontsize=10)
            axes.grid(axis="y", visible=False)
            axes.margins(x=0.22)  # room for the figures beside the dots
            axes.set_xlim(left=0)  # last: a limit once set is kept, whatever the margins
            axes.locator_params(axis="x", nbins=4)
        panels[0].set_yticks(range(len(labels)), labels)
        panels[0].set_ylim(-0.7, len(labels) - 0.3)

    return draw_svg(draw, 2.2 + 2.3 * len(metrics), 1.1 + 0.34 * len(labels))


def curves_plot(
    curves: Mapping[str, Mapping[int, Sequence[Run]]],
    level: Sequence[Run],
    level_label: str,
    metrics: Sequence[str],
    x_label: str,
    *,
    logarithmic: bool = True,
) -> str:
    """One panel a metric: curves over a number, with their spread, above the level to beat.

    Args:
        curves: by label, the runs at each number.
        level: runs of the model that does not have the number.
        level_label: what that model is called.
        metrics: the panels.
        x_label: what the number is.
        logarithmic: whether twice the number is always the same step.
    """

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            for number, (label, runs) in enumerate(curves.items()):
                spread = [mean_and_deviation(_figures(part, metric)) for part in runs.values()]
                axes.errorbar(
                    list(runs),
                    [mean for mean, _ in spread],
                    yerr=[deviation or 0.0 for _, deviation in spread],
                    color=COLOURS[number],
                    label=label,
                    marker="o",
                    capsize=3,
                )
            if level:
                mean, deviation = mean_and_deviation(_figures(level, metric))
                axes.axhline(mean, color=GREY, linestyle="dashed", label=level_label)
                axes.axhspan(
                    mean - (deviation or 0.0), mean + (deviation or 0.0), color=GREY, alpha=0.15
                )
            places = sorted({place for runs in curves.values() for place in runs})
            if logarithmic:
                axes.set_xscale("log", base=2)
            axes.set_xticks(places, [str(place) for place in places])
            axes.minorticks_off()
            axes.set_xlabel(x_label)
            axes.set_title(_title(metric), loc="left", fontsize=10)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4)

    return draw_svg(draw, 4.2 * len(metrics), 3.6)


def differences_plot(
    rows: Mapping[str, Mapping[str, tuple[float, Sequence[float]]]],
    noise: Mapping[str, float],
    metrics: Sequence[str],
) -> str:
    """One panel a metric, one row a variation: its difference, with the band that is noise.

    Args:
        rows: by variation ("factor: option") and metric: the difference of the means, and that of
            every seed.
        noise: by metric, how large a difference may be by the seeds alone.
        metrics: the panels.
    """
    labels = list(rows)[::-1]
    factors = [label.partition(":")[0] for label in labels]
    borders = [n - 0.5 for n in range(1, len(labels)) if factors[n] != factors[n - 1]]

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            band = noise.get(metric, 0.0)
            axes.axvspan(-band, band, color=GREY, alpha=0.15)
            axes.axvline(0, color=GREY, linewidth=1)
            for border in borders:
                axes.axhline(border, color=GREY, alpha=0.3, linewidth=0.5)
            means = [rows[label][metric][0] for label in labels if metric in rows[label]]
            edge = shown_up_to(means, band)
            shown = [-band, band]
            for place, label in enumerate(labels):
                if metric not in rows[label]:
                    continue
                mean, seeds = rows[label][metric]
                colour = COLOURS[2] if mean > 0 else COLOURS[1]
                if abs(mean) <= band or not band:  # nothing tells it from noise
                    colour = GREY
                if abs(mean) > edge:
                    _beyond(axes, place, mean, edge, colour)
                    continue
                axes.plot(seeds, np.full(len(seeds), place), "|", color=colour, markersize=6)
                axes.plot([mean], [place], "o", color=colour, markersize=6)
                shown += [mean, *seeds]
            shown += [np.copysign(edge, mean) for mean in means if abs(mean) > edge]
            room = 0.06 * (max(shown) - min(shown)) or 1.0
            axes.set_xlim(min(shown) - room, max(shown) + room)
            axes.set_title(f"{_title(metric)}, difference", loc="left", fontsize=10)
            axes.grid(axis="y", visible=False)
            axes.locator_params(axis="x", nbins=4)
        panels[0].set_yticks(range(len(labels)), labels, fontsize=8)
        panels[0].set_ylim(-0.7, len(labels) - 0.3)

    return draw_svg(draw, 3.4 + 2.9 * len(metrics), 1.1 + 0.22 * len(labels))


def shown_up_to(differences: Sequence[float], band: float) -> float:
    """Where an axis of differences ends, to either side; what is beyond is written at its edge.

    A few that are large would press all others into one line: so the axis ends where seven tenths
    of those that are not zero have room, and three times the band; or, where little is beyond
    that, at the largest of them and the band.

    Args:
        differences: any numbers.
        band: how large one may be by chance, at least 0.
    """
    sizes = np.abs([value for value in differences if value])
    if len(sizes) == 0:
        return max(band, 1e-9)
    edge = max(1.5 * float(np.quantile(sizes, 0.7)), 3 * band)
    return edge if sizes.max() > 2 * edge else max(float(sizes.max()), band)


def _beyond(axes: Any, place: int, mean: float, edge: float, colour: str) -> None:
    """A difference off the axis: an arrow at its edge, the figure beside it."""
    axes.plot([np.copysign(edge, mean)], [place], "<" if mean < 0 else ">", color=colour)
    axes.annotate(
        f"{mean:+.3f}",
        (np.copysign(edge, mean), place),
        xytext=(6 if mean < 0 else -6, 0),
        textcoords="offset points",
        ha="left" if mean < 0 else "right",
        va="center",
        fontsize=7,
        color=colour,
    )


def tuning_plot(tuned: Tuned) -> str:
    """The best metric so far by trial, a line for each model."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (name, trials) in enumerate(tuned.tried.items()):
            numbers: list[int] = []
            best: list[float] = []
            for trial in trials:
                if trial.state == "complete" and trial.metric is not None:
                    numbers.append(trial.number)
                    best.append(max([*best[-1:], trial.metric]))
            if not numbers:
                continue
            numbers.append(len(trials) - 1)
            best.append(best[-1])
            axes.step(
                numbers,
                best,
                where="post",
                label=name,
                color=COLOURS[number % len(COLOURS)],
                linestyle=_DASHES[number // len(COLOURS) % len(_DASHES)],
                marker="o",
            )
        axes.set_xlabel("trial (0: as configured)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(f"best validation {_title(tuned.metric)} so far", loc="left", fontsize=10)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")

    return draw_svg(draw, 8.6, 4.2)


def _dots(axes: Any, place: int, values: Sequence[float], colour: str) -> None:
    mean, deviation = mean_and_deviation(values)
    spread = deviation or 0.0
    axes.plot([mean - spread, mean + spread], [place, place], color=colour, linewidth=2)
    axes.plot(values, np.full(len(values), place), "|", color=colour, markersize=8, alpha=0.6)
    axes.plot([mean], [place], "o", color=colour, markersize=6)
    beside = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
    axes.annotate(f"{mean:.4f}", (max([*values, mean + spread]), place), **beside)


def _figures(runs: Sequence[Run], metric: str) -> list[float]:
    return [value for run in runs if (value := value_of(run, metric)) is not None]


def _mean(runs: Sequence[Run], metric: str) -> float:
    return mean_and_deviation(_figures(runs, metric))[0]


def _title(metric: str) -> str:
    segment, dot, name = metric.rpartition(".")
    title = "MRR" if name == "mrr" else name.replace("_", " ").replace("@", " @ ")
    return f"{title}, {segment.replace('_', ' ')}" if dot else title
