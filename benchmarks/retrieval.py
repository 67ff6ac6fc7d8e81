"""Every kind of index against Flat, and what exactly N unseen costs, all in one run.

    python -m benchmarks.retrieval

The corpus has Amazon Books' size, 243,166 unit vectors of 32 dimensions, drawn around 2,000
centres; queries are drawn alike. Times are CPU time of one thread, and the kinds take turns, so
that what else the machine does counts little; the median turn is kept. Which kind wins depends on
the vectors: measure again on trained ones with `--bundle FOLDER`.

Writes results/retrieval.json and results/retrieval-unseen.json, which docs/retrieval.md shows.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import faiss
import numpy as np
import numpy.typing as npt
import torch

from dualtower.data.columns import Ragged
from dualtower.evaluation.results import (
    Measurements,
    processor,
    versions,
    write_results,
)
from dualtower.evaluation.tables import results_table
from dualtower.retrieval.bundle import Bundle
from dualtower.retrieval.index import FLAT_BELOW, Index, IndexKind, build_index
from dualtower.retrieval.recall import tune_effort
from dualtower.retrieval.retriever import Retriever

ITEMS, DIM, CENTRES, SPREAD = 243_166, 32, 2_000, 0.7
N, SEEN, HEAVY, CATEGORY = 100, 20, 5_000, 0.01
BATCHES = (1, 32)

Row = dict[str, str | int | float]


def synthetic(count: int, seed: int) -> npt.NDArray[np.float32]:
    """Unit vectors around the same centres for every seed, `[count, 32]`."""
    centres = np.random.default_rng(0).normal(size=(CENTRES, DIM))
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(0, CENTRES, count)]
    vectors = vectors + SPREAD * generator.normal(size=(count, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors, dtype=np.float32)


def of_bundle(
    folder: Path, queries: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A bundle's item vectors, and the vectors of known queries chosen at random."""
    bundle = Bundle.load(folder)
    known = np.random.default_rng(0).permutation(bundle.encoder.known_queries())[:queries]
    vectors = bundle.model.encode_queries(bundle.encoder.batch_of_rows(known))
    return bundle.index.vectors, vectors.reshape(-1, vectors.shape[-1])


def cpu_ms(work: Callable[[int], object], queries: int, batch: int) -> float:
    """CPU milliseconds a query of `work(first query)` over batches."""
    start = time.process_time()
    for first in range(0, queries, batch):
        work(first)
    return (time.process_time() - start) * 1_000 / queries


def search_ms(index: Index, queries: npt.NDArray[np.float32], batch: int) -> float:
    """CPU milliseconds a query of the index's own search."""
    return cpu_ms(
        lambda first: index.search(queries[first : first + batch], N), len(queries), batch
    )


def unseen_work(
    retriever: Retriever, queries: npt.NDArray[np.float32]
) -> dict[str, Callable[[int], object]]:
    """The retriever's tasks, one query each: few seen, the 5,000 nearest seen, a category."""
    items = len(retriever.index)
    generator = np.random.default_rng(2)
    few = generator.integers(0, items, (len(queries), SEEN)).astype(np.int32)
    nearest = retriever.index.scan.top(queries[:, None], min(HEAVY, items // 2)).positions
    allowed = np.flatnonzero(generator.random(items) < CATEGORY)

    def seen(positions: npt.NDArray[np.integer], first: int) -> Ragged:
        row = positions[first].astype(np.int32)
        return Ragged(row, np.array([0, len(row)], dtype=np.int64))

    def task(
        positions: npt.NDArray[np.integer], only: npt.NDArray[np.int64] | None
    ) -> Callable[[int], object]:
        return lambda first: retriever.retrieve(
            queries[first : first + 1], N, exclude=seen(positions, first), allowed=only
        )

    return {
        "20 seen": task(few, None),
        "5,000 nearest seen": task(nearest, None),
        "1% category": task(few, allowed),
    }


def measure(
    vectors: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], rounds: int
) -> tuple[list[Row], list[Row]]:
    """A row for each kind of index, and one for each task of the retriever."""
    built: dict[str, Index] = {}
    facts: dict[str, Row] = {}
    for kind in get_args(IndexKind):
        start = time.process_time()
        index = built[kind] = build_index(vectors, kind)
        index.threads = 1
        seconds = time.process_time() - start
        recall = tune_effort(index, queries, N)
        facts[kind] = {
            "effort": index.effort,
            "recall_mean": round(recall.mean, 4),
            "recall_first_percentile": round(recall.first_percentile, 2),
            "recall_minimum": round(recall.minimum, 2),
            "build_seconds": round(seconds, 2),
        }
        print(f"{kind}: built in {seconds:.1f} s, recall {recall.mean:.4f}", file=sys.stderr)
    timed = queries[:64]
    work: dict[tuple[str, str], Callable[[], float]] = {}
    for kind, index in built.items():
        for batch in BATCHES:
            work[kind, str(batch)] = partial(search_ms, index, timed, batch)
    auto = Retriever(built["flat" if len(vectors) < FLAT_BELOW else "ivf"])
    for name, task in unseen_work(auto, timed).items():
        work["retriever", name] = partial(cpu_ms, task, len(timed), 1)
    turns: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    for _ in range(rounds):
        for key, run in work.items():
            turns[key].append(run())
    middle = {key: round(statistics.median(times), 4) for key, times in turns.items()}
    kinds: list[Row] = [
        {
            "index": kind,
            "ms_one_query": middle[kind, "1"],
            "ms_in_batches_of_32": middle[kind, "32"],
            "times_as_fast_as_flat": round(middle["flat", "1"] / middle[kind, "1"], 2),
            **facts[kind],
        }
        for kind in built
    ]
    tasks: list[Row] = [
        {"query": name, "index": auto.index.kind, "ms_one_query": middle["retriever", name]}
        for side, name in work
        if side == "retriever"
    ]
    return kinds, tasks


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval")
    parser.add_argument("--bundle", type=Path, help="measure this bundle's vectors; only print")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each kind (default: 5)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    if arguments.bundle:
        vectors, queries = of_bundle(arguments.bundle, 1_000)
    else:
        vectors, queries = synthetic(ITEMS, 1), synthetic(1_000, 2)
    protocol = (
        f"{len(vectors):,} vectors of {vectors.shape[1]} dimensions, "
        f"{'trained' if arguments.bundle else 'synthetic'}, n = {N}; CPU milliseconds a query, one "
        f"thread, the median of {arguments.rounds} turns"
    )
    for name, runs in zip(
        ("retrieval", "retrieval-unseen"),
        measure(vectors, queries, arguments.rounds),
        strict=True,
    ):
        results = Measurements(
            command="python -m benchmarks.retrieval",
            protocol=protocol,
            versions=versions(),
            processor=processor(),
            runs=tuple(runs),
        )
        print(results_table(results))
        if not arguments.bundle:
            write_results(arguments.out / f"{name}.json", results)


if __name__ == "__main__":
    main()
