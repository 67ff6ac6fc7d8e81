"""`dualtower tune`: every model's search, the same number of trials and minutes for each."""

import hashlib
import importlib.util
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualtower.config import RunConfig
from dualtower.data.splits import split
from dualtower.errors import ConfigError
from dualtower.evaluation.plots import check_plots
from dualtower.evaluation.results import DataSource, processor, versions
from dualtower.files import write_text
from dualtower.studies.orders import code_fingerprint, figure_settings
from dualtower.studies.plots import tuning_plot
from dualtower.studies.run import (
    check_validation,
    load_or_prepare,
    load_prepared,
    prepared_from,
)
from dualtower.studies.spaces import check_dimensions, holds, in_words, space_of
from dualtower.studies.study import Study, data_checksum, protocol
from dualtower.studies.trials import (
    crashed_trial,
    fit_count,
    forget_begun,
    read_repeats,
    read_trials,
    write_repeat,
    write_trial,
)
from dualtower.studies.tuned import Best, Repeat, Trial, Tuned, tuned_table, write_tuned
from dualtower.studies.tuning import (
    TuneOrder,
    best_of,
    goes_on,
    next_repeat,
    places_to_try,
    repeat_count,
    searched_space,
    was_tried,
)
from dualtower.studies.worker import Task
from dualtower.studies.workers import Job, run_jobs


@dataclass(frozen=True)
class TunePlan:
    """What is to be tuned, and how long."""

    study: Study
    """Where the data is and the file goes; its seeds do not matter."""
    models: tuple[str, ...]
    """Models and variants by name."""
    trials: int = 20
    """The most of each model."""
    minutes: float = 30.0
    """The most of each model, all its trials together; its first trial is always finished."""
    seed: int = 0
    """Of the search."""
    pruning: bool = True
    """Stop a trial that is below the median of the others at the same share of its epochs."""
    keep: tuple[str, ...] = ()
    """Dimensions that stay as configured."""
    tries: tuple[dict[str, str], ...] = ()
    """Places to try right after the configuration, or next where trials are done already, each by
    what differs from it there, for every model that has those dimensions."""
    confirm: int = 0
    """With how many more seeds the best trials are fitted again, beyond trials and minutes."""

    @property
    def command(self) -> str:
        """The command that does it again, from the trials there were."""
        return self.study.command(
            "tune",
            f"--models {','.join(self.models)}",
            f"--trials {self.trials}",
            f"--minutes {self.minutes:g}",
            f"--seed {self.seed}",
            *([] if self.pruning else ["--pruning none"]),
            *([f"--keep {','.join(self.keep)}"] if self.keep else []),
            *(f"--try {shlex.quote(_in_one(changes))}" for changes in self.tries),
            *([f"--confirm {self.confirm}"] if self.confirm else []),
        )


def tune_models(plan: TunePlan, say: Callable[[str], None]) -> Tuned:
    """Search every model's space on validation and write the best settings with all trials.

    Every trial is kept in the study's folder when it is finished: the same command goes on after a
    kill with the trial that was running, and with more trials or minutes it goes on too. The test
    events are never looked at.

    Raises:
        ConfigError: no model or an unknown one, a setting that is not valid, or Optuna or
            matplotlib is not installed.
        DataError: a table is not as it should be, or the split leaves no validation events.
    """
    if plan.confirm < 0:
        raise ConfigError(f"--confirm: {plan.confirm} given; it is a number of seeds, 0 for none")
    if not plan.models or plan.trials < 1 or plan.minutes <= 0 or plan.study.jobs < 1:
        raise ConfigError("tune: names no model, trial, minute or job; it needs some of each")
    if len(plan.tries) >= plan.trials:
        raise ConfigError(
            f"--try: {len(plan.tries)} places and --trials {plan.trials}; the configuration is the "
            "first trial, so there must be more trials than places"
        )
    for name in plan.models:
        space_of(name, plan.keep)
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("tune: needs optuna: pip install 'dualtower[tune]'")
    check_plots()
    config = plan.study.config()
    _check_tries(plan, config)
    dataset = load_or_prepare(config, say)
    check_validation(split(dataset, config.split), "tune")
    folder = plan.study.folder / "trials" / _key(plan, config, dataset.source["files"])
    _check_trials(plan, config, folder, say)
    prepared = prepared_from(dataset)
    waiting = [_order(plan, config, name, prepared) for name in dict.fromkeys(plan.models)]
    while waiting:
        waiting = _search(plan, waiting, folder, say)
    tried = {name: tuple(read_trials(folder / name)) for name in plan.models}
    _say_what_was_not_tried(plan, config, tried, say)
    repeats = {name: tuple(read_repeats(folder / name, plan.confirm)) for name in tried}
    found = {name: best_of(trials, repeats[name]) for name, trials in tried.items()}
    tuned = Tuned(
        command=plan.command,
        data=DataSource(name=plan.study.config_path.stem, sha256=data_checksum(dataset)),
        split=config.split,
        filter=config.filter,
        protocol=protocol(config, "fitted on train, measured on validation"),
        versions=versions(),
        processor=processor(),
        metric=config.training.validation_metric,
        trials=plan.trials,
        minutes=plan.minutes,
        confirm=plan.confirm,
        seed=plan.seed,
        best={name: best for name, best in found.items() if best is not None},
        tried=tried,
        repeats={name: again for name, again in repeats.items() if again},
    )
    path = plan.study.results
    write_tuned(path, tuned)
    write_text(path.with_suffix(".md"), f"{tuned_table(tuned)}\n")
    write_text(path.with_suffix(".svg"), tuning_plot(tuned))
    return tuned


