"""A study: which entries on which data, where it goes, and running it entry by entry."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualtower.config import RunConfig, load_config
from dualtower.data.dataset import Dataset
from dualtower.data.splits import split
from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.results import (
    DataSource,
    PairedTest,
    Refusal,
    Results,
    Run,
    Value,
    processor,
    versions,
)
from dualtower.evaluation.significance import compare_values
from dualtower.studies.orders import Order, Outcome, code_fingerprint, read_values
from dualtower.studies.run import check_validation, load_or_prepare, prepared_from
from dualtower.studies.tuned import Tuned, read_tuned
from dualtower.studies.variants import base_of, takes_seed
from dualtower.studies.worker import Task
from dualtower.studies.workers import Job, run_jobs

_PROTOCOLS = {
    "leave_last_out": "each query's last event for test, the last but one for validation",
    "time": "the last days for test, the days before them for validation",
    "column": "split as the table says",
}


@dataclass(frozen=True)
class Study:
    """What all studies of one configuration share."""

    config_path: Path
    """The run's TOML file."""
    results: Path
    """The results file to write; a plot and Markdown go beside it."""
    seeds: tuple[int, ...] = (0,)
    """Of the models that have one; the others run once."""
    final: bool = True
    """Fit on training and validation, measure on the test; else on training, and on validation."""
    data: Path | None = None
    """Folder of the tables, instead of where the file says they are."""
    work: Path | None = None
    """Folder for the dataset and the finished runs; `runs/NAME` without it."""
    tuned: Path | None = None
    """What `dualtower tune` wrote, whose settings the models get."""
    jobs: int = 1
    """Processes at a time; with more than one, each has one thread."""

    @property
    def folder(self) -> Path:
        """Where the dataset and the finished runs are."""
        return self.work or Path("runs") / self.results.stem

    def command(self, name: str, *options: str) -> str:
        """The command that does the study again; where the tables are is the reader's to say.

        Args:
            name: of the command.
            options: of the command alone, each with its value.
        """
        parts = [
            f"dualtower {name} {_shown(self.config_path)}",
            *options,
            *([f"--tuned {_shown(self.tuned)}"] if self.tuned is not None else []),
            *(["--data FOLDER"] if self.data is not None else []),
            f"--results results/{self.results.name}",
        ]
        return " ".join(parts)

    def config(self) -> RunConfig:
        """The run's configuration, with tables and dataset where this study has them.

        Raises:
            ConfigError: the file is not valid.
        """
        config = load_config(self.config_path)
        update = {"dataset": str((self.folder / "dataset").resolve())}
        if self.data is not None:
            for table in ("interactions", "items", "queries"):
                path = getattr(config.data, table)
                if path is not None:
                    update[table] = str(self.data.resolve() / Path(path).name)
        return config.model_copy(update={"data": config.data.model_copy(update=update)})

    def read_tuned(self, config: RunConfig, dataset: Dataset) -> Tuned | None:
        """What was tuned; None if this study uses nothing of the kind.

        Args:
            config: the run, as this study has it.
            dataset: the run's.

        Raises:
            DataError: there is no such file.
            ConfigError: it is not of the right form, or was tuned on other interactions, with
                another split or another filter.
        """
        if self.tuned is None:
            return None
        tuned = read_tuned(self.tuned)
        if tuned.data.sha256 != data_checksum(dataset):
            raise ConfigError(
                f"{self.tuned}: was tuned on other interactions ({tuned.data.name}); "
                "tune again, or name the right file"
            )
        for part in ("split", "filter"):
            if getattr(tuned, part) not in (None, getattr(config, part)):
                raise ConfigError(
                    f"{self.tuned}: was tuned with another [{part}], so that its choices may rest "
                    "on what is the test here; tune again, or name the right file"
                )
        return tuned


@dataclass(frozen=True)
class Entry:
    """One row of a study."""

    model: str
    """A model's or variant's name."""
    variation: str = ""
    """What is varied, in words."""
    settings: Mapping[str, Value] = field(default_factory=dict)
    """The settings that this means."""
    seeds: tuple[int, ...] = ()
    """Its own, instead of the study's."""


