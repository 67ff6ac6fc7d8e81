"""The search for a model's best settings on validation: trials one after another, each kept.

But for the first few, trial n is drawn by TPE from what trials 0 … n − 1 found, with a seed of n's
own. So a search that goes on after a kill draws what it would have drawn without it.

The best of many trials is partly the luckiest: fitted again it falls back. `confirm` fits the best
few with more seeds, on all validation queries, and takes the best mean.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from dualtower.config import RunConfig, Settings
from dualtower.data.dataset import Split
from dualtower.data.splits import split
from dualtower.errors import DualtowerError
from dualtower.evaluation.evaluate import validation_metric
from dualtower.evaluation.results import Value
from dualtower.fitting import validator
from dualtower.models import SOLVED
from dualtower.studies.orders import code_fingerprint
from dualtower.studies.run import check_validation, fit_model, load_prepared, without_traces
from dualtower.studies.spaces import Range, Space, place_with, settings_at, space_of, widened
from dualtower.studies.trials import (
    has_repeat,
    read_trials,
    write_begun,
    write_repeat,
    write_trial,
)
from dualtower.studies.tuned import Best, Repeat, Trial
from dualtower.studies.variants import base_of, configured, takes_seed

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 4
"""So many trials, the configuration's included, come before TPE weighs what they found."""
_CHANGED_SHARE = 1 / 3
"""The share of the dimensions that each of them changes at random: with so few trials, places where
all differ from a configuration that is good already would be worse nearly always."""
_SEED_STEP = 10_000
_SEEDS = 2**32
"""Optuna takes seeds below this."""
FINALISTS = 3
"""So many of a model's trials are fitted again to confirm them, the configuration besides."""
_PARTS = 10
"""A trial may be stopped early at each of so many even parts of its epochs …"""
_FIRST_PART = 3
"""… from this one on."""


class TuneOrder(Settings):
    """The search for one model, so that a process of its own can do it."""

    config: RunConfig
    """The run as configured; its dataset is prepared."""
    prepared: str = ""
    """What `prepared_from` gives of that dataset; "" takes any."""
    model: str
    """A model's or variant's name."""
    trials: int = Field(ge=1)
    minutes: float = Field(gt=0)
    """Of all its trials together; the first one is always finished."""
    seed: int = Field(ge=0)
    pruning: bool
    """Stop a trial that is below the median of the others at the same share of its epochs."""
    keep: tuple[str, ...] = ()
    """Dimensions that stay as configured."""
    tries: tuple[dict[str, str], ...] = ()
    """Places to try right after the configuration, or next where trials are done already, each by
    what differs from it there; a model that has no such place is spared the trial."""
    confirm: int = Field(default=0, ge=0)
    """With how many more seeds the best trials are fitted again."""


class _StoppedError(Exception):
    """A trial's training was stopped: `args[0]` is the trial's state."""


def tune_model(order: TuneOrder, folder: Path) -> None:
    """Do the trials that are not in `folder` yet, each written there when it is finished.

    Raises:
        DataError: the split leaves no validation events.
    """
    parts = split(load_prepared(order.config, order.prepared), order.config.split)
    check_validation(parts, "tune")
    search = _Search(order, parts)
    done = read_trials(folder)
    while goes_on(order, done):
        trial = search.next_trial(done, folder)
        write_trial(folder, trial)
        done.append(trial)
    while (asked := next_repeat(order, folder, done)) is not None:
        write_repeat(folder, search.repeat(*asked))


def goes_on(order: TuneOrder, done: Sequence[Trial]) -> bool:
    """Whether there is a trial left, and time for it."""
    if not done:
        return True
    spent = sum(trial.seconds for trial in done)
    return (
        bool(space_of(order.model, order.keep))
        and len(done) < order.trials
        and spent < 60 * order.minutes
    )


def finalists(trials: Sequence[Trial]) -> list[Trial]:
    """The configuration and the best of the other trials that were finished, each setting once."""
    distinct: list[Trial] = []
    for trial in _complete(trials):
        if all(trial.settings != other.settings for other in distinct):
            distinct.append(trial)
    others = [trial for trial in distinct if trial.number]
    others.sort(key=lambda trial: (-(trial.metric or 0.0), trial.number))
    return [*(trial for trial in distinct if not trial.number), *others[:FINALISTS]]


def next_repeat(
    order: TuneOrder, folder: Path, trials: Sequence[Trial]
) -> tuple[Trial, int] | None:
    """A finalist that is not fitted with one of the seeds yet, and what to add to the seed.

    None where all are, where there is nothing to choose between, and of a floor that has no seed.
    """
    chosen = finalists(trials)
    if len(chosen) < 2 or not takes_seed(order.model):
        return None
    for trial in chosen:
        for added in range(1, order.confirm + 1):
            if not has_repeat(folder, trial.number, added):
                return trial, added
    return None


def repeat_count(order: TuneOrder) -> int:
    """The most fits that confirming a model takes."""
    return order.confirm * (1 + FINALISTS) if takes_seed(order.model) else 0


