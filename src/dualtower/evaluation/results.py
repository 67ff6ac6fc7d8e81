"""Results files: every figure that the docs quote, with the command that measured it."""

import json
import os
import platform
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from pydantic import Field

from dualtower.config import Settings, validate
from dualtower.errors import DataError
from dualtower.files import write_json
from dualtower.versions import package_versions

_PACKAGES = ("dualtower", "torch", "numpy", "polars", "scipy", "faiss-cpu")


class DataSource(Settings):
    """The data behind a results file."""

    name: str
    """What it is called in the docs."""
    sha256: str | None = None
    """Of the interactions file; None where the data is made by the command itself."""


class Run(Settings):
    """One fit and evaluation."""

    model: str
    """The model's file name: dat, two_tower, ease …"""
    seed: int = Field(ge=0)
    metrics: dict[str, float]
    """By name: `hit_rate@50`, `mrr` …"""
    seconds: float = Field(ge=0)
    """Of the fit."""
    peak_memory_mb: float = Field(ge=0)
    """Of the process up to the end of the run."""
    settings: dict[str, int | float] = Field(default_factory=dict)
    """What was chosen on validation for this run, where it was tuned."""


class Results(Settings):
    """What `results/NAME.json` holds for a comparison of models."""

    command: str
    """The command that writes the file again."""
    data: DataSource
    protocol: str
    """Split, corpus and what was left out, in a sentence."""
    preset: str
    """The preset of the trained models."""
    versions: dict[str, str]
    processor: str
    runs: tuple[Run, ...] = Field(min_length=1)


class Measurements(Settings):
    """What `results/NAME.json` holds for a benchmark: runs are rows of a table."""

    command: str
    """The command that writes the file again."""
    protocol: str
    """What was measured, in a sentence."""
    versions: dict[str, str]
    processor: str
    runs: tuple[dict[str, str | int | float], ...] = Field(min_length=1)
    """Rows with the same columns each."""


def write_results(path: str | Path, results: Results | Measurements) -> None:
    """Write a results file.

    Raises:
        OSError: it cannot be written.
    """
    write_json(path, results.model_dump(mode="json"))


def read_results(path: str | Path) -> Results | Measurements:
    """Read a results file.

    Raises:
        DataError: no such file, or not JSON.
        ConfigError: of neither form.
    """
    file = Path(path)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file}: no such results file") from None
    except ValueError as error:
        raise DataError(f"{file}: not valid JSON: {error}") from None
    if isinstance(values, dict) and "data" in values:
        return validate(Results, values, str(file))
    return validate(Measurements, values, str(file))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures depend on."""
    return package_versions(_PACKAGES)


def processor() -> str:
    """The processor's name and how many of its cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"{_processor_name(Path('/proc/cpuinfo'))}, {cores} cores"


def peak_memory_mb() -> float:
    """Most memory that this process has held so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bytes_each = 1 if sys.platform == "darwin" else 1024
    return peak * bytes_each / 1e6


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None for the latter where there is one value only."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def results_table(results: Results | Measurements, columns: Sequence[str] = ()) -> str:
    """A Markdown table.

    Args:
        results: of models, one row per model with the mean over seeds, ± the standard deviation; or
            measurements, one row per run.
        columns: the metrics or columns to show; by default hit rates and MRR, or all columns.

    Raises:
        DataError: a run lacks a column.
    """
    if isinstance(results, Measurements):
        return _measurements_table(results, columns)
    runs = results.runs
    shown = columns or [
        name for name in runs[0].metrics if name.startswith("hit_rate@") or name == "mrr"
    ]
    rows = []
    for model in dict.fromkeys(run.model for run in runs):
        mine = [run for run in runs if run.model == model]
        cells = [model]
        for name in shown:
            lacking = [run.seed for run in mine if name not in run.metrics]
            if lacking:
                raise DataError(f"results: {model}, seed {lacking[0]}: no metric {name!r}")
            mean, deviation = mean_and_deviation([run.metrics[name] for run in mine])
            cells.append(f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}"))
        cells.append(str(len(mine)))
        cells.append(f"{fmean(run.seconds for run in mine):.0f}")
        cells.append(f"{max(run.peak_memory_mb for run in mine):,.0f}")
        rows.append(cells)
    return _markdown(["model", *shown, "seeds", "fit, s", "peak MB"], rows)


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


def _processor_name(cpuinfo: Path) -> str:
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown processor"