@dataclass(frozen=True)
class Measured:
    """What became of a study's entries."""

    runs: tuple[Run, ...]
    refusals: tuple[Refusal, ...]
    values: dict[str, dict[str, npt.NDArray[np.float64]]]
    """By label: every metric's value for each query, averaged over seeds, `[queries]`."""
    config: RunConfig
    dataset: Dataset

    def results(self, study: Study, command: str, **more: Any) -> Results:
        """The results file's content; `more` are fields that only some studies have."""
        fitted = "train and validation" if study.final else "train"
        measured = "test" if study.final else "validation"
        return make_results(
            command,
            study.results.stem,
            self.config,
            self.dataset,
            f"fitted on {fitted}, measured on {measured}",
            self.runs,
        ).model_copy(update={"refusals": self.refusals, **more})


def measure(study: Study, entries: Sequence[Entry], say: Callable[[str], None]) -> Measured:
    """Fit and measure every entry with every seed, each in a process of its own.

    A finished run stays in the study's folder under a key of all that its figures depend on, so
    that the same command goes on after a kill, and entries of the same settings run once.

    Raises:
        ConfigError: no entry or seed, an unknown model, or a setting that is not valid.
        DataError: a table is not as it should be, not one entry could run, or there are no
            validation events to measure on.
    """
    if not entries or not study.seeds or study.jobs < 1:
        raise ConfigError("study: names no model, no seed or no job; it needs at least one of each")
    for entry in entries:
        base_of(entry.model)
    config = study.config()
    dataset = load_or_prepare(config, say)
    tuned = study.read_tuned(config, dataset)
    if not study.final:
        check_validation(split(dataset, config.split), "study")
    prepared = prepared_from(dataset)
    orders = [
        _order(config, entry, seed, tuned, study.final, prepared)
        for entry in entries
        for seed in (dict.fromkeys(entry.seeds or study.seeds) if takes_seed(entry.model) else (0,))
    ]
    finished = study.folder / "finished"
    keys: dict[int, str] = {}
    failed: dict[str, str] = {}
    for place, order in enumerate(orders):
        try:
            keys[place] = order.key(dataset.source["files"])
        except ConfigError as error:
            failed[order.label] = str(error)
    jobs: dict[str, Job] = {}
    for place, key in keys.items():
        order, output = orders[place], finished / f"{key}.json"
        if key not in jobs and not _has_figures(output):
            task = Task(run=order, output=str(output.resolve()))
            jobs[key] = Job(order.label, key, task)
    say_of_finished([finished / f"{key}.json" for key in keys.values()], say)
    crashed: dict[str, str] = {}

    def done(job: Job, crash: str | None) -> None:
        if crash is not None:
            crashed[job.stem] = crash
            say(f"{job.label}: {crash}")
            return
        say(f"{job.label}: {_in_words(_read(finished / f'{job.stem}.json'))}")

    run_jobs(
        list(jobs.values()),
        study.folder,
        at_once=study.jobs,
        title="Runs",
        unit="runs",
        done=done,
    )
    return _gathered(orders, keys, failed, crashed, finished, config, dataset)


def _shown(path: Path) -> str:
    """A path as a command shows it: of one elsewhere on this machine only the name."""
    if path.is_absolute():
        here = path.is_relative_to(Path.cwd())
        path = path.relative_to(Path.cwd()) if here else Path(path.name)
    return path.as_posix()


def _order(
    config: RunConfig, entry: Entry, seed: int, tuned: Tuned | None, final: bool, prepared: str
) -> Order:
    chosen = tuned.settings_of(entry.model) if tuned is not None else None
    settings = None
    if chosen is not None or entry.settings:
        settings = {**(chosen or {}), **entry.settings}
    return Order(
        config=config,
        prepared=prepared,
        model=entry.model,
        variation=entry.variation,
        settings=settings,
        seed=seed,
        final=final,
    )


def _gathered(
    orders: Sequence[Order],
    keys: Mapping[int, str],
    failed: Mapping[str, str],
    crashed: Mapping[str, str],
    finished: Path,
    config: RunConfig,
    dataset: Dataset,
) -> Measured:
    runs: list[Run] = []
    refusals: list[Refusal] = []
    files: dict[str, list[Path]] = {}
    for place, order in enumerate(orders):
        named = {"model": order.model, "variation": order.variation, "seed": order.seed}
        key = keys.get(place, "")
        reason = failed.get(order.label) or crashed.get(key)
        outcome = None if reason is not None else _read(finished / f"{key}.json")
        if outcome is not None and outcome.run is not None:
            run = outcome.run.model_copy(update=named)
            runs.append(run)
            files.setdefault(run.label, []).append(finished / f"{key}.json")
        else:
            if outcome is not None and outcome.refusal is not None:
                reason = outcome.refusal.reason
            refusals.append(Refusal.model_validate({**named, "reason": reason or "no outcome"}))
    if not runs:
        reasons = "\n".join(f"  {refusal.model}: {refusal.reason}" for refusal in refusals)
        raise DataError(f"study: not one model could run:\n{reasons}")
    values = {label: _mean_values(label, paths) for label, paths in files.items()}
    return Measured(tuple(runs), tuple(refusals), values, config, dataset)


