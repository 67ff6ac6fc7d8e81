"""The live study: what it is worth that vectors follow each event at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.plots import check_plots
from dualtower.evaluation.results import PairedTest, Refusal, Results, Run, write_results
from dualtower.evaluation.tables import by_label, mean_and_deviation, refusals_list, results_table
from dualtower.files import write_text
from dualtower.studies.live_order import (
    CUTOFFS,
    FROZEN,
    FROZEN_VECTORS,
    LIVE,
    LIVE_STATE_DIFFERENCE,
    TRAINED,
    LiveOrder,
    LiveOutcome,
    after,
)
from dualtower.studies.orders import Order, read_values
from dualtower.studies.plots import curves_plot, models_plot
from dualtower.studies.run import load_or_prepare, prepared_from
from dualtower.studies.study import Study, listed, make_results, paired_test, say_of_finished
from dualtower.studies.tuned import Tuned
from dualtower.studies.worker import Task
from dualtower.studies.workers import Job, run_jobs

MAIN = "dat"
PERIOD_MODELS = ("dat", "two_tower")
HELD_OUT_MODELS = ("dat", "two_tower", "item_knn", "wals")
QUESTIONS = ("period", "held_out")
BAR = 0.95
"""Live vectors should reach this share of the hit rate that training with the events gives."""
_METRICS = (*(f"hit_rate@{cutoff}" for cutoff in CUTOFFS), "mrr")
Values = dict[str, npt.NDArray[Any]]
"""`queries` (rows) and every metric's value for each, `[queries]`."""


@dataclass(frozen=True)
class LivePlan:
    """What the study replays."""

    study: Study
    period_share: float | None = None
    """The last share of each query's events is the period; the split's test when None."""
    held_share: float = 0.1
    """Share of the queries held out of training."""
    counts: tuple[int, ...] = (0, 1, 2, 3, 5, 10)
    """After how many events held-out queries are measured."""
    trained_at: int = 5
    """After how many they are compared with queries trained with those events."""
    questions: tuple[str, ...] = QUESTIONS
    """Which are asked: `period`, `held_out`."""

    def __post_init__(self) -> None:
        shares = [self.held_share, *([] if self.period_share is None else [self.period_share])]
        if not all(0 < share < 1 for share in shares):
            raise ConfigError("live: shares of period and held-out queries are between 0 and 1")
        if self.trained_at < 1:
            raise ConfigError(
                f"--trained-at: {self.trained_at} given; queries are trained with 1 event or more"
            )
        if not self.counts or min(self.counts) < 0 or self.trained_at not in self.counts:
            raise ConfigError(
                f"live: measured after {', '.join(map(str, self.counts)) or 'no'} events; name "
                f"whole numbers from 0, {self.trained_at} (trained-at) among them"
            )
        if not self.questions or not set(self.questions) <= set(QUESTIONS):
            raise ConfigError(
                f"live: questions {', '.join(self.questions) or 'none'} given; name some of "
                f"{', '.join(QUESTIONS)}"
            )

    def command(self) -> str:
        """The command that does the study again."""
        share = self.period_share
        return self.study.command(
            "study live",
            f"--seeds {listed(self.study.seeds)}",
            *([] if share is None else [f"--period-share {share:g}"]),
            f"--held-share {self.held_share:g}",
            f"--counts {listed(self.counts)}",
            f"--trained-at {self.trained_at}",
            *(
                []
                if set(self.questions) == set(QUESTIONS)
                else [f"--questions {','.join(self.questions)}"]
            ),
        )