def was_tried(place: Mapping[str, Any], trials: Sequence[Trial]) -> bool:
    """Whether one of the trials was at a place, and the clock did not cut it off."""
    return any(trial.place == place and trial.state != "out_of_time" for trial in trials)


def best_of(trials: Sequence[Trial], repeats: Sequence[Repeat] = ()) -> Best | None:
    """The best of the trials that were finished; None if none was.

    Args:
        trials: of a model.
        repeats: of them. Where there are any, the best is the one with the best mean over its
            repeats, of the trials that have all of them without a failure. The trial's own metric,
            for which it was chosen, does not count: it is where the luck is.
    """
    complete = _complete(trials)
    if not complete:
        return None
    metrics: dict[int, list[float | None]] = {}
    for repeat in repeats:
        metrics.setdefault(repeat.trial, []).append(repeat.metric)
    seeds = max((len(found) for found in metrics.values()), default=0)
    means: dict[int, float] = {}
    for number, found in metrics.items():
        whole = [metric for metric in found if metric is not None]
        if len(whole) == seeds:
            means[number] = sum(whole) / seeds
    if not means:  # none was fitted again, or none without a failure
        seeds, means = 1, {trial.number: trial.metric or 0.0 for trial in complete}
    best = max(
        (trial for trial in complete if trial.number in means),
        key=lambda trial: (means[trial.number], -trial.number),
    )
    return Best(
        settings=best.settings if best.number else {},
        metric=means[best.number],
        as_configured=means.get(0),
        seeds=seeds,
        trial=best.number,
        trials=len(trials),
        seconds=round(sum(trial.seconds for trial in trials), 1),
    )


class _Search:
    def __init__(self, order: TuneOrder, parts: Split) -> None:
        self._order, self._parts = order, parts
        self._solved = base_of(order.model) in SOLVED
        self._config = without_traces(order.config)
        self._space, self._start = searched_space(order.config, order.model, order.keep)
        tries = places_to_try(order.config, order.model, order.keep, order.tries)
        self._tries = [place for place in tries if place is not None]

    def next_trial(self, done: Sequence[Trial], folder: Path) -> Trial:
        """Draw a place, unless it is the first or one that was asked for, and try it."""
        asked = None
        place = self._start
        if done:
            asked = self._ask(done)
            place = dict(asked.params)
            if (wanted := self._not_tried(done)) is not None:
                place = wanted
            elif len(done) < STARTUP_TRIALS:
                place = self._near_start(place, len(done))
        settings = settings_at(self._space, place)
        common: dict[str, Any] = {"number": len(done), "place": place, "settings": settings}
        for trial in done:
            if trial.settings == settings and trial.state != "out_of_time":
                return trial.model_copy(update={**common, "seconds": 0.0})
        write_begun(folder, len(done), place, settings)
        left = 60 * self._order.minutes - sum(trial.seconds for trial in done)
        start, curve = time.monotonic(), list[float]()
        metric, state, reason = None, "complete", ""
        try:
            metric = self._measure(settings, curve, asked, start + left)
        except _StoppedError as stopped:
            state, metric = stopped.args[0], curve[-1]
        except DualtowerError as error:
            state, reason = "failed", str(error)
        seconds = round(time.monotonic() - start, 3)
        return Trial.model_validate(
            {
                **common,
                "state": state,
                "metric": metric,
                "curve": tuple(curve),
                "seconds": seconds,
                "reason": reason,
                "code": code_fingerprint(),
            }
        )

    def repeat(self, trial: Trial, added_seed: int) -> Repeat:
        """Fit a trial's settings again, with another seed and all its epochs.

        What counts is measured once, at the end, on all validation queries.
        """
        start, metric, reason = time.monotonic(), None, ""
        try:
            metric = self._measure_again(trial.settings, added_seed)
        except DualtowerError as error:
            reason = str(error)
        return Repeat(
            trial=trial.number,
            added_seed=added_seed,
            metric=metric,
            seconds=round(time.monotonic() - start, 3),
            reason=reason,
            code=code_fingerprint(),
        )

    def _not_tried(self, done: Sequence[Trial]) -> dict[str, Any] | None:
        """The first place asked for that was not tried."""
        return next((place for place in self._tries if not was_tried(place, done)), None)

    def _near_start(self, place: dict[str, Any], number: int) -> dict[str, Any]:
        random = np.random.default_rng((self._order.seed, number))
        size = math.ceil(_CHANGED_SHARE * len(place))
        changed = set(random.permutation(list(place))[:size].tolist())
        return {part: place[part] if part in changed else self._start[part] for part in place}

    def _measure(
        self,
        settings: dict[str, Value],
        curve: list[float],
        asked: "optuna.Trial | None",
        deadline: float,
    ) -> float:
        order, parts = self._order, self._parts
        name = base_of(order.model)
        if self._solved:
            model = fit_model(name, self._config, parts, "train", settings=settings)
            watched = validator(parts.validation, self._config.training, self._config.evaluation)
            return watched(model)
        config = configured(self._config, order.model, settings, seed=self._config.training.seed)
        # The final fit, which has no validation, cannot stop early either.
        patient = config.training.model_copy(update={"patience": config.training.epochs})
        config = config.model_copy(update={"training": patient})

        def after_epoch(metric: float) -> None:
            curve.append(metric)
            if asked is None or len(curve) == config.training.epochs:
                return
            if order.pruning and _falls_behind(asked, curve, config.training.epochs):
                raise _StoppedError("pruned")
            if time.monotonic() > deadline:
                raise _StoppedError("out_of_time")

        fit_model(name, config, parts, "train", after_epoch=after_epoch)
        return curve[-1]

    def _measure_again(self, settings: dict[str, Value], added_seed: int) -> float:
        name, validation = base_of(self._order.model), self._parts.validation
        nothing = replace(validation, start=validation.end)
        unwatched = replace(self._parts, validation=nothing)
        config = self._config
        if self._solved:  # the space has no seed: the trials had the model's own
            settings = {**settings, "seed": added_seed}
            model = fit_model(name, config, unwatched, "train", settings=settings)
        else:
            seed = config.training.seed + added_seed
            config = configured(config, self._order.model, settings, seed=seed)
            model = fit_model(name, config, unwatched, "train")
        metric, evaluation = config.training.validation_metric, config.evaluation
        return validation_metric(model, validation, metric, config=evaluation)

    def _ask(self, done: Sequence[Trial]) -> "optuna.Trial":
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        states = optuna.trial.TrialState
        distributions = _distributions(self._space)
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(
                seed=(self._order.seed * _SEED_STEP + len(done)) % _SEEDS,
                n_startup_trials=STARTUP_TRIALS,
            ),
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=STARTUP_TRIALS, n_warmup_steps=_FIRST_PART
            ),
        )
        for trial in done:
            if trial.metric is None:
                continue
            complete = trial.state == "complete"
            epochs = int(trial.settings.get("training.epochs") or len(trial.curve))  # type: ignore[arg-type]
            study.add_trial(
                optuna.trial.create_trial(
                    state=states.COMPLETE if complete else states.PRUNED,
                    value=trial.metric,
                    params=trial.place,
                    distributions=distributions,
                    intermediate_values=_by_part(trial.curve, epochs),
                )
            )
        return study.ask(distributions)


