"""A small study for tests: its tables, its configuration, and its work done in this process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dualtower.studies.study import Study
from dualtower.studies.worker import work
from dualtower.studies.workers import Job
from tests.synthetic import write_tables

CONFIG = """\
[data]
interactions = "elsewhere/events.parquet"
items = "elsewhere/catalogue.csv"

[columns]
timestamp = "timestamp"
category = "category"

[model]
embedding_dim = 8
hidden_dims = [16]

[training]
epochs = 1
threads = 1

[evaluation]
cutoffs = [5, 10]
"""


def small_study(folder: Path, *, seeds: tuple[int, ...] = (0, 1), final: bool = True) -> Study:
    """A study of the synthetic tables, whose configuration names another folder for them."""
    write_tables(folder)
    (folder / "small.toml").write_text(CONFIG, encoding="utf-8")
    return Study(
        config_path=folder / "small.toml",
        results=folder / "results" / "small.json",
        seeds=seeds,
        final=final,
        data=folder,
        work=folder / "work",
    )


def work_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Do all jobs in this process, where no new one has to load PyTorch; their labels, as done."""
    done: list[str] = []

    def run_here(job: Job, *_: object) -> None:
        done.append(job.label)
        work(job.task)

    monkeypatch.setattr("dualtower.studies.workers.run_job", run_here)
    return done


def kill_after(line: str, *arguments: str | Path) -> None:
    """Run a command of `dualtower` and kill it when a line on standard error begins with `line`."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from dualtower.cli import app; app()", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    assert process.stderr is not None
    said = []
    for said_now in process.stderr:
        said.append(said_now)
        if said_now.startswith(line):
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL, "".join(said)