def live(plan: LivePlan, say: Callable[[str], None]) -> Results:
    """Replay a period and queries held out, and write JSON, Markdown and a plot.

    A finished fit stays in the study's folder, so that the same command goes on after a kill.

    Raises:
        ConfigError: settings are not valid, or matplotlib is not installed.
        DataError: a table is not as it should be, or nothing could run.
    """
    check_plots()
    study = plan.study
    config = study.config()
    dataset = load_or_prepare(config, say)
    orders = _orders(plan, study.read_tuned(config, dataset), prepared_from(dataset))
    finished = study.folder / "finished"
    files = {
        order.label: finished / f"live-{order.key(dataset.source['files'])}.json"
        for order in orders
    }
    jobs = [
        Job(order.label, files[order.label].stem, _task(order, files[order.label]))
        for order in orders
        if not _is_done(files[order.label])
    ]
    say_of_finished(list(files.values()), say)
    crashed: dict[str, str] = {}

    def done(job: Job, crash: str | None) -> None:
        if crash is not None:
            crashed[job.label] = crash
        say(f"{job.label}: {crash or _in_words(_read(files[job.label]))}")

    run_jobs(jobs, study.folder, at_once=study.jobs, title="Fits", unit="fits", done=done)
    runs: list[Run] = []
    refusals: list[Refusal] = []
    values: dict[str, dict[int, Values]] = {}
    for order in orders:
        name, seed = order.run.model, order.run.seed
        if order.label in crashed:
            refusals.append(Refusal(model=name, seed=seed, reason=crashed[order.label]))
            continue
        outcome = _read(files[order.label])
        if outcome.refusal is not None:
            refusals.append(outcome.refusal)
        left = read_values(files[order.label]) if outcome.runs else {}
        for run in outcome.runs:
            run = run.model_copy(update={"model": name})
            runs.append(run)
            start = f"{run.variation}/"
            found = {key.removeprefix(start): left[key] for key in left if key.startswith(start)}
            values.setdefault(run.label, {})[seed] = found
    if not runs:
        reasons = "\n".join(f"  {refusal.model}: {refusal.reason}" for refusal in refusals)
        raise DataError(f"live: nothing could run:\n{reasons}")
    results = make_results(
        plan.command(), study.results.stem, config, dataset, _protocol(plan), runs
    )
    update: dict[str, Any] = {"refusals": tuple(refusals), "tests": _tests(values, plan)}
    if plan.period_share is not None:  # the configured split, which comes first, is not used
        update["protocol"] = results.protocol.partition("; ")[2]
    results = results.model_copy(update=update)
    write_results(study.results, results)
    write_text(study.results.with_suffix(".md"), markdown(results, plan))
    write_text(study.results.with_suffix(".svg"), _plot(results, plan))
    return results


def share_reached(results: Results, plan: LivePlan, metric: str) -> float | None:
    """What live vectors reach of the value with the events in training; None where not measured."""
    rows = by_label(results)
    live_row = rows.get(f"{MAIN}, {after(plan.trained_at)}")
    trained = rows.get(f"{MAIN}, {after(plan.trained_at, TRAINED)}")
    if not live_row or not trained:
        return None
    first, second = (
        mean_and_deviation([run.metrics[metric] for run in part])[0] for part in (live_row, trained)
    )
    return first / second if second else None


def markdown(results: Results, plan: LivePlan) -> str:
    """The study's tables and its bar as one Markdown text."""
    parts = [
        f"`{results.command}`",
        results.protocol[0].upper() + results.protocol[1:] + ".",
        results_table(results, _METRICS),
    ]
    reached = {metric: share_reached(results, plan, metric) for metric in _METRICS}
    shown = ", ".join(f"{name} {share:.1%}" for name, share in reached.items() if share is not None)
    if shown:
        parts.append(
            f"Held-out queries after {plan.trained_at} events reach of the same queries trained "
            f"with those events: {shown} (the bar is {BAR:.0%} of the hit rate)."
        )
    if results.tests:
        lines = [
            f"- {test.model} against {test.other}, {test.metric}: {test.difference:+.4f} "
            f"({test.low:+.4f} … {test.high:+.4f}), p = {test.p_value:.4f}"
            for test in results.tests
        ]
        parts.append("\n".join(lines))
    differences = [
        run.metrics[LIVE_STATE_DIFFERENCE]
        for run in results.runs
        if LIVE_STATE_DIFFERENCE in run.metrics
    ]
    if differences:
        parts.append(
            "Largest difference of any number of a vector between this replay and serving's own "
            f"state, on a sample of queries: {max(differences):.1e}."
        )
    if results.refusals:
        parts += ["Could not run:", refusals_list(results)]
    return "\n\n".join(parts) + "\n"


