"""The report's plots as SVG text, each for a light and for a dark page."""

import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dualtower.errors import ConfigError

GREY = "#5c6670"
COLOURS = ("#3b6fd4", "#e07a1f", "#2a9d72", "#b8478f", "#8a7a2e", "#6a5acd", GREY)
"""Told apart by colour-blind readers, legible on light and dark; one per model, in order."""


@dataclass(frozen=True)
class TrainingCurve:
    """What one model's training reported after each epoch."""

    model: str
    epochs: Sequence[int]
    loss: Sequence[float]
    """Mean training loss of each epoch."""
    validation: Sequence[float]
    """The validation metric after each epoch."""
    metric: str = "mrr"
    """Which metric that is."""


@dataclass(frozen=True)
class Plot:
    """One plot as SVG text for both kinds of page."""

    light: str
    dark: str


def check_plots() -> None:
    """Check that plots can be drawn, before the work whose report they are for.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("the report's plots need matplotlib: pip install 'dualtower[demo]'")


def training_plot(curves: Sequence[TrainingCurve], colours: dict[str, str]) -> Plot:
    """Loss and validation metric by epoch, side by side.

    Args:
        curves: one per trained model.
        colours: by model name.
    """

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for curve in curves:
            style = {"color": colours[curve.model], "label": curve.model, "marker": "o"}
            left.plot(curve.epochs, curve.loss, **style)
            right.plot(curve.epochs, curve.validation, **style)
        left.set_ylabel("training loss")
        right.set_ylabel(f"validation {curves[0].metric}")
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
        _legend_above(figure, right)

    return _render(draw, 8.6, 3.4)


def category_plot(
    categories: Sequence[str],
    rates: Mapping[str, Sequence[float]],
    metric: str,
    colours: dict[str, str],
) -> Plot:
    """A metric per category as grouped horizontal bars, one colour per model.

    Args:
        categories: labels, the first at the top.
        rates: per model, one value per category.
        metric: what the values are.
        colours: by model name.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        places = np.arange(len(categories))
        height = 0.8 / len(rates)
        for index, (model, values) in enumerate(rates.items()):
            offset = (index - (len(rates) - 1) / 2) * height
            axes.barh(
                places + offset, values, height * 0.9, color=colours[model], label=model, zorder=2
            )
        axes.set_yticks(places, categories)
        axes.invert_yaxis()
        axes.set_xlabel(metric)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        _legend_above(figure, axes)

    return _render(draw, 8.6, 1.4 + len(categories) * max(0.32, 0.13 * len(rates)))


def popularity_plot(
    recommended: dict[str, npt.NDArray[np.int64]],
    targets: npt.NDArray[np.int64],
    corpus: npt.NDArray[np.int64],
    colours: dict[str, str],
) -> Plot:
    """How popular the recommended items were in training, as cumulative shares.

    A curve further to the right recommends more popular items; the dashed one is what the queries
    chose in truth, the dotted one the corpus.

    Args:
        recommended: per model, the training events of every recommended item, repeats included.
        targets: training events of every target.
        corpus: training events of every item.
        colours: by model name.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        grey = figure.text_colour
        lines = [
            ("all items", corpus, grey, "dotted"),
            ("targets", targets, grey, "dashed"),
            *((name, counts, colours[name], "solid") for name, counts in recommended.items()),
        ]
        for name, counts, colour, dash in lines:
            if len(counts):
                values, shares = _cumulative(counts)
                axes.step(values, shares, where="post", color=colour, linestyle=dash, label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("training events of the item (+ 1)")
        axes.set_ylabel("share of recommendations")
        axes.set_ylim(0, 1.01)
        _legend_above(figure, axes)

    return _render(draw, 8.6, 3.8)


def _legend_above(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)


def _cumulative(
    counts: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    values, occurrences = np.unique(counts + 1, return_counts=True)
    shares = np.concatenate([[0], np.cumsum(occurrences)]) / len(counts)
    return np.concatenate([values[:1], values]), shares


def draw_svg(
    draw: Callable[[Any], None],
    width: float,
    height: float,
    *,
    text: str = "#333940",
    grid: str = "#e3e6ea",
    background: str = "white",
) -> str:
    """A figure in the style of all plots, as SVG text.

    Args:
        draw: draws on the empty figure that it is given; `figure.text_colour` is `text`.
        width: in inches.
        height: in inches.
        text: colour of text and ticks.
        grid: colour of axes and grid.
        background: colour behind all; "none" for no colour.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    check_plots()
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.size": 10,
        "text.color": text,
        "axes.facecolor": "none",
        "axes.labelcolor": text,
        "axes.edgecolor": grid,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": grid,
        "grid.linewidth": 0.8,
        "xtick.color": text,
        "ytick.color": text,
        "lines.linewidth": 2,
        "lines.markersize": 3.5,
        "legend.frameon": False,
        "svg.hashsalt": "dualtower",
    }
    with matplotlib.rc_context(style):
        figure: Any = Figure(figsize=(width, height), layout="constrained")
        figure.text_colour = text
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", facecolor=background, metadata={"Date": None})
    return file.getvalue()


def _render(draw: Callable[[Any], None], width: float, height: float) -> Plot:
    return Plot(
        draw_svg(draw, width, height, background="none"),
        draw_svg(draw, width, height, text="#c9d1d9", grid="#30363d", background="none"),
    )
