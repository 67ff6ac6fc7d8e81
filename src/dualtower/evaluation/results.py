"""Results files: every figure that the docs quote, with the command that measured it."""

import os
import platform
import resource
import sys
from pathlib import Path

from pydantic import Field

from dualtower.config import Settings, validate
from dualtower.files import read_json, write_json
from dualtower.versions import package_versions

_PACKAGES = ("dualtower", "torch", "numpy", "polars", "scipy", "faiss-cpu")

Value = bool | int | float | str | tuple[int, ...] | None
"""What a setting can be."""


class DataSource(Settings):
    """The data behind a results file."""

    name: str
    """What it is called in the docs."""
    sha256: str | None = None
    """Of the interactions file; None where the data is made by the command itself."""


class Run(Settings):
    """One fit and evaluation."""

    model: str
    """The model's file name: dat, two_tower, ease …; or a variant's: dat_without_amm …"""
    variation: str = ""
    """What is different from the model as configured, in a study that varies it."""
    seed: int = Field(ge=0)
    metrics: dict[str, float]
    """By name: `hit_rate@50`, `mrr` …"""
    seconds: float = Field(ge=0)
    """Of the fit."""
    peak_memory_mb: float = Field(ge=0)
    """Of the process up to the end of the fit."""
    settings: dict[str, Value] = Field(default_factory=dict)
    """What was chosen on validation for this run, where it was tuned, or is varied."""
    segments: dict[str, dict[str, int | float | None]] = Field(default_factory=dict)
    """Minor categories, cold and warm queries and items: count, `hit_rate@k`, `mrr` of each."""

    @property
    def label(self) -> str:
        """What the run's row is called in a table."""
        return f"{self.model}, {self.variation}" if self.variation else self.model


class PairedTest(Settings):
    """One model against another on the same queries, each query's values averaged over seeds."""

    model: str
    """The label of the model in question."""
    other: str
    """The label of the other one."""
    metric: str
    difference: float
    """Mean of the first less mean of the second."""
    low: float
    high: float
    """The bootstrap's 95% interval of the difference."""
    p_value: float = Field(gt=0, le=1)
    """Two-sided; the draws are of queries, so it says nothing of other seeds."""
    best_other: bool = False
    """Whether no other model in the study, the first one's variants aside, has a better mean."""


class Refusal(Settings):
    """A model that could not be fitted or measured here."""

    model: str
    variation: str = ""
    seed: int = Field(ge=0)
    reason: str
    """In the words of the message that it ended with."""


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
    refusals: tuple[Refusal, ...] = ()
    """What could not run, and why."""
    tests: tuple[PairedTest, ...] = ()
    """The model in question against every other, where the study tests that."""


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
    values = read_json(path, "no such results file")
    if isinstance(values, dict) and "data" in values:
        return validate(Results, values, str(path))
    return validate(Measurements, values, str(path))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures depend on."""
    return package_versions(_PACKAGES)


def processor() -> str:
    """The processor's name and how many of its cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"{_processor_name(Path('/proc/cpuinfo'))}, {cores} cores"


def peak_memory_mb() -> float:
    """Most memory that this process has held so far, in MB (10^6 bytes).

    On Linux it is the kernel's count for this program alone: the portable one also holds what the
    process that started it had at that moment.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bytes_each = 1 if sys.platform == "darwin" else 1024
    return peak * bytes_each / 1e6


def _processor_name(cpuinfo: Path) -> str:
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown processor"