def _check_tries(plan: TunePlan, config: RunConfig) -> None:
    """Every place to try must be one of some model's space."""
    for changes in plan.tries:
        check_dimensions("--try", changes)
        places = [places_to_try(config, name, plan.keep, [changes])[0] for name in plan.models]
        if any(place is not None for place in places):
            continue
        spaces = {name: searched_space(config, name, plan.keep)[0] for name in plan.models}
        here = [
            f"{part} is {in_words(space[part])} for {name}"
            for part in changes
            for name, space in spaces.items()
            if part in space
        ]
        raise ConfigError(
            f"--try: none of the models searched has {_in_one(changes)}; "
            + ("; ".join(here) or "name a dimension of one of them that --keep does not keep")
        )


def _say_what_was_not_tried(
    plan: TunePlan,
    config: RunConfig,
    tried: Mapping[str, Sequence[Trial]],
    say: Callable[[str], None],
) -> None:
    """A place that trials or minutes left out must not be taken for one that was tried."""
    for name, trials in tried.items():
        places = places_to_try(config, name, plan.keep, plan.tries)
        for changes, place in zip(plan.tries, places, strict=True):
            if place is not None and not was_tried(place, trials):
                begun = any(trial.place == place for trial in trials)
                why = "was cut off by the clock" if begun else "was not tried"
                say(f"{name}: {_in_one(changes)} {why}; give it more --trials or --minutes")


def _check_trials(
    plan: TunePlan, config: RunConfig, folder: Path, say: Callable[[str], None]
) -> None:
    """Say how many fits are of other code; refuse trials that are not of today's space."""
    fits: list[Trial | Repeat] = []
    for name in plan.models:
        trials = read_trials(folder / name)
        space, _ = searched_space(config, name, plan.keep)
        if not all(holds(space, trial.place) for trial in trials if trial.place):
            raise ConfigError(
                f"{folder / name}: its trials are of another search space than this dualtower's; "
                "delete the folder to search anew"
            )
        fits += [*trials, *read_repeats(folder / name, plan.confirm)]
    now = code_fingerprint()
    of_other_code = [fit for fit in fits if not fit.reason and fit.code != now]
    if of_other_code:
        say(
            f"{len(of_other_code)} of the {len(fits)} fits that it goes on from were made by other "
            f"code than this; delete {folder} to search anew"
        )


def _search(
    plan: TunePlan, orders: list[TuneOrder], folder: Path, say: Callable[[str], None]
) -> list[TuneOrder]:
    """A process for each model; the orders whose process crashed, the trial at fault noted."""
    crashed: list[TuneOrder] = []
    ended: set[str] = set()
    of_model = {order.model: order for order in orders}

    def done(job: Job, crash: str | None) -> None:
        order, place = of_model[job.label], folder / job.label
        trials = read_trials(place)
        if crash is None:
            ended.add(job.label)
            say(f"{job.label}: {_in_words(trials, read_repeats(place, plan.confirm))}")
            return
        load_prepared(order.config, order.prepared)  # another dataset is no fault of the trial
        if goes_on(order, trials):
            say(f"{job.label}, trial {len(trials)}: {crash}")
            write_trial(place, crashed_trial(place, len(trials), crash))
        elif (asked := next_repeat(order, place, trials)) is not None:
            trial, added = asked
            say(f"{job.label}, trial {trial.number}, seed + {added}: {crash}")
            write_repeat(place, Repeat(trial=trial.number, added_seed=added, reason=crash))
        else:
            say(f"{job.label}: {crash}")
        trials = read_trials(place)
        if goes_on(order, trials) or next_repeat(order, place, trials) is not None:
            crashed.append(order)
        else:
            ended.add(job.label)

    most = {name: plan.trials + repeat_count(order) for name, order in of_model.items()}

    def steps_done() -> int:
        """Fits; of a model whose search has ended, all that it could have had."""
        return sum(
            most[name] if name in ended else min(most[name], fit_count(folder / name, plan.confirm))
            for name in of_model
        )

    for name in of_model:
        forget_begun(folder / name)
    jobs = [
        Job(name, f"tune-{name}", Task(tune=order, output=str((folder / name).resolve())))
        for name, order in of_model.items()
    ]
    run_jobs(
        jobs,
        plan.study.folder,
        at_once=plan.study.jobs,
        title="Tuning",
        unit="fits",
        done=done,
        steps=(sum(most.values()), steps_done),
    )
    for name in ended:
        forget_begun(folder / name)
    return crashed


def _order(plan: TunePlan, config: RunConfig, name: str, prepared: str) -> TuneOrder:
    return TuneOrder(
        config=config,
        prepared=prepared,
        model=name,
        trials=plan.trials,
        minutes=plan.minutes,
        seed=plan.seed,
        pruning=plan.pruning,
        keep=plan.keep,
        tries=plan.tries,
        confirm=plan.confirm,
    )


def _key(plan: TunePlan, config: RunConfig, files: object) -> str:
    """Of all that a trial depends on, but for its model: not how many trials, or what to try."""
    facts: dict[str, object] = {
        "files": files,
        "config": figure_settings(config),
        "seed": plan.seed,
        "pruning": plan.pruning,
        "keep": sorted(plan.keep),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _in_one(changes: Mapping[str, str]) -> str:
    return ";".join(f"{part}={value}" for part, value in changes.items())


def _in_words(trials: list[Trial], repeats: list[Repeat]) -> str:
    best: Best | None = best_of(trials, repeats)
    if best is None:
        return f"no trial of {len(trials)} was finished; the last: {trials[-1].reason}"
    before = "failed" if best.as_configured is None else f"{best.as_configured:.4f}"
    return (
        f"{best.metric:.4f} (as configured {before}) in {best.trials} trials, {best.seconds:.0f} s"
        + (f"; means of {best.seeds} seeds" if best.seeds > 1 else "")
    )
