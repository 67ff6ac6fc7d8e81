"""How fast, and in how much memory, tables are prepared.

python -m benchmarks.preparation [--rows 20000000] [--results results/preparation-speed.json]

Makes Amazon-Books-shaped rows (695,513 queries, 243,166 items, Zipf, times in no order) as Parquet
in a temporary folder and prepares them in a process of its own, with a 5-core filter.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.config import DataConfig, FilterConfig, RunConfig
from dualtower.data.prepare import prepare
from dualtower.evaluation.results import (
    Measurements,
    peak_memory_mb,
    processor,
    versions,
    write_results,
)
from dualtower.progress import progress_bar
from dualtower.schema import Schema

QUERIES = 695_513
ITEMS = 243_166
FILE_ROWS = 2_000_000
"""Rows of each of the table's files."""


def main() -> None:
    """Make the rows, measure, print and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--results", type=Path, default=Path("results/preparation-speed.json"))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure)))
        return
    with tempfile.TemporaryDirectory(prefix="preparation-") as name:
        folder = Path(name)
        write_rows(folder / "interactions", arguments.rows)
        command = [sys.executable, "-m", "benchmarks.preparation", "--measure", str(folder)]
        measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    run = {"rows": arguments.rows, **measured}
    run["rows_per_second"] = round(arguments.rows / run["seconds"])
    print(
        f"{run['rows']:,} rows in {run['seconds']:.1f} s: {run['rows_per_second']:,} rows/s, "
        f"{run['peak_memory_mb']:,.0f} MB at most"
    )
    write_results(
        arguments.results,
        Measurements(
            command=f"python -m benchmarks.preparation --rows {arguments.rows}",
            protocol="Parquet with 64-bit ids and epoch seconds in no order, 695,513 queries, "
            "243,166 items, Zipf; checked, 5-core to a fixed point, sorted, encoded, written",
            versions=versions(),
            processor=processor(),
            runs=(run,),
        ),
    )


def write_rows(folder: Path, rows: int) -> None:
    """Write `rows` random rows as Parquet files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    query_ids = random.permutation(QUERIES).astype(np.int64)
    item_ids = random.permutation(ITEMS).astype(np.int64)
    with progress_bar("Making rows", rows, "rows") as bar:
        for number, start in enumerate(range(0, rows, FILE_ROWS)):
            count = min(FILE_ROWS, rows - start)
            frame = pl.DataFrame(
                {
                    "user_id": query_ids[zipf(random, count, QUERIES, 0.5)],
                    "item_id": item_ids[zipf(random, count, ITEMS, 0.9)],
                    "timestamp": random.integers(1_500_000_000, 1_600_000_000, count),
                }
            )
            frame.write_parquet(folder / f"{number:04d}.parquet")
            bar.advance(count)


def zipf(
    random: np.random.Generator, count: int, values: int, exponent: float
) -> npt.NDArray[np.int64]:
    """Draw `count` ranks below `values`; rank r has a chance in proportion to (r + 1)^-exponent."""
    share = np.cumsum(1 / np.arange(1, values + 1) ** exponent)
    return np.searchsorted(share / share[-1], random.random(count))


def measure(folder: Path) -> dict[str, float]:
    """Prepare the rows in `folder`; seconds and peak memory."""
    config = RunConfig(
        data=DataConfig(interactions=str(folder / "interactions"), dataset=str(folder / "dataset")),
        columns=Schema(timestamp="timestamp"),
        filter=FilterConfig(min_query_events=5, min_item_events=5),
    )
    start = time.perf_counter()
    prepare(config)
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }


if __name__ == "__main__":
    main()
