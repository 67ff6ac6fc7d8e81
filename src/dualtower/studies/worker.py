"""A study's work in a process of its own: `python -m dualtower.studies.worker TASK.json`.

Its time and memory are then its own, and a crash loses one run. It ends when the process that
started it does, even where that was killed: the two share a pipe that closes then.
"""

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from dualtower.config import Settings
from dualtower.studies.live_order import LiveOrder, execute_live
from dualtower.studies.orders import Order, execute
from dualtower.studies.tuning import TuneOrder, tune_model


class Task(Settings):
    """What a worker is to do."""

    run: Order | None = None
    tune: TuneOrder | None = None
    live: LiveOrder | None = None
    output: str
    """File of a run's outcome, or folder of a model's trials."""


def work(task: Task) -> None:
    """Do the task in this process."""
    if task.run is not None:
        execute(task.run, Path(task.output))
    if task.tune is not None:
        tune_model(task.tune, Path(task.output))
    if task.live is not None:
        execute_live(task.live, Path(task.output))


def main(arguments: Sequence[str]) -> None:
    """Do the task in the file that is named."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(Task.model_validate_json(Path(arguments[0]).read_bytes()))


def _end_with_parent() -> None:
    # Not by sys.stdin: its lock, held while waiting, would abort the interpreter's own end.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
