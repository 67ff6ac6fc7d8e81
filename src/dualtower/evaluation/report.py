"""The report of a run: one HTML file that needs nothing else, and the same figures as JSON."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.dataset import Log
from dualtower.errors import DataError
from dualtower.evaluation.evaluate import Evaluation, events_before
from dualtower.evaluation.plots import (
    COLOURS,
    Plot,
    TrainingCurve,
    category_plot,
    popularity_plot,
    training_plot,
)
from dualtower.evaluation.report_style import STYLE
from dualtower.evaluation.significance import bootstrap_interval, paired_bootstrap
from dualtower.files import write_json, write_text

MOST_CATEGORIES = 12
"""How many categories the plot shows; the table in the JSON has them all."""
RESAMPLES = 2_000
"""Bootstrap samples behind each interval of the report."""


def write_report(
    path: str | Path,
    *,
    title: str,
    log: Log,
    evaluations: Mapping[str, Evaluation],
    main: str,
    curves: Sequence[TrainingCurve] = (),
    recommendations: pl.DataFrame | None = None,
    facts: Mapping[str, str | int | float] | None = None,
) -> None:
    """Write `path` (HTML) and, beside it, the same figures with the suffix `.json`.

    Args:
        path: the HTML file, for example "report.html".
        title: its heading.
        log: the view that was evaluated, usually the test view.
        evaluations: by the name to show, in the order of the table; all of the same queries.
        main: the name whose difference from every other model is tested.
        curves: what each trained model reported; `model` is its name in `evaluations`.
        recommendations: a table of examples, shown as it is.
        facts: anything worth knowing of the run (data, seconds, versions), shown as it is.

    Raises:
        DataError: `main` or a curve's model is not among the evaluations, or they are not of the
            same queries.
        ConfigError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    for name in (main, *(curve.model for curve in curves)):
        if name not in evaluations:
            known = ", ".join(evaluations)
            raise DataError(f"report: no evaluation of {name!r}; there are {known}")
    page = Path(path)
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(evaluations)}
    comparison = _comparison(evaluations, main)
    popularity = _popularity(log, evaluations)
    content = {
        "title": title,
        "main": main,
        "facts": dict(facts or {}),
        "comparison": comparison,
        "evaluations": {name: value.to_dict() for name, value in evaluations.items()},
        "training": [_curve_values(curve) for curve in curves],
        "recommended_popularity": {
            name: _summary(counts) for name, counts in popularity["recommended"].items()
        },
        "target_popularity": _summary(popularity["targets"]),
        "recommendations": [] if recommendations is None else _json_rows(recommendations),
    }
    sections = [
        _section("Comparison", _comparison_table(comparison, main, evaluations)),
        _section("Cold start and minor categories", _segments_table(evaluations)),
    ]
    if curves:
        sections.append(_section("Training", _picture(training_plot(curves, colours), "Training")))
    categories = _category_section(evaluations, main, colours)
    if categories:
        sections.append(_section("Hit rate per category", categories))
    plot = popularity_plot(
        popularity["recommended"], popularity["targets"], popularity["corpus"], colours
    )
    note = (
        "<p>Cumulative share of each query's top items by how often an item was chosen in "
        "training. The further right a curve, the more it keeps to popular items.</p>"
    )
    sections.append(
        _section("Popularity of what is recommended", note + _picture(plot, "Popularity"))
    )
    if recommendations is not None:
        sections.append(_section("Sample recommendations", _frame_table(recommendations)))
    if facts:
        rows = [[escape(str(name)), escape(_fact(value))] for name, value in facts.items()]
        sections.append(_section("The run", _table([], rows)))
    first = evaluations[main]
    subtitle = (
        f"{len(first.ranking.queries):,} queries, {len(first.ranking.ranks):,} targets, each "
        f"ranked among all {first.corpus_size:,} items; ties count as half."
    )
    write_json(page.with_suffix(".json"), content)
    write_text(page, _page(title, subtitle, sections))


def _comparison(evaluations: Mapping[str, Evaluation], main: str) -> dict[str, dict[str, Any]]:
    """Per model and metric: mean, interval, and the main model's difference from it."""
    names = _shown_metrics(evaluations[main])
    table: dict[str, dict[str, Any]] = {}
    for model, evaluation in evaluations.items():
        table[model] = {}
        for metric in names:
            values = evaluation.per_query[metric]
            row = asdict(bootstrap_interval(values, resamples=RESAMPLES))
            if model != main:
                row["main_less_this"] = asdict(
                    paired_bootstrap(evaluations[main], evaluation, metric)
                )
            table[model][metric] = row
    return table


def _shown_metrics(evaluation: Evaluation) -> list[str]:
    return [*(f"hit_rate@{cutoff}" for cutoff in evaluation.cutoffs), "mrr"]


