"""Several models and seeds on one protocol, into one results file; goes on after a kill."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualtower.config import RunConfig, load_config
from dualtower.data.dataset import Dataset, Split
from dualtower.data.splits import split
from dualtower.errors import ConfigError
from dualtower.evaluation.evaluate import evaluate
from dualtower.evaluation.results import (
    DataSource,
    Results,
    Run,
    peak_memory_mb,
    processor,
    versions,
    write_results,
)
from dualtower.files import write_json
from dualtower.models import MODELS, SOLVED
from dualtower.studies.floors import has_seed, tuned_settings
from dualtower.studies.run import changed, fit_model, load_or_prepare, without_traces

_PROTOCOLS = {
    "leave_last_out": "each query's last event for test, the last but one for validation",
    "time": "the last days for test, the days before them for validation",
    "column": "split as the table says",
}


@dataclass(frozen=True)
class Study:
    """What is to be compared, and where it goes."""

    config_path: Path
    """The run's TOML file."""
    models: tuple[str, ...]
    """Models by name."""
    seeds: tuple[int, ...]
    """Seeds of the trained models; floors without randomness run once."""
    final: bool
    """Fit on training and validation, measure on the test; else on training, and on validation."""
    results: Path
    """The results file to write."""
    data: Path | None = None
    """Folder of the tables, instead of where the file says they are."""
    work: Path | None = None
    """Folder for the dataset and the finished runs; `runs/NAME` without it."""

    @property
    def folder(self) -> Path:
        """Where the dataset and the finished runs are."""
        return self.work or Path("runs") / self.results.stem

    @property
    def command(self) -> str:
        """The command that does the study again; where the tables are is the reader's to say."""
        parts = [
            f"dualtower study compare {self.config_path.as_posix()}",
            f"--models {','.join(self.models)}",
            f"--seeds {','.join(str(seed) for seed in self.seeds)}",
            *(["--final"] if self.final else []),
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


def compare_models(study: Study, say: Callable[[str], None]) -> Results:
    """Do the study: every run that is not finished yet, then the results file.

    Floors are tuned on validation over a small grid first, and the choice is recorded. A finished
    run is kept in the study's folder under a key of the configuration and the tables' bytes, so
    that the same command goes on after a kill; a complete study removes them.

    Raises:
        ConfigError: no model or an unknown one, or a setting that is not valid.
        DataError: a table is not as it should be.
    """
    if not study.models or not study.seeds:
        raise ConfigError("study: names no model or no seed; it needs at least one of each")
    unknown = [name for name in study.models if name not in MODELS]
    if unknown:
        known = ", ".join(sorted(MODELS))
        raise ConfigError(f"--models: no model {unknown[0]!r}; there are {known}")
    config = study.config()
    parts = split(load_or_prepare(config, say), config.split)
    key = _key(study, config, parts)
    finished = study.folder / "finished"
    runs = []
    for name in study.models:
        for seed in study.seeds if name not in SOLVED or has_seed(name) else (0,):
            kept = finished / f"{key}-{name}-{seed}.json"
            if not kept.is_file():
                say(f"{name}, seed {seed}: fitting")
                run = _one_run(study, config, parts, name, seed)
                write_json(kept, run.model_dump(mode="json"))
            run = Run.model_validate_json(kept.read_bytes())
            say(f"{name}, seed {seed}: mrr {run.metrics['mrr']:.4f}, {run.seconds:.0f} s")
            runs.append(run)
    fitted = "train and validation" if study.final else "train"
    measured = "test" if study.final else "validation"
    results = make_results(
        study.command,
        study.results.stem,
        config,
        parts.train.dataset,
        f"fitted on {fitted}, measured on {measured}",
        runs,
    )
    write_results(study.results, results)
    shutil.rmtree(finished)
    return results


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
    seen = "left out of" if config.evaluation.exclude_seen else "kept in"
    files = [file["sha256"] for file in dataset.source["files"]["interactions"]]
    together = hashlib.sha256("".join(files).encode()).hexdigest()
    return Results(
        command=command,
        data=DataSource(name=name, sha256=files[0] if len(files) == 1 else together),
        protocol=f"{_PROTOCOLS[config.split.by]}; {fitted}; full ranking of the corpus, ties count "
        f"as half, items of the history {seen} it",
        preset=config.model.preset,
        versions=versions(),
        processor=processor(),
        runs=tuple(runs),
    )


def _one_run(study: Study, config: RunConfig, parts: Split, name: str, seed: int) -> Run:
    settings = {}
    if name in SOLVED:
        settings = tuned_settings(name, parts, config=config.evaluation)
        settings |= {"seed": seed} if has_seed(name) else {}
    seeded = changed(without_traces(config), seed=seed)
    fitted_on = "train+validation" if study.final else "train"
    start = time.monotonic()
    model = fit_model(name, seeded, parts, fitted_on, settings=settings)
    seconds = time.monotonic() - start
    log = parts.test if study.final else parts.validation
    found = evaluate(model, log, config=config.evaluation)
    return Run(
        model=name,
        seed=seed,
        metrics=found.metrics,
        seconds=round(seconds, 1),
        peak_memory_mb=round(peak_memory_mb()),
        settings=settings,
    )


def _key(study: Study, config: RunConfig, parts: Split) -> str:
    """Of all that a run's figures depend on, but for its model and seed."""
    facts = {
        "files": parts.train.dataset.source["files"],
        "config": config.model_dump(mode="json", exclude={"data", "bundle", "index"}),
        "final": study.final,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