def _orders(plan: LivePlan, tuned: Tuned | None, prepared: str) -> list[LiveOrder]:
    parts = []
    if "period" in plan.questions:
        parts += [("period", name) for name in PERIOD_MODELS]
    if "held_out" in plan.questions:
        parts += [*(("held_out", name) for name in HELD_OUT_MODELS), ("trained", MAIN)]
    return [
        LiveOrder(
            run=Order(
                config=plan.study.config(),
                prepared=prepared,
                model=name,
                settings=tuned.settings_of(name) if tuned is not None else None,
                seed=seed,
                final=True,
            ),
            part=part,  # type: ignore[arg-type]
            period_share=plan.period_share,
            held_share=plan.held_share,
            counts=plan.counts,
            trained_at=plan.trained_at,
        )
        for part, name in parts
        for seed in dict.fromkeys(plan.study.seeds)
    ]


def _tests(values: Mapping[str, Mapping[int, Values]], plan: LivePlan) -> tuple[PairedTest, ...]:
    pairs = [
        (f"{MAIN}, {LIVE}", f"{MAIN}, {FROZEN_VECTORS}"),
        (f"{MAIN}, {LIVE}", f"{MAIN}, {FROZEN}"),
        (f"{MAIN}, {after(plan.trained_at)}", f"{MAIN}, {after(plan.trained_at, TRAINED)}"),
        *(
            (f"{MAIN}, {after(plan.trained_at)}", f"{name}, {after(plan.trained_at)}")
            for name in HELD_OUT_MODELS
            if name != MAIN
        ),
    ]
    tests = []
    for model, other in pairs:
        of_model, of_other = values.get(model, {}), values.get(other, {})
        seeds = [seed for seed in of_model if seed in of_other]
        if not seeds:
            continue
        for metric in _METRICS:
            ours, theirs = (
                _over_seeds([part[seed] for seed in seeds], metric) for part in (of_model, of_other)
            )
            tests.append(paired_test(model, other, metric, ours, theirs))
    return tuple(tests)


def _over_seeds(parts: Sequence[Values], metric: str) -> npt.NDArray[np.float64]:
    """The mean of each query's values over the seeds that measured it.

    A seed holds out queries anew, and replays the same ones: a query measured twice is one query.
    """
    queries, values = (
        np.concatenate([part[name] for part in parts]) for name in ("queries", metric)
    )
    _, place = np.unique(queries, return_inverse=True)
    mean: npt.NDArray[np.float64] = np.bincount(place, weights=values) / np.bincount(place)
    return mean


def _plot(results: Results, plan: LivePlan) -> str:
    if "held_out" not in plan.questions:
        return models_plot(results, _METRICS[-2:], f"{MAIN}, {LIVE}")
    rows = by_label(results)
    curves: dict[str, dict[int, list[Run]]] = {}
    for name in HELD_OUT_MODELS:
        points = {count: rows.get(f"{name}, {after(count)}", []) for count in plan.counts}
        if all(points.values()):
            curves[name] = points
    level = rows.get(f"{MAIN}, {after(plan.trained_at, TRAINED)}", [])
    return curves_plot(
        curves,
        level,
        f"{MAIN} trained with {plan.trained_at} events",
        _METRICS[-2:],
        "events of a query held out of training",
        logarithmic=False,
    )


def _protocol(plan: LivePlan) -> str:
    share = plan.period_share
    period = "the test" if share is None else f"the last {share:.0%} of each query's events"
    asked = {
        "period": f"replayed: {period}, every new item of it a target by itself, ranked with what "
        "the query did before; means over queries of each query's mean",
        "held_out": f"held out: queries with more than {max(plan.counts)} events of a random "
        f"{plan.held_share:.0%}, nothing of which is in training; target: their next new item",
    }
    chosen = [asked[question] for question in QUESTIONS if question in plan.questions]
    end = f"fitted on all before {period}; targets outside the corpus are misses"
    first, *others = [*chosen, end]
    return ". ".join([first, *(text[0].upper() + text[1:] for text in others)])


def _task(order: LiveOrder, file: Path) -> Task:
    return Task(live=order, output=str(file.resolve()))


def _read(file: Path) -> LiveOutcome:
    return LiveOutcome.model_validate_json(file.read_bytes())


def _is_done(file: Path) -> bool:
    """Whether a fit is finished; one that was refused is tried again."""
    return file.is_file() and bool(_read(file).runs)


def _in_words(outcome: LiveOutcome) -> str:
    if outcome.refusal is not None:
        return f"cannot run: {outcome.refusal.reason}"
    return ", ".join(f"{run.variation} mrr {run.metrics['mrr']:.4f}" for run in outcome.runs)