def searched_space(
    config: RunConfig, name: str, keep: Iterable[str]
) -> tuple[Space, dict[str, Any]]:
    """The space of a model or variant with the configured values in it, and where they are.

    Args:
        config: the run as configured.
        name: of the model or variant.
        keep: names of dimensions that stay as configured.
    """
    return widened(space_of(name, keep), current_settings(config, name))


def places_to_try(
    config: RunConfig, name: str, keep: Iterable[str], tries: Sequence[Mapping[str, str]]
) -> list[dict[str, Any] | None]:
    """Each place that was asked for, as one of a model's space; None where it has no such place.

    Args:
        config: the run as configured.
        name: of the model or variant.
        keep: names of dimensions that stay as configured.
        tries: what differs from the configuration at each place.
    """
    space, start = searched_space(config, name, keep)
    return [place_with(space, start, changes) for changes in tries]


def current_settings(config: RunConfig, name: str) -> dict[str, Any]:
    """Every setting of a model or variant as configured, by the name it has in a space."""
    base = base_of(name)
    if base in SOLVED:
        return SOLVED[base]().config.model_dump()
    run = configured(config, name, {}, seed=config.training.seed)
    return {
        f"{part}.{field}": value
        for part in ("model", "training")
        for field, value in getattr(run, part).model_dump().items()
    }


def _distributions(space: Space) -> "dict[str, optuna.distributions.BaseDistribution]":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        part: FloatDistribution(dimension.low, dimension.high, log=dimension.log)
        if isinstance(dimension, Range)
        else CategoricalDistribution(list(dimension.options))
        for part, dimension in space.items()
    }


def _by_part(curve: Sequence[float], epochs: int) -> dict[int, float]:
    """The metric at each tenth of a trial's epochs, so that long and short ones are comparable.

    Compared by epochs, a long run would look worse than it is: its rate falls later.
    """
    parts: dict[int, float] = {}
    for epoch, metric in enumerate(curve, start=1):
        parts.setdefault(_PARTS * epoch // max(epochs, len(curve)), metric)
    return parts


def _falls_behind(asked: "optuna.Trial", curve: Sequence[float], epochs: int) -> bool:
    part = _PARTS * len(curve) // epochs
    if part == _PARTS * (len(curve) - 1) // epochs:
        return False
    asked.report(curve[-1], part)
    return asked.should_prune()


def _complete(trials: Sequence[Trial]) -> list[Trial]:
    """Those that were finished, with a metric."""
    return [trial for trial in trials if trial.state == "complete" and trial.metric is not None]
