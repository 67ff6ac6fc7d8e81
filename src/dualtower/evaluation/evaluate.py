"""`evaluate`: the metrics of a model on a log, overall, per category and per segment."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.config import EvaluationConfig
from dualtower.data.dataset import Log
from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.metrics import (
    coverage,
    parse_metric,
    per_query_metrics,
    per_target_metrics,
)
from dualtower.evaluation.ranking import Ranking, rank_targets
from dualtower.models.base import Model

UNKNOWN_CATEGORY = "(unknown)"


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found; printing it shows a table."""

    model: str
    """The model's name."""
    corpus_size: int
    """How many items competed."""
    exclude_seen: bool
    """Whether the items of a query's history were left out of its ranking."""
    cutoffs: tuple[int, ...]
    """The k of the metrics."""
    ranking: Ranking
    """The rank of every target, each query's top items, and what was dropped."""
    per_query: dict[str, npt.NDArray[np.float64]]
    """`hit_rate@k`, `recall@k`, `ndcg@k` and `mrr` of every query, `[queries]`."""
    metrics: dict[str, float]
    """Means over queries, and `coverage@k`."""
    by_category: pl.DataFrame
    """Per category of the target: targets, train_events, `hit_rate@k` and `mrr`, the category with
    most training events first; no rows without categories."""
    segments: pl.DataFrame
    """Minor categories together, cold and warm items (means over targets), cold and warm queries
    (means over queries): segment, count, `hit_rate@k` and `mrr`; null where there is none."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values for JSON, without the per-query arrays."""
        return {
            "model": self.model,
            "queries": len(self.ranking.queries),
            "targets": len(self.ranking.ranks),
            "corpus_size": self.corpus_size,
            "exclude_seen": self.exclude_seen,
            "outside_corpus": self.ranking.outside_corpus,
            "seen_targets": self.ranking.seen_targets,
            "dropped_queries": self.ranking.dropped_queries,
            "metrics": self.metrics,
            "by_category": self.by_category.to_dicts(),
            "segments": self.segments.to_dicts(),
        }

    def __str__(self) -> str:
        seen = "seen items left out" if self.exclude_seen else "seen items kept"
        lines = [
            f"{self.model}: {len(self.ranking.queries):,} queries, {len(self.ranking.ranks):,} "
            f"targets, full ranking of {self.corpus_size:,} items ({seen})"
        ]
        if self.ranking.outside_corpus:
            lines.append(f"  {self.ranking.outside_corpus:,} targets outside the corpus are misses")
        if self.ranking.seen_targets:
            lines.append(
                f"  {self.ranking.seen_targets:,} targets already in the history were dropped, "
                f"and with them {self.ranking.dropped_queries:,} queries"
            )
        header = "".join(f"{f'@{cutoff}':>9}" for cutoff in self.cutoffs)
        lines.append(f"\n{'':<26}{header}")
        for metric in ("hit_rate", "recall", "ndcg", "coverage"):
            values = [self.metrics[f"{metric}@{cutoff}"] for cutoff in self.cutoffs]
            lines.append(f"{metric:<26}" + "".join(f"{value:>9.4f}" for value in values))
        lines.append(f"{'mrr':<26}{self.metrics['mrr']:>9.4f}")
        lines += _group_lines(self.segments.rename({"segment": "group"}), self.cutoffs)
        categories = self.by_category.rename({"category": "group", "targets": "count"})
        lines += _group_lines(categories, self.cutoffs)
        return "\n".join(lines)


