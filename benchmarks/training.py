"""Training speed against dense Adam fed by a DataLoader, both measured in this one run.

    python -m benchmarks.training
    python -m benchmarks.training --device cuda --turns 2

The data has Amazon Books' shape (695,513 queries, 243,166 items, items by Zipf's law) and is drawn
here. Each side is a process of its own that trains when its turn comes, so that both meet the same
state of the machine; of several turns the median counts. The ratio's bars: at least 40 at batch 256
and at least 7 at batch 4,096, with a peak below 2 GB, on a CPU.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import dense_adam
from benchmarks.synthetic import amazon_books_shape
from dualtower.config import Precision, Preset, TrainingConfig
from dualtower.data.dataset import Dataset, Log
from dualtower.errors import CollapseWarning
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.models.dat import DAT
from dualtower.training.loop import train


@dataclass(frozen=True)
class Side:
    """What one process trains."""

    preset: Preset | None
    """None: the dense side."""
    batch_size: int
    """Positives per step."""
    precision: Precision = "float32"


Turn = Callable[[], float]
"""Trains for a while and returns the positives per second of its steps."""

RUNS = {
    "cpu": (
        Side("paper", 256),
        Side("paper", 4096),
        Side("paper", 4096, "bfloat16"),
        Side("recommended", 1024),
    ),
    "cuda": (
        Side("paper", 4096),
        Side("paper", 4096, "bfloat16"),
        Side("recommended", 1024),
        Side("recommended", 8192),
    ),
}
"""By device, what is compared; the bars are those of `paper` on a CPU."""
DENSE_SECONDS = 8.0
"""Length of one turn of the dense side; its steps take up to two seconds."""
TURN_POSITIVES = 589_824
"""Positives of one epoch of dualtower; a turn is two epochs. Over all 6.7 million an epoch's
fixed cost would be a tenth as much a positive."""


def dense_turns(batch_size: int, dataset: Dataset, device: str) -> Turn:
    """Turns of the dense side: it goes on training where the last turn ended."""
    queries = np.repeat(np.arange(dataset.query_count, dtype=np.int32), np.diff(dataset.offsets))
    steps = dense_adam.steps(
        queries, dataset.items, dataset.query_count, dataset.item_count, batch_size, device
    )
    next(steps)

    def turn() -> float:
        positives, start = 0, time.perf_counter()
        while time.perf_counter() - start < DENSE_SECONDS:
            positives += next(steps)
        return positives / (time.perf_counter() - start)

    return turn


def dualtower_turns(side: Side, dataset: Dataset, device: str) -> Turn:
    """Turns of dualtower: each a run of `train`, as `fit` calls it, on events drawn anew.

    The rate is the one that the training record gives its user for the second of two epochs: all
    that a step takes, without the making of the tables before and the caching of item vectors
    after. In the first epoch memory comes to hand page by page, which in an epoch of 6.7 million
    events is soon over. The preset `paper` gets one
    event each of many queries, so that its tables are read all over; `recommended` gets whole logs.
    """
    preset = side.preset
    assert preset is not None
    random = np.random.default_rng(0)
    # The synthetic log has no categories, and without them no category is left to align.
    overrides: dict[str, Any] = {"lambda_ca": 0.0} if preset == "paper" else {}
    config = TrainingConfig.of(
        preset, epochs=2, batch_size=side.batch_size, device=device, precision=side.precision
    )

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
        return model.record.epochs[-1].positives_per_second

    return turn


def work(side: Side, threads: int, device: str) -> None:
    """The process of one side: for every line it reads, it takes a turn and answers."""
    torch.set_num_threads(threads)
    # On random clicks to the letter of the paper the towers soon die; here only their speed counts.
    warnings.simplefilter("ignore", CollapseWarning)
    dataset = amazon_books_shape()
    if side.preset is None:
        turn = dense_turns(side.batch_size, dataset, device)
    else:
        turn = dualtower_turns(side, dataset, device)
    turn()
    print("ready", flush=True)
    for _ in sys.stdin:
        rate = turn()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rate": rate, "peak_memory_mb": peak}), flush=True)


class Worker:
    """A side's process, seen from the one that measures."""

    def __init__(self, side: Side, threads: int, device: str) -> None:
        command = [sys.executable, "-m", "benchmarks.training", "--work", json.dumps(asdict(side))]
        self._process = subprocess.Popen(
            [*command, "--threads", str(threads), "--device", device],
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


def compare(side: Side, threads: int, turns: int, device: str) -> dict[str, str | float]:
    """A preset against the dense way at one batch size, the two taking turns."""
    ours = Worker(side, threads, device)
    rival = Worker(Side(None, side.batch_size), threads, device)
    for _ in range(turns):
        ours.turn()
        rival.turn()
    ours.stop()
    rival.stop()
    ratios = [mine / theirs for mine, theirs in zip(ours.rates, rival.rates, strict=True)]
    return {
        "preset": str(side.preset),
        "batch": side.batch_size,
        "precision": side.precision,
        "ratio": round(statistics.median(ratios), 1),
        "positives_per_second": round(statistics.median(ours.rates)),
        "rival_positives_per_second": round(statistics.median(rival.rates)),
        "peak_memory_mb": round(ours.peak_memory_mb),
        "rival_peak_memory_mb": round(rival.peak_memory_mb),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each side")
    parser.add_argument("--turns", type=int, default=5, help="turns of each side")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--output", type=Path, help="results/training-speed.json, on a GPU training-speed-cuda.json"
    )
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(Side(**json.loads(options.work)), options.threads, options.device)
        return
    on_gpu = options.device == "cuda"
    suffix, where = ("-cuda", " and a GPU") if on_gpu else ("", "")
    output = options.output or Path(f"results/training-speed{suffix}.json")
    runs = []
    for side in RUNS[options.device]:
        runs.append(compare(side, options.threads, options.turns, options.device))
        print(json.dumps(runs[-1]), flush=True)
    results = Measurements(
        command=(
            f"python -m benchmarks.training --threads {options.threads} --turns {options.turns}"
            + (" --device cuda" if on_gpu else "")
            + (f" --output {output}" if options.output else "")
        ),
        protocol=(
            "positives per second of training on 695,513 queries and 243,166 items (Zipf), 32 "
            "dimensions, towers 256-128-32; the rival trains preset paper with dense gradients, "
            "default Adam and a DataLoader that draws four negatives a row; "
            f"{options.threads} CPU thread(s){where} a side, "
            f"median of {options.turns} alternating turns"
        ),
        versions=versions(),
        processor=(
            torch.cuda.get_device_name()
            if on_gpu
            else f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
        ),
        runs=tuple(runs),
    )
    write_results(output, results)


if __name__ == "__main__":
    main()
