"""Minutes of mixed traffic against `dualtower serve`: errors, and whether memory grows.

    python -m benchmarks.soak --bundle FOLDER   # ten minutes; other work does no harm
    python -m benchmarks.soak --short           # seconds, to see that it runs; writes nothing

An open loop of recommendations, plain and filtered (exclusions, categories, quotas, a history),
batches, similar items, events, metrics and the page's reads. Events are of a bounded set of
queries, known and new, so what the server has to remember grows by each event's own bytes only.
`--bundle` is as in `benchmarks.serving`.

Writes results/soak.json.
"""

import argparse
import asyncio
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import uvloop

from benchmarks.books_bundle import described, made_here, ready_bundle
from benchmarks.load import Load, arrivals, open_loop, print_wrong, request
from benchmarks.serving import running
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.evaluation.tables import results_table
from dualtower.retrieval.bundle import Bundle
from dualtower.retrieval.manifest import BundleManifest

WARM_UP = 0.2
"""Share of the time after which memory counts: the first requests bring the bundle in."""
SAMPLES = 60
_EVENT_QUERIES = 2_000

Row = dict[str, str | int | float]
Random = np.random.Generator


def mixed_requests(port: int, facts: BundleManifest, seed: int) -> Iterator[bytes]:
    """Endless requests of every kind; each should be answered with 200."""
    random = np.random.default_rng(seed)
    counts = facts.counts

    def query() -> int:
        return int(random.integers(counts.queries))

    def items(count: int) -> list[int]:
        found: list[int] = random.integers(0, counts.items, count).tolist()
        return found

    def categories(count: int) -> list[int]:
        found: list[int] = random.choice(counts.categories, count, replace=False).tolist()
        return found

    def recommend(**fields: Any) -> bytes:
        return post("/recommend", {"query_id": query(), **fields})

    def post(path: str, body: Any) -> bytes:
        return request(port, path, msgspec.json.encode(body))

    def events() -> bytes:
        return post("/events", {"events": [event() for _ in range(random.integers(1, 10))]})

    def event() -> dict[str, Any]:
        number = int(random.integers(_EVENT_QUERIES))
        return {
            "event_id": uuid.uuid4().hex,
            "query_id": f"new {number}" if number % 4 == 0 else number % counts.queries,
            "item_id": f"new {number % 20}" if random.random() < 0.01 else items(1)[0],
            "timestamp": 1_700_000_000 + number,
            "kind": ("click", "order", "exposure")[number % 3],
        }

    kinds: list[tuple[float, Callable[[], bytes]]] = [
        (0.4, recommend),
        (0.1, lambda: recommend(n=500, exclude_seen=False)),
        (0.05, lambda: recommend(exclude=items(200))),
        (0.05, lambda: recommend(category=categories(1)[0], n=10)),
        (0.05, lambda: recommend(category=categories(counts.categories // 2))),
        (0.05, lambda: recommend(quota={str(name): 3 for name in categories(5)})),
        (0.05, lambda: recommend(history=items(30))),
        (0.02, lambda: post("/recommend/batch", {"queries": [{"query_id": query()}] * 5})),
        (0.1, lambda: request(port, f"/similar/{items(1)[0]}?n=50")),
        (0.1, events),
        (0.01, lambda: request(port, "/metrics")),
        (0.01, lambda: request(port, f"/history?query_id={query()}")),
        (0.01, lambda: request(port, "/queries")),
    ]
    shares = np.array([share for share, _ in kinds])
    while True:
        yield kinds[int(random.choice(len(kinds), p=shares / shares.sum()))][1]()


def measure(bundle: Path, minutes: float, rate: float, port: int) -> Row:
    """Run the traffic, and watch the server's memory meanwhile.

    Args:
        bundle: what is served.
        minutes: how long.
        rate: requests a second.
        port: to serve on.
    """
    facts = Bundle.load(bundle).manifest
    requests = mixed_requests(port, facts, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["serve", str(bundle), "--port", str(port), "--events", f"{folder}/events.db"]
        with running("dualtower", arguments, port) as process:
            due = arrivals(rate, minutes * 60, seed=0)
            load, samples = uvloop.run(_watched(process, port, requests, due, minutes))
    print_wrong(load)
    warm = samples[int(len(samples) * WARM_UP) :]
    growth = float(np.polyfit(warm[:, 0], warm[:, 1], 1)[0])
    return {
        "minutes": round(load.seconds / 60, 2),
        "requests": len(load.latencies),
        "errors": load.failures,
        "requests_per_second": rate,
        "p50_ms": round(load.percentile_ms(50), 2),
        "memory_mb_first": round(float(samples[0, 1]), 1),
        "memory_mb_warm": round(float(warm[0, 1]), 1),
        "memory_mb_last": round(float(warm[-1, 1]), 1),
        "growth_mb_per_minute": round(growth, 3),
    }


async def _watched(
    process: psutil.Process, port: int, requests: Iterator[bytes], due: list[float], minutes: float
) -> tuple[Load, Any]:
    """The load, and `[samples, 2]` of minutes and megabytes."""
    samples: list[tuple[float, float]] = []

    async def watch() -> None:
        while True:
            samples.append((len(samples) * minutes / SAMPLES, process.memory_info().rss / 2**20))
            await asyncio.sleep(minutes * 60 / SAMPLES)

    watching = asyncio.create_task(watch())
    load = await open_loop(port, requests, due, smallest=0)
    watching.cancel()
    return load, np.array(samples)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--bundle", type=Path, help="made there if it does not exist")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--port", type=int, default=8_104)
    parser.add_argument("--results", type=Path, default=Path("results/soak.json"))
    parser.add_argument("--short", action="store_true", help="small; write nothing")
    arguments = parser.parse_args()
    minutes = 0.05 if arguments.short else arguments.minutes
    with tempfile.TemporaryDirectory() as folder:
        bundle = ready_bundle(arguments.bundle or Path(folder) / "bundle", arguments.short)
        facts = Bundle.load(bundle).manifest
        row = measure(bundle, minutes, arguments.rate, arguments.port)
    results = Measurements(
        command=(
            "python -m benchmarks.soak --bundle FOLDER "
            f"--minutes {minutes:g} --rate {arguments.rate:g}"
        ),
        protocol=(
            f"{described(facts)}; {arguments.rate:g} mixed requests a second (recommendations "
            "plain and filtered, batches, similar items, events into SQLite, metrics, the page's "
            "reads); memory is the resident set, its growth a line through the samples after the "
            f"first {WARM_UP:.0%} of the time"
        ),
        versions=versions(),
        processor=processor(),
        runs=(row,),
    )
    print(results_table(results))
    if not arguments.short and made_here(facts):
        write_results(arguments.results, results)
    if row["errors"]:
        raise SystemExit("a request was not answered with 200")


if __name__ == "__main__":
    main()
