"""Training speed against dense Adam fed by a DataLoader, both measured in this one run.

    python -m benchmarks.training --out results/training-speed.json

The data has Amazon Books' shape (695,513 queries, 243,166 items, items by Zipf's law) and is drawn
here. Each side is a process of its own that trains when its turn comes, so that both meet the same
state of the machine; of several turns the median counts. The ratio's bars: at least 40 at batch 256
and at least 7 at batch 4,096, with a peak below 2 GB.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import dense_adam
from benchmarks.synthetic import amazon_books_shape
from dualtower.config import Preset, TrainingConfig
from dualtower.data.dataset import Dataset, Log
from dualtower.errors import CollapseWarning
from dualtower.files import write_json
from dualtower.models.dat import DAT
from dualtower.training.loop import train

Side = tuple[str, int]
"""`dense`, `paper` or `recommended`, and positives per step."""
Turn = Callable[[], float]
"""Trains for a while and returns the positives per second of its steps."""

BATCHES = (256, 4096)
RECOMMENDED_BATCH = 1024
DENSE_SECONDS = 8.0
"""Length of one turn of the dense side; its steps take up to two seconds."""
TURN_POSITIVES = 262_144
"""Positives of one turn of dualtower."""


def dense_turns(batch_size: int, dataset: Dataset) -> Turn:
    """Turns of the dense side: it goes on training where the last turn ended."""
    queries = np.repeat(np.arange(dataset.query_count, dtype=np.int32), np.diff(dataset.offsets))
    steps = dense_adam.steps(
        queries, dataset.items, dataset.query_count, dataset.item_count, batch_size
    )
    next(steps)

    def turn() -> float:
        positives, start = 0, time.perf_counter()
        while time.perf_counter() - start < DENSE_SECONDS:
            positives += next(steps)
        return positives / (time.perf_counter() - start)

    return turn


def dualtower_turns(preset: Preset, batch_size: int, dataset: Dataset) -> Turn:
    """Turns of dualtower: each an epoch of `train`, as `fit` calls it, on events drawn anew.

    The rate is the one that the training record gives its user: all that a step takes, without the
    making of the tables before and the caching of item vectors after. The preset `paper` gets one
    event each of many queries, so that its tables are read all over; `recommended` gets whole logs.
    """
    random = np.random.default_rng(0)
    # The synthetic log has no categories, and without them no category is left to align.
    overrides: dict[str, Any] = {"lambda_ca": 0.0} if preset == "paper" else {}
    config = TrainingConfig.of(preset, epochs=1, batch_size=batch_size)

    def turn() -> float:
        queries = random.permutation(np.arange(1, dataset.query_count))
        start, end = dataset.offsets[:-1], dataset.offsets[:-1].copy()
        if preset == "paper":
            chosen = queries[:TURN_POSITIVES]
            end[chosen] += 1
        else:
            lengths = np.diff(dataset.offsets)
            chosen = queries[np.cumsum(lengths[queries]) <= TURN_POSITIVES]
            end[chosen] += lengths[chosen]
        log = Log(dataset, start, end, np.arange(1, dataset.item_count))
        model = DAT(preset=preset, **overrides)
        train(model, log, config, progress=False)
        assert model.record is not None
        return model.record.epochs[0].positives_per_second

    return turn


def work(side: Side, threads: int) -> None:
    """The process of one side: for every line it reads, it takes a turn and answers."""
    torch.set_num_threads(threads)
    # On random clicks to the letter of the paper the towers soon die; here only their speed counts.
    warnings.simplefilter("ignore", CollapseWarning)
    name, batch_size = side
    dataset = amazon_books_shape()
    if name == "dense":
        turn = dense_turns(batch_size, dataset)
    else:
        turn = dualtower_turns("paper" if name == "paper" else "recommended", batch_size, dataset)
    turn()
    print("ready", flush=True)
    for _ in sys.stdin:
        rate = turn()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rate": rate, "peak_memory_mb": peak}), flush=True)


class Worker:
    """A side's process, seen from the one that measures."""

    def __init__(self, side: Side, threads: int) -> None:
        name, batch_size = side
        command = [sys.executable, "-m", "benchmarks.training", "--work", f"{name}:{batch_size}"]
        self._process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()
        self.rates: list[float] = []
        self.peak_memory_mb = 0.0

    def turn(self) -> None:
        """Let it take a turn, while every other side waits."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        answer = json.loads(self._answer())
        self.rates.append(answer["rate"])
        self.peak_memory_mb = answer["peak_memory_mb"]

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a side's process ended early; its message is above")
        return line


def measure(sides: list[Side], threads: int, turns: int) -> list[dict[str, Any]]:
    """Rates and peaks of `sides`, whose turns alternate."""
    workers = [Worker(side, threads) for side in sides]
    for _ in range(turns):
        for worker in workers:
            worker.turn()
    for worker in workers:
        worker.stop()
    return [
        {
            "positives_per_second": round(statistics.median(worker.rates)),
            "rates": [round(rate) for rate in worker.rates],
            "peak_memory_mb": round(worker.peak_memory_mb),
        }
        for worker in workers
    ]


def compare(batch_size: int, threads: int, turns: int) -> dict[str, Any]:
    """Preset `paper` against the dense way at one batch size."""
    ours, rival = measure([("paper", batch_size), ("dense", batch_size)], threads, turns)
    ratio = statistics.median(
        mine / theirs for mine, theirs in zip(ours["rates"], rival["rates"], strict=True)
    )
    return {
        "batch": batch_size,
        "ratio": round(ratio, 1),
        "positives_per_second": ours["positives_per_second"],
        "rival_positives_per_second": rival["positives_per_second"],
        "peak_memory_mb": ours["peak_memory_mb"],
        "rival_peak_memory_mb": rival["peak_memory_mb"],
    }


def processor() -> str:
    """The processor's name and the instruction set that PyTorch uses of it."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return (
        f"{names[0] if names else platform.processor()}, {torch.backends.cpu.get_cpu_capability()}"
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each side")
    parser.add_argument("--turns", type=int, default=5, help="turns of each side")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, batch_size = options.work.split(":")
        work((name, int(batch_size)), options.threads)
        return
    runs = []
    for batch_size in BATCHES:
        runs.append(compare(batch_size, options.threads, options.turns))
        print(json.dumps(runs[-1]))
    (recommended,) = measure([("recommended", RECOMMENDED_BATCH)], options.threads, options.turns)
    beside = {"preset": "recommended", "batch": RECOMMENDED_BATCH, **recommended}
    print(json.dumps(beside))
    if options.out is not None:
        result = {
            "command": "python -m benchmarks.training --out results/training-speed.json",
            "protocol": f"threads {options.threads}, median of {options.turns} alternating turns, "
            "four uniform negatives per positive",
            "versions": {name: version(name) for name in ("torch", "numpy", "polars")},
            "processor": processor(),
            "runs": runs,
            "beside": [beside],
        }
        write_json(options.out, result)


if __name__ == "__main__":
    main()