def _popularity(log: Log, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    counts = events_before(log).item_counts()
    first = next(iter(evaluations.values()))
    recommended = {}
    for name, evaluation in evaluations.items():
        items = evaluation.ranking.top
        recommended[name] = counts[items[items > 0]]
    return {
        "recommended": recommended,
        "targets": counts[first.ranking.items],
        "corpus": counts[log.corpus],
    }


def _curve_values(curve: TrainingCurve) -> dict[str, Any]:
    return {
        "model": curve.model,
        "metric": curve.metric,
        "epochs": [int(epoch) for epoch in curve.epochs],
        "loss": [float(value) for value in curve.loss],
        "validation": [float(value) for value in curve.validation],
    }


def _json_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows of plain values; what JSON does not know, dates among it, as text."""
    plain = (str, int, float, bool, type(None))
    return [
        {name: value if isinstance(value, plain) else str(value) for name, value in row.items()}
        for row in frame.iter_rows(named=True)
    ]


def _summary(counts: npt.NDArray[np.int64]) -> dict[str, float]:
    """Deciles and mean of training events, so that the distribution can be drawn again."""
    if len(counts) == 0:
        return {}
    deciles = np.quantile(counts, np.linspace(0, 1, 11))
    shares = {f"p{10 * index}": float(value) for index, value in enumerate(deciles)}
    return {"mean": float(counts.mean()), **shares}


def _comparison_table(
    comparison: dict[str, dict[str, Any]], main: str, evaluations: Mapping[str, Evaluation]
) -> str:
    metrics = list(comparison[main])
    best = {name: max(rows[name]["mean"] for rows in comparison.values()) for name in metrics}
    largest = evaluations[main].cutoffs[-1]
    rows = []
    for model, values in comparison.items():
        cells = [f"<b>{escape(model)}</b>" if model == main else escape(model)]
        for name in metrics:
            value = values[name]
            mean = f"{value['mean']:.4f}"
            if value["mean"] == best[name]:
                mean = f"<b>{mean}</b>"
            cells.append(f"{mean}<small>{value['low']:.4f} – {value['high']:.4f}</small>")
        cells.append(f"{evaluations[model].metrics[f'coverage@{largest}']:.1%}")
        test = values["mrr"].get("main_less_this")
        cells.append("" if test is None else _test_cell(test))
        rows.append(cells)
    headings = ["model", *metrics, f"coverage@{largest}", "Δ mrr"]
    note = (
        f"<p>Δ mrr is that of {escape(main)} less the row's; p is from a paired bootstrap. Small "
        "figures are 95% bootstrap intervals over queries. The best of each column is bold.</p>"
    )
    return _table(headings, rows) + note


def _test_cell(test: dict[str, Any]) -> str:
    p_value = f"p = {test['p_value']:.3f}" if test["p_value"] >= 0.001 else "p &lt; 0.001"
    interval = f"{test['low']:+.4f} – {test['high']:+.4f}"
    return f"{test['difference']:+.4f}<small>{interval}</small><small>{p_value}</small>"


def _segments_table(evaluations: Mapping[str, Evaluation]) -> str:
    first = next(iter(evaluations.values()))
    rows = []
    for index, segment in enumerate(first.segments.iter_rows(named=True)):
        cells = [escape(segment["segment"]), f"{segment['count']:,}"]
        for evaluation in evaluations.values():
            value = evaluation.segments["mrr"][index]
            cells.append("–" if value is None else f"{value:.4f}")
        rows.append(cells)
    return _table(["mrr of", "count", *(escape(name) for name in evaluations)], rows)


def _category_section(
    evaluations: Mapping[str, Evaluation], main: str, colours: dict[str, str]
) -> str:
    table = evaluations[main].by_category
    if table.is_empty():
        return ""
    cutoffs = evaluations[main].cutoffs
    metric = f"hit_rate@{cutoffs[len(cutoffs) // 2]}"
    shown = table.sort("targets", descending=True).head(MOST_CATEGORIES)
    categories = shown["category"].to_list()
    rates = {}
    for name, evaluation in evaluations.items():
        values = dict(evaluation.by_category.select("category", metric).iter_rows())
        rates[name] = [values.get(category, 0.0) for category in categories]
    labels = [
        f"{category} ({targets:,})"
        for category, targets in shown.select("category", "targets").iter_rows()
    ]
    note = "<p>Categories of the targets, with their number of targets"
    if table.height > shown.height:
        note += f"; the {shown.height} largest of {table.height}"
    plot = category_plot(labels, rates, metric, colours)
    return note + ".</p>" + _picture(plot, "Hit rate per category")


def _picture(plot: Plot, text: str) -> str:
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_data_uri(plot.dark)}">'
        f'<img src="{_data_uri(plot.light)}" alt="{escape(text)}"></picture>'
    )


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def _frame_table(frame: pl.DataFrame) -> str:
    rows = [[escape(_cell(value)) for value in row] for row in frame.iter_rows()]
    words = [place for place, kind in enumerate(frame.dtypes) if kind == pl.String]
    return _table([escape(name) for name in frame.columns], rows, words=words)


def _cell(value: Any) -> str:
    """A cell as it is: a whole number may be an id, so it gets no separators."""
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(headings: list[str], rows: list[list[str]], *, words: Sequence[int] = ()) -> str:
    """A table; the columns at the places `words` hold text, the others but the first numbers."""

    def line(tag: str, cells: list[str]) -> str:
        kinds = [' class="words"' if place in words else "" for place in range(len(cells))]
        parts = (f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line("td", row) for row in rows)
    top = f"<thead>{line('th', headings)}</thead>" if headings else ""
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{content}</section>"


def _page(title: str, subtitle: str, sections: list[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p>{escape(subtitle)}</p>"
        + "\n".join(sections)
        + "</main></body></html>\n"
    )
