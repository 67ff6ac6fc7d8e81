"""Markdown tables of results files."""

from collections.abc import Sequence
from statistics import fmean, stdev

from dualtower.errors import DataError
from dualtower.evaluation.results import Measurements, Results, Run


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None for the latter where there is one value only."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def value_of(run: Run, name: str) -> float | None:
    """A figure of a run; None where its segment is empty.

    Args:
        run: the run.
        name: a metric (`hit_rate@50`), `mrr_x10` (the paper prints ten times the MRR), or a
            segment's (`cold_items.mrr`).

    Raises:
        DataError: the run has no such figure.
    """
    if name == "mrr_x10" and "mrr" in run.metrics:
        return 10 * run.metrics["mrr"]
    segment, dot, metric = name.partition(".")
    found = run.segments.get(segment.replace("_", " "), {}) if dot else run.metrics
    metric = metric if dot else name
    if metric not in found:
        raise DataError(f"results: {run.label}, seed {run.seed}: no metric {name!r}")
    return found[metric]


def results_table(results: Results | Measurements, columns: Sequence[str] = ()) -> str:
    """A Markdown table.

    Args:
        results: of models, one row per model with the mean over seeds, ± the standard deviation; or
            measurements, one row per run.
        columns: the figures (see `value_of`) or columns to show; by default hit rates and MRR, or
            all columns.

    Raises:
        DataError: a run lacks a column.
    """
    if isinstance(results, Measurements):
        return _measurements_table(results, columns)
    shown = columns or [
        name for name in results.runs[0].metrics if name.startswith("hit_rate@") or name == "mrr"
    ]
    rows = []
    for label, runs in by_label(results).items():
        cells = [label, *(_mean_cell(runs, name) for name in shown), str(len(runs))]
        cells.append(f"{fmean(run.seconds for run in runs):.0f}")
        cells.append(f"{max(run.peak_memory_mb for run in runs):,.0f}")
        rows.append(cells)
    return _markdown(["model", *shown, "seeds", "fit, s", "peak MB"], rows)


def segments_table(results: Results, metric: str = "mrr") -> str:
    """A metric of every segment as a Markdown table, one row per model.

    Args:
        results: of runs with segments.
        metric: `mrr` or one of the hit rates.

    Raises:
        DataError: a run lacks the metric.
    """
    segments = results.runs[0].segments
    headings = [f"{name} ({parts['count']:,})" for name, parts in segments.items()]
    rows = [
        [label, *(_mean_cell(runs, f"{name.replace(' ', '_')}.{metric}") for name in segments)]
        for label, runs in by_label(results).items()
    ]
    return _markdown([f"model ({metric})", *headings], rows)


def paired_tests_table(results: Results, metrics: Sequence[str] = ()) -> str:
    """The paired tests as a Markdown table, one row per other model.

    Args:
        results: of a study with tests.
        metrics: which metrics' tests to show; all without.

    Raises:
        DataError: there is no test of a metric.
    """
    shown = list(metrics) or list(dict.fromkeys(test.metric for test in results.tests))
    found = {(test.other, test.metric): test for test in results.tests}
    rows = []
    for other in dict.fromkeys(test.other for test in results.tests):
        cells = [other]
        for metric in shown:
            test = found.get((other, metric))
            if test is None:
                raise DataError(f"results: no test of {metric!r} against {other}")
            best = ", best other" if test.best_other else ""
            cells.append(
                f"{test.difference:+.4f} ({test.low:+.4f} … {test.high:+.4f}), "
                f"p = {test.p_value:.4f}{best}"
            )
        rows.append(cells)
    main = results.tests[0].model if results.tests else "model"
    return _markdown([f"{main} against", *shown], rows)


def refusals_list(results: Results) -> str:
    """What could not run and why, as a Markdown list; empty if all did."""
    lines = []
    for refusal in results.refusals:
        label = f"{refusal.model}, {refusal.variation}" if refusal.variation else refusal.model
        lines.append(f"- {label}, seed {refusal.seed}: {' '.join(refusal.reason.split())}")
    return "\n".join(lines)


def by_label(results: Results) -> dict[str, list[Run]]:
    """The runs of each row, in the order of the file."""
    rows: dict[str, list[Run]] = {}
    for run in results.runs:
        rows.setdefault(run.label, []).append(run)
    return rows


def _mean_cell(runs: Sequence[Run], name: str) -> str:
    values = [value for run in runs if (value := value_of(run, name)) is not None]
    if not values:
        return "–"
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def _measurements_table(results: Measurements, columns: Sequence[str]) -> str:
    shown = list(columns or results.runs[0])
    rows = []
    for place, run in enumerate(results.runs):
        lacking = [name for name in shown if name not in run]
        if lacking:
            raise DataError(f"results: run {place}: no column {lacking[0]!r}")
        rows.append([_cell(run[name]) for name in shown])
    return _markdown([name.replace("_", " ") for name in shown], rows)


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _markdown(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
