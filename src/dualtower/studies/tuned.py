"""What tuning found: the file between `dualtower tune` and the studies that use its settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from dualtower.config import FilterConfig, Settings, SplitConfig, validate
from dualtower.evaluation.results import DataSource, Value
from dualtower.files import read_json, write_json
from dualtower.studies.variants import base_of


class Trial(Settings):
    """One choice of settings, tried on validation."""

    number: int = Field(ge=0)
    """From 0, the configuration as it stood."""
    state: Literal["complete", "pruned", "out_of_time", "failed"]
    """Pruned: stopped as worse than the others at the same share of their epochs. Out of time: the
    model's minutes were over. Failed: refused, or its process crashed; `reason` says why."""
    place: dict[str, float | str] = Field(default_factory=dict)
    """Where in the model's space it was, by dimension."""
    settings: dict[str, Value] = Field(default_factory=dict)
    """The settings that this stands for."""
    metric: float | None = None
    """The watched metric on validation: after the last epoch, as the final fit will end."""
    curve: tuple[float, ...] = ()
    """The metric after each epoch of a trained model."""
    seconds: float = Field(default=0.0, ge=0)
    reason: str = ""
    code: str = ""
    """Which code it was (`code_fingerprint`); "" where that is not known."""


class Repeat(Settings):
    """A trial's settings fitted again with another seed."""

    trial: int = Field(ge=0)
    """The trial's number."""
    added_seed: int = Field(ge=1)
    """What was added to the trial's seed."""
    metric: float | None = None
    """The watched metric on all validation queries; None where the fit failed."""
    seconds: float = Field(default=0.0, ge=0)
    reason: str = ""
    """Why it failed: it was refused, or its process crashed."""
    code: str = ""
    """Which code it was (`code_fingerprint`); "" where that is not known."""


class Best(Settings):
    """The best settings of a model."""

    settings: dict[str, Value]
    metric: float
    """The watched metric on validation; where it was fitted again, the mean over the repeats."""
    as_configured: float | None
    """The metric of the configuration as it stood, likewise; None where it failed."""
    seeds: int = Field(default=1, ge=1)
    """Over how many fits either is the mean."""
    trial: int
    trials: int
    """How many were tried, failed ones included."""
    seconds: float
    """Of all its trials, without what was fitted again."""


class Tuned(Settings):
    """What `results/tuned-NAME.json` holds."""

    command: str
    """The command that wrote the file. Where it went on from trials of before, with fewer trials or
    other places to try, a new search with it draws other ones."""
    data: DataSource
    split: SplitConfig | None = None
    """How the interactions were divided; None in files of before it was kept."""
    filter: FilterConfig | None = None
    """Which of them were kept, likewise."""
    protocol: str
    versions: dict[str, str]
    processor: str
    metric: str
    """What was watched on validation."""
    trials: int
    """The most trials of a model."""
    minutes: float
    """The most minutes of a model."""
    confirm: int = Field(default=0, ge=0)
    """With how many more seeds a model's best trials were fitted again."""
    seed: int
    """Of the search."""
    best: dict[str, Best]
    """By model or variant; one whose every trial failed is not here."""
    tried: dict[str, tuple[Trial, ...]]
    """Every trial, by model or variant."""
    repeats: dict[str, tuple[Repeat, ...]] = Field(default_factory=dict)
    """What was fitted again, by model or variant."""

    def settings_of(self, name: str) -> dict[str, Value] | None:
        """The settings for a model or variant; a variant without its own has its model's.

        Of a model that stays as configured they are those of the configuration that was searched,
        whatever has become of it since. None where neither was tuned.
        """
        for found in (name, base_of(name)):
            if found in self.best:
                best, tried = self.best[found], self.tried.get(found, ())
                searched = {trial.number: trial.settings for trial in tried}
                return dict(best.settings or searched.get(best.trial, {}))
        return None


def write_tuned(path: Path, tuned: Tuned) -> None:
    """Write the file."""
    write_json(path, tuned.model_dump(mode="json"))


def read_tuned(path: Path) -> Tuned:
    """Read the file.

    Raises:
        DataError: no such file, or not JSON.
        ConfigError: not of this form.
    """
    values = read_json(path, "no such file; `dualtower tune` writes it")
    return validate(Tuned, values, str(path))


def tuned_table(tuned: Tuned) -> str:
    """A Markdown table: of each model the metric before and after, and what was chosen."""
    lines = [
        f"| model | {tuned.metric} | as configured | seeds | trials | minutes | chosen |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, best in tuned.best.items():
        before = "–" if best.as_configured is None else f"{best.as_configured:.4f}"
        chosen = ", ".join(
            f"{setting.partition('.')[2] or setting} {_shown(value)}"
            for setting, value in best.settings.items()
        )
        lines.append(
            f"| {name} | {best.metric:.4f} | {before} | {best.seeds} | {best.trials} | "
            f"{best.seconds / 60:.1f} | {chosen or 'as configured'} |"
        )
    return "\n".join(lines)


def _shown(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
