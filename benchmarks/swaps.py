"""Whether a swap of bundles under load fails a request, and what it does to latency.

    python -m benchmarks.swaps --bundle FOLDER   # needs an idle machine
    python -m benchmarks.swaps --short           # small, to see that it runs; writes nothing

An open loop of random queries runs while `POST /bundle` takes the server from one bundle to
another, again and again without a pause; one in ten is damaged and has to be refused. The same loop
without swaps runs before and after. Every moment of the loop between is part of a swap, so its p99
is that of the swaps. `--bundle` is as in `benchmarks.serving`.

Writes results/swaps.json.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.books_bundle import described, made_here, ready_bundle
from benchmarks.load import (
    Load,
    arrivals,
    arrivals_until,
    ask,
    open_loop,
    print_wrong,
    random_requests,
    recommend_request,
    request,
)
from benchmarks.serving import SMALLEST_ANSWER, N, Turn, running, turn
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.evaluation.tables import results_table
from dualtower.retrieval.bundle import Bundle

DAMAGED_EVERY = 10
_TOKEN = "a-token-for-the-benchmark"

Row = dict[str, str | int | float]


def measure(bundle: Path, swaps: int, rate: float, seconds: float, port: int) -> Row:
    """Swap so many times under load, and run the load without swaps before and after.

    Args:
        bundle: what is served; the others are its copies, in a folder beside it.
        swaps: bundles named to the server, the damaged ones among them.
        rate: requests a second.
        seconds: of the loop before, and of the loop after.
        port: to serve on.
    """
    queries = Bundle.load(bundle).manifest.counts.queries
    with tempfile.TemporaryDirectory(dir=bundle.parent, prefix="swaps-") as name:
        folder = Path(name)
        for copy in ("one", "other", "damaged"):
            shutil.copytree(bundle, folder / copy, copy_function=os.link)
        _damage(folder / "damaged" / "items.safetensors")
        arguments = ["serve", str(folder / "one"), "--port", str(port)]
        with running("dualtower", arguments, port, token=_TOKEN) as process:
            make = partial(recommend_request, port, n=N, token=_TOKEN)
            requests = random_requests(make, queries, seed=0)

            def steady(seed: int) -> Turn:
                due = arrivals(rate, seconds, seed)
                return turn(process, partial(open_loop, port, requests, due, SMALLEST_ANSWER))

            before = steady(1)
            wrong: list[int] = []
            swapping = turn(process, partial(_under_swaps, port, requests, swaps, rate, wrong))
            after = steady(2)
            memory = process.memory_info().rss / 2**20
    during = swapping.load
    print_wrong(during)
    calm = Load(latencies=before.load.latencies + after.load.latencies)
    return {
        "swaps": swaps,
        "requests_meanwhile": len(during.latencies),
        "failed_requests": during.failures + during.short,
        "wrongly_answered_swaps": len(wrong),
        "seconds_per_swap": round(during.seconds / swaps, 2),
        "requests_per_second": rate,
        "p50_ms_steady": round(calm.percentile_ms(50), 2),
        "p50_ms_swapping": round(during.percentile_ms(50), 2),
        "p99_ms_steady": round(calm.percentile_ms(99), 2),
        "p99_ms_swapping": round(during.percentile_ms(99), 2),
        "times_steady": round(during.percentile_ms(99) / calm.percentile_ms(99), 2),
        "max_ms_swapping": round(during.percentile_ms(100), 1),
        "memory_mb_at_end": round(memory),
        "most_foreign_cpu": round(max(part.foreign for part in (before, swapping, after)), 3),
    }


async def _under_swaps(
    port: int, requests: Iterator[bytes], swaps: int, rate: float, wrong: list[int]
) -> Load:
    """The load during the swaps; `wrong` gets the numbers of those that did not end as due."""
    done = asyncio.Event()
    due = arrivals_until(done, rate, seed=3)
    loop = asyncio.create_task(open_loop(port, requests, due, SMALLEST_ANSWER))
    for number in range(swaps):
        damaged = number % DAMAGED_EVERY == DAMAGED_EVERY - 1
        name = "damaged" if damaged else ("other", "one")[number % 2]
        body = b'{"path":"%s"}' % name.encode()
        if await ask(port, request(port, "/bundle", body, _TOKEN)) == damaged:
            wrong.append(number)
    done.set()
    return await loop


def _damage(file: Path) -> None:
    """Change the last byte of a file that others are hard links to."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(content)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swaps")
    parser.add_argument("--bundle", type=Path, help="made there if it does not exist")
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument(
        "--rate", type=float, nargs="+", default=[500.0, 1_000.0], help="requests a second"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="without swaps, twice")
    parser.add_argument("--port", type=int, default=8_103)
    parser.add_argument("--results", type=Path, default=Path("results/swaps.json"))
    parser.add_argument("--short", action="store_true", help="small; write nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = ready_bundle(arguments.bundle or Path(folder) / "bundle", arguments.short)
        swaps, rates, seconds = arguments.swaps, arguments.rate, arguments.seconds
        if arguments.short:
            swaps, rates, seconds = DAMAGED_EVERY, [50.0], 1.0
        bundle_facts = Bundle.load(bundle).manifest
        rows = [measure(bundle, swaps, rate, seconds, arguments.port) for rate in rates]
    results = Measurements(
        command=(
            f"python -m benchmarks.swaps --bundle FOLDER --swaps {swaps} --seconds {seconds:g} "
            f"--rate {' '.join(f'{rate:g}' for rate in rates)} --results {arguments.results}"
        ),
        protocol=(
            f"{described(bundle_facts)}; an open loop of random queries, n = {N}, "
            f"for {seconds:g} s before and after, and without a pause while POST /bundle "
            f"names another bundle {swaps} times, one in {DAMAGED_EVERY} damaged; loopback, one "
            "worker"
        ),
        versions=versions(),
        processor=processor(),
        runs=tuple(rows),
    )
    print(results_table(results))
    if not arguments.short and made_here(bundle_facts):
        write_results(arguments.results, results)
    if any(row["failed_requests"] or row["wrongly_answered_swaps"] for row in rows):
        raise SystemExit("a request failed, or a swap ended otherwise than it should")


if __name__ == "__main__":
    main()