def evaluate(
    model: Model,
    log: Log,
    *,
    config: EvaluationConfig | None = None,
    queries: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Rank every target of `log` among its whole corpus, and sum up.

    Args:
        model: fitted on the same dataset.
        log: usually `split.validation` or `split.test`; what stands before it is history.
        config: cutoffs, whether seen items are left out and what counts as history; defaults apply
            without it.
        queries: evaluate only so many queries, a random choice that depends on `seed` alone.
        seed: of that choice.
        progress: show a progress bar.

    Raises:
        ConfigError: `queries` is below 1.
        NotFittedError: the model was not trained.
        DataError: the log has no target that could be recommended, its corpus is empty, or the
            model's scores hold NaN.
    """
    config = config or EvaluationConfig()
    cutoffs = tuple(sorted(set(config.cutoffs)))
    rows = _choose(log.queries(), queries, seed)
    ranking = rank_targets(
        model,
        log,
        rows,
        exclude_seen=config.exclude_seen,
        same_time_history=config.same_time_history,
        top=min(max(cutoffs), len(log.corpus)),
        progress=progress,
    )
    _check_not_empty(ranking, log)
    per_query = per_query_metrics(ranking, cutoffs)
    metrics = {name: float(values.mean()) for name, values in per_query.items()}
    for cutoff in cutoffs:
        metrics[f"coverage@{cutoff}"] = coverage(ranking.top, cutoff, len(log.corpus))
    groups = _Groups(log, ranking, per_query, cutoffs)
    return Evaluation(
        model=model.name,
        corpus_size=len(log.corpus),
        exclude_seen=config.exclude_seen,
        cutoffs=cutoffs,
        ranking=ranking,
        per_query=per_query,
        metrics=metrics,
        by_category=groups.by_category(),
        segments=groups.segments(config.cold_events),
    )


def validation_metric(
    model: Model,
    log: Log,
    metric: str,
    *,
    config: EvaluationConfig | None = None,
    queries: int | None = None,
    seed: int = 0,
) -> float:
    """One metric alone, as `evaluate` has it, for use after every epoch.

    It takes about half of `evaluate`'s time, since the lists behind coverage are not made.

    Args:
        model: as it is now.
        log: usually `split.validation`.
        metric: mrr, hit_rate@k, recall@k or ndcg@k, with any k from 1.
        config: whether seen items are left out and what counts as history; its cutoffs do not
            matter.
        queries: as in `evaluate`.
        seed: as in `evaluate`.

    Raises:
        ConfigError: there is no such metric, or `queries` is below 1.
        DataError: as in `evaluate`.
    """
    config = config or EvaluationConfig()
    cutoff = parse_metric(metric)
    ranking = rank_targets(
        model,
        log,
        _choose(log.queries(), queries, seed),
        exclude_seen=config.exclude_seen,
        same_time_history=config.same_time_history,
        progress=False,
    )
    _check_not_empty(ranking, log)
    return float(per_query_metrics(ranking, (cutoff or 1,))[metric].mean())


def events_before(log: Log) -> Log:
    """What stands before the log's targets, as a view: the training events of a test view."""
    return Log(log.dataset, log.dataset.offsets[:-1], log.start, log.corpus)


class _Groups:
    """Means over parts of the targets or queries."""

    def __init__(
        self,
        log: Log,
        ranking: Ranking,
        per_query: dict[str, npt.NDArray[np.float64]],
        cutoffs: tuple[int, ...],
    ) -> None:
        self._dataset = log.dataset
        self._ranking = ranking
        self._per_target = per_target_metrics(ranking.ranks, cutoffs)
        self._per_query = {name: per_query[name] for name in self._per_target}
        self._item_events = events_before(log).item_counts()
        self._query_events = (log.start - log.dataset.offsets[:-1])[ranking.queries]
        self._category = log.dataset.item_categories[ranking.items]
        self._category_events = np.bincount(
            log.dataset.item_categories,
            weights=self._item_events,
            minlength=len(log.dataset.category_vocabulary),
        ).astype(np.int64)

    def by_category(self) -> pl.DataFrame:
        """One row per category that has a target."""
        rows = np.unique(self._category)
        if len(self._category_events) == 1:
            rows = rows[:0]
        rows = rows[np.argsort(-self._category_events[rows], kind="stable")]
        names = self._dataset.category_vocabulary.decode(rows).cast(pl.String)
        sizes = np.bincount(self._category, minlength=len(self._category_events))
        columns: dict[str, Any] = {
            "category": names.fill_null(UNKNOWN_CATEGORY),
            "targets": sizes[rows],
            "train_events": self._category_events[rows],
        }
        for name, values in self._per_target.items():
            sums = np.bincount(self._category, weights=values, minlength=len(sizes))
            columns[name] = sums[rows] / sizes[rows]
        return pl.DataFrame(columns)

    def segments(self, cold_events: int) -> pl.DataFrame:
        """Minor categories, cold and warm items and queries."""
        parts = []
        if len(self._category_events) > 1:
            major = 1 + np.argmax(self._category_events[1:])
            minor = (self._category != major) & (self._category != 0)
            parts.append(("minor categories", self._per_target, minor))
        cold_item = self._item_events[self._ranking.items] < cold_events
        cold_query = self._query_events < cold_events
        parts += [
            ("cold items", self._per_target, cold_item),
            ("warm items", self._per_target, ~cold_item),
            ("cold queries", self._per_query, cold_query),
            ("warm queries", self._per_query, ~cold_query),
        ]
        rows = []
        for segment, values, chosen in parts:
            count = int(chosen.sum())
            means = {
                name: float(value[chosen].mean()) if count else None
                for name, value in values.items()
            }
            rows.append({"segment": segment, "count": count, **means})
        floats = dict.fromkeys(self._per_target, pl.Float64)
        return pl.DataFrame(rows, schema={"segment": pl.String, "count": pl.Int64, **floats})


def _choose(rows: npt.NDArray[np.int64], queries: int | None, seed: int) -> npt.NDArray[np.int64]:
    if queries is None or (queries >= len(rows) and queries > 0):
        return rows
    if queries < 1:
        raise ConfigError(f"queries: {queries} given; it must be at least 1, or None for all")
    return np.sort(np.random.default_rng(seed).choice(rows, queries, replace=False))


def _check_not_empty(ranking: Ranking, log: Log) -> None:
    if len(ranking.queries) == 0:
        raise DataError(
            f"no query has a target to rank: the log holds {log.event_count:,} target events, "
            f"{ranking.seen_targets:,} of them on items already in the query's history; "
            "check the split, or set exclude_seen = false"
        )


def _group_lines(groups: pl.DataFrame, cutoffs: tuple[int, ...]) -> list[str]:
    if groups.is_empty():
        return []
    names = [*(f"hit_rate@{cutoff}" for cutoff in cutoffs), "mrr"]
    lines = ["", f"{'':<26}" + f"{'count':>9}" + "".join(f"{name:>14}" for name in names)]
    for row in groups.iter_rows(named=True):
        values = ("-" if row[name] is None else f"{row[name]:.4f}" for name in names)
        cells = "".join(f"{value:>14}" for value in values)
        lines.append(f"{row['group'][:25]:<26}{row['count']:>9,}{cells}")
    return lines