def make_results(
    command: str, name: str, config: RunConfig, dataset: Dataset, fitted: str, runs: Sequence[Run]
) -> Results:
    """A results file's content.

    Args:
        command: the command that writes it again.
        name: of the data, in the docs.
        config: the run.
        dataset: what was fitted and measured on.
        fitted: what was fitted and measured on, in words.
        runs: in the order of the table.
    """
    return Results(
        command=command,
        data=DataSource(name=name, sha256=data_checksum(dataset)),
        protocol=protocol(config, fitted),
        preset=config.model.preset,
        versions=versions(),
        processor=processor(),
        runs=tuple(runs),
    )


def listed(numbers: Iterable[int]) -> str:
    """Numbers as an option of a command takes them: by commas."""
    return ",".join(str(number) for number in numbers)


def paired_test(
    model: str,
    other: str,
    metric: str,
    ours: npt.NDArray[np.float64],
    theirs: npt.NDArray[np.float64],
) -> PairedTest:
    """The test of one metric of two models, from their values for the same queries."""
    return PairedTest(model=model, other=other, **asdict(compare_values(metric, ours, theirs)))


def protocol(config: RunConfig, fitted: str) -> str:
    """Split, corpus and what is left out, in a sentence; `fitted` says what was fitted on what."""
    seen = "left out of" if config.evaluation.exclude_seen else "kept in"
    held = config.split.validation_share
    share = f", {held:g} of the training events for validation" if held is not None else ""
    return (
        f"{_PROTOCOLS[config.split.by]}{share}; {fitted}; full ranking of the corpus, ties count "
        f"as half, items of the history {seen} it"
    )


def data_checksum(dataset: Dataset) -> str:
    """SHA-256 of the interactions file, or of those of several files in a row."""
    files = [file["sha256"] for file in dataset.source["files"]["interactions"]]
    return files[0] if len(files) == 1 else hashlib.sha256("".join(files).encode()).hexdigest()


def _mean_values(label: str, files: Sequence[Path]) -> dict[str, npt.NDArray[np.float64]]:
    """Every metric's values per query, averaged over the seeds' files."""
    of_seeds = [read_values(file) for file in files]
    queries = of_seeds[0].pop("queries")
    for values in of_seeds[1:]:
        if not np.array_equal(values.pop("queries"), queries):
            raise DataError(f"{label}: its seeds were measured on different queries")
    return {
        metric: np.mean([values[metric] for values in of_seeds], axis=0) for metric in of_seeds[0]
    }


def _read(file: Path) -> Outcome:
    return Outcome.model_validate_json(file.read_bytes())


def _has_figures(file: Path) -> bool:
    """Whether a run is finished; one that was refused is tried again, as the reason may be gone."""
    return file.is_file() and _read(file).run is not None


def _in_words(outcome: Outcome) -> str:
    if outcome.run is None:
        return f"cannot run: {outcome.refusal.reason if outcome.refusal else 'no reason'}"
    return f"mrr {outcome.run.metrics['mrr']:.4f}, {outcome.run.seconds:.0f} s"


def say_of_finished(files: Sequence[Path], say: Callable[[str], None]) -> None:
    """Say which runs need not be done, and which of them outlived a change of the code.

    Only the reader knows whether that change matters.

    Args:
        files: of outcomes; those that do not exist or are refusals are passed over.
        say: is told, line by line.
    """
    there = [file for file in dict.fromkeys(files) if file.is_file()]
    contents = {file: json.loads(file.read_bytes()) for file in there}
    found = [file for file, content in contents.items() if content.get("refusal") is None]
    now = code_fingerprint()
    old = [file for file in found if contents[file]["code"] != now]
    if found:
        say(f"{len(found)} runs are finished already, in {found[0].parent}")
    if old:
        say(f"{len(old)} of them were made by other code than this; delete them to run them again")
