"""One fit of the live study: what it is fitted on, what is measured, and what it leaves."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from dualtower.config import Settings
from dualtower.data.dataset import Dataset, Split
from dualtower.errors import DataError, DualtowerError
from dualtower.evaluation.cuts import Cuts, every_event, rank_cuts, unseen
from dualtower.evaluation.metrics import per_target_metrics
from dualtower.evaluation.results import Refusal, Run
from dualtower.files import replacing_file, write_json
from dualtower.models.base import Model, VectorModel
from dualtower.retrieval.bundle import Bundle
from dualtower.serving.event import Event, Id
from dualtower.serving.live import LiveState
from dualtower.studies.held_out import (
    Rows,
    bounds_of,
    held_out_queries,
    next_events,
    period_of,
    without,
)
from dualtower.studies.orders import Order, code_fingerprint, fit_order
from dualtower.studies.run import load_prepared
from dualtower.studies.variants import base_of

CUTOFFS = (10, 50)
LIVE, FROZEN_VECTORS, FROZEN = "live", "frozen vectors", "frozen"
TRAINED, UNKNOWN = "trained with them", "unknown row"
LIVE_STATE_DIFFERENCE = "live_state_difference"
_CHECKED_QUERIES = 50
Measured = dict[str, tuple[Cuts, npt.NDArray[np.float64]]]
"""By variation: targets, and the rank of each."""


class LiveOrder(Settings):
    """One fit and all that is measured with it."""

    run: Order
    """The model and its settings; fitted on all before the period."""
    part: Literal["period", "held_out", "trained"]
    """What is measured: the period's events; queries held out of training; the same queries with
    their first events in training."""
    period_share: float | None = Field(default=None, gt=0, lt=1)
    """The last share of each query's events is the period; the split's test when None."""
    held_share: float = Field(gt=0, lt=1)
    """Share of the queries that are held out."""
    counts: tuple[int, ...] = Field(min_length=1)
    """After how many events held-out queries are measured."""
    trained_at: int = Field(ge=1)
    """How many events of the held-out queries the part "trained" trains with."""

    @property
    def label(self) -> str:
        """What the fit is called in notes."""
        return f"{self.run.model}, {self.part.replace('_', ' ')}, seed {self.run.seed}"

    def key(self, files: Any) -> str:
        """Of all that the figures depend on, except the code and the number of threads.

        Raises:
            ConfigError: there is no such model or setting.
        """
        facts = self.model_dump(mode="json", exclude={"run"})
        facts["run"] = [base_of(self.run.model), self.run.key(files)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


class LiveOutcome(Settings):
    """What a fit left: rows of the table, or why there are none."""

    runs: tuple[Run, ...] = ()
    refusal: Refusal | None = None
    code: str
    """Which code it was (`code_fingerprint`)."""


def execute_live(order: LiveOrder, output: Path) -> None:
    """Do one fit: its `LiveOutcome` goes to `output`, the values per query beside it (`.npz`)."""
    try:
        runs, values = _measured(order)
    except DualtowerError as error:
        refused = Refusal(model=order.run.model, seed=order.run.seed, reason=str(error))
        outcome = LiveOutcome(refusal=refused, code=code_fingerprint())
    else:
        with replacing_file(output.with_suffix(".npz")) as beside, open(beside, "wb") as file:
            np.savez(file, **values)  # type: ignore[arg-type]
        outcome = LiveOutcome(runs=runs, code=code_fingerprint())
    write_json(output, outcome.model_dump(mode="json"))


def _measured(order: LiveOrder) -> tuple[tuple[Run, ...], dict[str, npt.NDArray[Any]]]:
    run = order.run
    config = run.run_config()
    dataset = load_prepared(config, run.prepared)
    whole = period_of(dataset, config.split, order.period_share)
    held = held_out_queries(dataset, order.held_share, max(order.counts), run.seed)
    kept = order.trained_at if order.part == "trained" else 0
    parts = whole if order.part == "period" else without(whole, held, kept)
    fitted = fit_order(run, config, parts)
    model = fitted.model
    same_time = config.evaluation.same_time_history
    more: dict[str, float] = {}
    if order.part == "period":
        measured = _replayed(model, parts, same_time)
        if isinstance(model, VectorModel):
            more[LIVE_STATE_DIFFERENCE] = live_state_difference(model, parts, run.seed)
    else:
        # The same corpus whether or not training had the first events.
        others = without(whole, held).train_and_validation
        corpus = np.flatnonzero(others.item_counts())
        measured = _after_events(model, dataset, held, corpus, order, same_time)
    runs: list[Run] = []
    values: dict[str, npt.NDArray[Any]] = {}
    for variation, (cuts, ranks) in measured.items():
        queries, per_query = _per_query(cuts, ranks)
        values[f"{variation}/queries"] = queries
        values |= {f"{variation}/{metric}": found for metric, found in per_query.items()}
        metrics = {metric: float(found.mean()) for metric, found in per_query.items()}
        metrics |= {"targets": float(len(cuts)), "queries": float(len(queries))}
        runs.append(
            Run(
                model=run.model,
                variation=variation,
                seed=run.seed,
                metrics={**metrics, **(more if variation == LIVE else {})},
                seconds=fitted.seconds,
                peak_memory_mb=fitted.peak_memory_mb,
                settings=fitted.settings,
            )
        )
    return tuple(runs), values


def _replayed(model: Model, parts: Split, same_time: bool) -> Measured:
    """Every new item of the period, with what the query did until then and with what is frozen."""
    dataset, test = parts.train.dataset, parts.test
    cuts = every_event(dataset, test.start, test.end, same_time_history=same_time)
    cuts = cuts.take(unseen(dataset, cuts))
    start = test.start[cuts.queries]
    frozen = np.minimum(start, cuts.known)
    views = {
        LIVE: cuts,
        FROZEN_VECTORS: cuts.knowing(frozen),
        FROZEN: cuts.knowing(frozen, start),
    }
    return {
        variation: (cuts, rank_cuts(model, dataset, view, test.corpus))
        for variation, view in views.items()
    }


def _after_events(
    model: Model, dataset: Dataset, held: Rows, corpus: Rows, order: LiveOrder, same_time: bool
) -> Measured:
    """The next new item of queries held out, after their first events."""
    trained = order.part == "trained"
    found: Measured = {}
    for count in (order.trained_at,) if trained else order.counts:
        cuts = next_events(dataset, held, count, same_time_history=same_time)
        if len(cuts) == 0:
            raise DataError(f"live: no held-out query has a new item after {count} events")
        ranks = rank_cuts(model, dataset, cuts, corpus)
        found[after(count, TRAINED if trained else "")] = cuts, ranks
        if model.name == "dat" and not trained and count > 0:
            nothing = cuts.knowing(np.asarray(dataset.offsets)[cuts.queries])
            found[after(count, UNKNOWN)] = cuts, rank_cuts(model, dataset, nothing, corpus)
    return found


def after(count: int, how: str = "") -> str:
    """What a held-out row is called; `how` is `TRAINED`, `UNKNOWN` or nothing."""
    return f"{how}, after {count}" if how else f"after {count}"


def live_state_difference(model: VectorModel, parts: Split, seed: int) -> float:
    """The largest difference in any number of a vector between the batched way and serving's.

    A sample of queries goes through `LiveState`, event by event, and each vector before an event is
    compared with that of the history cut there.
    """
    dataset = parts.train.dataset
    rows = parts.test.queries()
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(rows, min(_CHECKED_QUERIES, len(rows)), replace=False))
    bundle = Bundle.build(model, parts.train_and_validation, progress=False)
    start, end = parts.test.start[rows], parts.test.end[rows]
    cuts = every_event(dataset, *bounds_of(dataset, rows, start, end), same_time_history=True)
    context = bundle.encoder.batch_of_rows(cuts.queries).context
    batched = model.encode_queries(replace(cuts.batch(dataset), context=context))
    live = LiveState(bundle)
    largest = 0.0
    queries = _ids(dataset.query_vocabulary.decode(cuts.queries))
    items = _ids(dataset.item_vocabulary.decode(dataset.items[cuts.targets]))
    for number, (query, item) in enumerate(zip(queries, items, strict=True)):
        found = live.vector_of(query)
        largest = max(largest, float(np.abs(found - batched[number]).max()))
        live.apply([Event(f"e{number}", query, item, number)])
    return largest


def _ids(values: pl.Series) -> list[Id]:
    """Ids as events carry them."""
    found: list[Id] = (values if values.dtype.is_integer() else values.cast(pl.String)).to_list()
    return found


def _per_query(
    cuts: Cuts, ranks: npt.NDArray[np.float64]
) -> tuple[Rows, dict[str, npt.NDArray[np.float64]]]:
    """Each query's mean over its targets."""
    queries, place = np.unique(cuts.queries, return_inverse=True)
    sizes = np.bincount(place)
    return queries, {
        metric: np.bincount(place, weights=found) / sizes
        for metric, found in per_target_metrics(ranks, CUTOFFS).items()
    }
