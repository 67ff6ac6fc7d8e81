"""`dualtower serve` against a plain FastAPI handler with PyTorch and Faiss Flat, by turns.

    python -m benchmarks.serving            # Amazon Books' size; needs an idle machine
    python -m benchmarks.serving --short    # small, to see that it runs; writes nothing

Both servers run as processes of their own on the same bundle, and take turns: a closed loop over 16
connections for the most requests a second and the CPU time of each, and an open loop of random
queries, arriving by a Poisson process, for latency. A turn in which other processes use more than
5% of the machine is void and is said to be. The bundle is trained for one epoch on a log of that
size made here, which takes minutes: `--bundle FOLDER` keeps it there for the next time, or serves
what is there already; query ids have to be 0, 1, 2 ….

Writes results/load.json.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import uvloop

from benchmarks.books_bundle import described, made_here, ready_bundle
from benchmarks.load import (
    Load,
    arrivals,
    closed_loop,
    open_loop,
    random_requests,
    recommend_request,
)
from benchmarks.server_process import DUALTOWER, started
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.evaluation.tables import results_table
from dualtower.retrieval.bundle import Bundle

N, CONNECTIONS = 100, 16
MOST_FOREIGN = 0.05
"""Share of the machine that other processes may use in a turn that counts."""
SMALLEST_ANSWER = 1_000
"""Bytes; a hundred items with their scores take more."""
_PATIENCE_SECONDS = 300
SERVERS = {
    "dualtower": DUALTOWER,
    "plain": "from benchmarks.serving_rival import main; main()",
}

Row = dict[str, str | int | float]


@dataclass(frozen=True)
class Turn:
    """One loop against one server."""

    load: Load
    cpu_us: float
    """Server CPU microseconds a request."""
    foreign: float
    """Share of the machine that other processes used."""


@contextmanager
def running(
    server: str, arguments: list[str], port: int, token: str | None = None
) -> Iterator[psutil.Process]:
    """A server in a process of its own, until the block ends; it is ready when the block begins."""
    program, patience = SERVERS[server], _PATIENCE_SECONDS
    with started(program, arguments, port, token=token, seconds=patience) as process:
        yield psutil.Process(process.pid)


def turn(process: psutil.Process, work: "partial[Coroutine[Any, Any, Load]]") -> Turn:
    """Run a loop, and see what the server and everything else used meanwhile."""
    own = psutil.Process()
    before = _used(process), _used(own), _busy()
    start = time.perf_counter()
    load = uvloop.run(work())
    wall = time.perf_counter() - start
    server, generator, machine = (
        now - then for now, then in zip((_used(process), _used(own), _busy()), before, strict=True)
    )
    foreign = max(0.0, machine - server - generator) / (wall * (psutil.cpu_count() or 1))
    return Turn(load, server / max(1, len(load.latencies)) * 1e6, foreign)


def measure(
    folder: Path, queries: int, rounds: int, seconds: float, rate: float, ports: dict[str, int]
) -> list[Row]:
    """A row for each server: the median of the rounds that count."""
    arguments = {
        "dualtower": ["serve", str(folder), "--port", str(ports["dualtower"])],
        "plain": [str(folder), str(ports["plain"])],
    }
    closed: dict[str, list[Turn]] = {name: [] for name in SERVERS}
    opened: dict[str, list[Turn]] = {name: [] for name in SERVERS}
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(running(name, arguments[name], ports[name]))
            for name in SERVERS
        }
        for number in range(rounds):
            for name, process in processes.items():
                port = ports[name]
                requests = random_requests(
                    partial(recommend_request, port, n=N), queries, seed=number
                )
                closed[name].append(
                    turn(
                        process,
                        partial(closed_loop, port, requests, CONNECTIONS, seconds, SMALLEST_ANSWER),
                    )
                )
                due = arrivals(rate, seconds, seed=number)
                opened[name].append(
                    turn(process, partial(open_loop, port, requests, due, SMALLEST_ANSWER))
                )
                _print_round(number, name, closed[name][-1], opened[name][-1])
    rivals = [found.load.rate for found in closed["plain"]]
    return [_row(name, closed[name], opened[name], rivals, rate) for name in SERVERS]


def _row(
    name: str, closed: list[Turn], opened: list[Turn], rivals: list[float], rate: float
) -> Row:
    rates = [found.load.rate for found in closed]
    ratios = [own / rival for own, rival in zip(rates, rivals, strict=True)]
    every = closed + opened
    void = sum(found.foreign > MOST_FOREIGN for found in every)
    return {
        "server": name,
        "requests_per_second": round(statistics.median(rates), 1),
        "times_the_plain_server": round(statistics.median(ratios), 2),
        "server_cpu_us_per_request": round(statistics.median(t.cpu_us for t in closed), 1),
        "open_loop_asked_per_second": rate,
        "open_loop_answered_per_second": round(statistics.median(t.load.rate for t in opened), 1),
        "p50_ms": round(statistics.median(t.load.percentile_ms(50) for t in opened), 2),
        "p99_ms": round(statistics.median(t.load.percentile_ms(99) for t in opened), 2),
        "failures": sum(found.load.failures for found in every),
        "short_answers": sum(found.load.short for found in every),
        "rounds": len(closed),
        "void_turns": void,
        "most_foreign_cpu": round(max(found.foreign for found in every), 3),
    }


def _print_round(number: int, name: str, closed: Turn, opened: Turn) -> None:
    print(
        f"round {number + 1} {name}: {closed.load.rate:,.0f} a second, {closed.cpu_us:.0f} µs; "
        f"open p50 {opened.load.percentile_ms(50):.1f} ms, p99 {opened.load.percentile_ms(99):.1f} "
        f"ms; foreign CPU {max(closed.foreign, opened.foreign):.0%}"
        + (" VOID" if max(closed.foreign, opened.foreign) > MOST_FOREIGN else ""),
        flush=True,
    )


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _busy() -> float:
    """CPU seconds that the machine has worked."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests' time is counted within user and nice already.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guests)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("--bundle", type=Path, help="made there if it does not exist")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server (default: 5)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each turn (default: 20)")
    parser.add_argument("--rate", type=float, default=1_000.0, help="of the open loop, a second")
    parser.add_argument("--ports", type=int, nargs=2, default=(8_101, 8_102))
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the results")
    parser.add_argument("--short", action="store_true", help="small; write nothing")
    arguments = parser.parse_args()
    rounds, seconds, rate = arguments.rounds, arguments.seconds, arguments.rate
    if arguments.short:
        rounds, seconds, rate = 1, 1.0, 50.0
    with tempfile.TemporaryDirectory() as folder:
        bundle = ready_bundle(arguments.bundle or Path(folder) / "bundle", arguments.short)
        facts = Bundle.load(bundle).manifest
        ports = dict(zip(SERVERS, arguments.ports, strict=True))
        rows = measure(bundle, facts.counts.queries, rounds, seconds, rate, ports)
    results = Measurements(
        command=(
            f"python -m benchmarks.serving --bundle FOLDER --rounds {rounds} --seconds {seconds:g}"
        ),
        protocol=(
            f"{described(facts)}; queries asked at random, n = {N}; one worker, loopback; by "
            f"turns, median of {rounds} of {seconds:g} s each: closed loop over {CONNECTIONS} "
            f"connections, open loop of {rate:g} a second; void where others use over "
            f"{MOST_FOREIGN:.0%} of the CPU"
        ),
        versions=versions(),
        processor=processor(),
        runs=tuple(rows),
    )
    print(results_table(results))
    if not arguments.short and made_here(facts):
        write_results(arguments.out / "load.json", results)


if __name__ == "__main__":
    main()
