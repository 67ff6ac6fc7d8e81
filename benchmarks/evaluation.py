"""Full ranking of 20,000 queries among 250,000 items, beside plain PyTorch, in one run.

    python -m benchmarks.evaluation

Writes results/evaluation-speed.json. Each way runs in a process of its own, so that its peak memory
is its own; what Python, the libraries and the data take before the ranking is given beside it.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from dualtower.config import EvaluationConfig
from dualtower.data.columns import FeatureSpace, QueryBatch
from dualtower.data.dataset import Dataset, Log
from dualtower.data.vocabulary import Vocabulary
from dualtower.evaluation.evaluate import evaluate
from dualtower.evaluation.results import (
    Measurements,
    peak_memory_mb,
    processor,
    versions,
    write_results,
)
from dualtower.models.base import VectorModel
from dualtower.schema import Schema

HISTORY = 20
"""Seen items of each query."""
TOP = 100
"""Length of the lists that coverage is counted on."""


class RandomVectors(VectorModel):
    """Normalised random vectors, those of a query near its target's, so that ranks are spread."""

    name = "random_vectors"

    def __init__(self, log: Log, dim: int) -> None:
        """Draw the vectors from a fixed seed."""
        random = np.random.default_rng(0)
        self._items = _normalised(random.standard_normal((log.dataset.item_count, dim)))
        targets = np.concatenate([[0], log.targets(log.queries()).values])
        noise = random.standard_normal((len(targets), dim)) * 0.3
        self._queries = _normalised(self._items[targets] + noise)

    @property
    def fitted(self) -> bool:
        """Always."""
        return True

    def encode_queries(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """The drawn vectors of the batch's query rows."""
        return self._queries[batch.rows]

    def encode_items(self) -> npt.NDArray[np.float32]:
        """The drawn vectors."""
        return self._items

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Nothing is kept."""
        return {}

    @classmethod
    def from_state(
        cls, config: dict[str, Any], space: FeatureSpace, state: dict[str, npt.NDArray[Any]]
    ) -> "RandomVectors":
        """Never kept, so never loaded."""
        raise NotImplementedError


def made_log(queries: int, items: int) -> Log:
    """Every query with `HISTORY` random seen items and one random target."""
    events = np.random.default_rng(1).integers(1, items + 1, (queries, HISTORY + 1))
    offsets = np.concatenate([[0], np.arange(queries + 1) * (HISTORY + 1)])
    dataset = Dataset(
        schema=Schema(),
        query_vocabulary=Vocabulary(pl.int_range(queries, eager=True)),
        item_vocabulary=Vocabulary(pl.int_range(items, eager=True)),
        category_vocabulary=Vocabulary(pl.Series([], dtype=pl.String)),
        feature_vocabularies={},
        numeric_scales={},
        offsets=offsets,
        items=events.astype(np.int32).ravel(),
        times=None,
        weights=None,
        split=None,
        item_categories=np.zeros(items + 1, dtype=np.int32),
        query_features={},
        item_features={},
        context_features={},
        source={},
    )
    end = offsets[1:]
    start = end - np.concatenate([[0], np.ones(queries, dtype=np.int64)])
    return Log(dataset, start, end, np.arange(1, items + 1))


def ours(model: RandomVectors, log: Log) -> float:
    """`evaluate` with every metric, coverage at 100 included; the MRR without seen targets."""
    result = evaluate(model, log, config=EvaluationConfig(cutoffs=(TOP,)), progress=False)
    return result.metrics["mrr"]


def plain(model: RandomVectors, log: Log) -> float:
    """All scores of a block of queries, seen ones at minus infinity, count the better, top 100."""
    items = torch.from_numpy(model.encode_items()[1:])
    covered = torch.zeros(len(items), dtype=torch.bool)
    reciprocal, count = 0.0, 0
    for rows in np.array_split(log.queries(), -(-len(log.queries()) // 256)):
        batch = log.requests(rows)
        scores = torch.from_numpy(model.encode_queries(batch)) @ items.T
        targets = torch.from_numpy(log.targets(rows).values).long()[:, None] - 1
        own = scores.gather(1, targets)
        seen = torch.from_numpy(batch.history.values).long().view(len(rows), HISTORY) - 1
        scores.scatter_(1, seen, -torch.inf)
        ranks = 1 + (scores > own).sum(1)
        covered[torch.topk(scores, TOP).indices.view(-1)] = True
        kept = (seen != targets).all(1)
        reciprocal += float((1 / ranks[kept].double()).sum())
        count += int(kept.sum())
    return reciprocal / count


WAYS: dict[str, Callable[[RandomVectors, Log], float]] = {
    "dualtower.evaluate": ours,
    "plain PyTorch": plain,
}


def measure(way: str, queries: int, items: int, dim: int) -> dict[str, str | int | float]:
    """Run one way; seconds of the ranking alone, and the process's memory."""
    log = made_log(queries, items)
    model = RandomVectors(log, dim)
    before = peak_memory_mb()
    start = time.perf_counter()
    mrr = WAYS[way](model, log)
    seconds = time.perf_counter() - start
    return {
        "way": way,
        "seconds": round(seconds, 2),
        "peak_memory_mb": round(peak_memory_mb()),
        "of_which_before_mb": round(before),
        "mrr": round(mrr, 6),
    }


def main() -> None:
    """Measure every way, print the ratio and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=250_000)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--output", type=Path, default=Path("results/evaluation-speed.json"))
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    runs, seconds = [], []
    for way in WAYS:
        with context.Pool(1) as pool:
            run = pool.apply(measure, (way, options.queries, options.items, options.dim))
        print(run)
        runs.append(run)
        seconds.append(float(run["seconds"]))
    print(f"plain PyTorch takes {seconds[1] / seconds[0]:.1f} times as long")
    results = Measurements(
        command="python -m benchmarks.evaluation",
        protocol=f"{options.queries:,} queries, {HISTORY} seen items and one target each, ranked "
        f"among {options.items:,} items by {options.dim} dimensions; ranks and top {TOP}",
        versions=versions(),
        processor=processor(),
        runs=tuple(runs),
    )
    write_results(options.output, results)


def _normalised(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


if __name__ == "__main__":
    main()
