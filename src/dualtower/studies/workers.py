"""Processes for a study's work, so many at once, and what became of each."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import dualtower
from dualtower.files import write_json
from dualtower.progress import progress_bar
from dualtower.studies.worker import Task

_THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
)

_LOOK_SECONDS = 1.0
"""How often the progress bar looks for steps that are done."""


@dataclass(frozen=True)
class Job:
    """A task and the name it has in notes and file names."""

    label: str
    stem: str
    """Of the task's and the log's file."""
    task: Task


@dataclass
class _Started:
    """Processes that run, to be ended if this one is told to stop; none begins after that."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    stopping: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(
        self, task: Path, output: IO[bytes], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes] | None:
        """Start the worker for a task; None if all is to stop."""
        with self.lock:
            if self.stopping:
                return None
            process = subprocess.Popen(
                [sys.executable, "-m", "dualtower.studies.worker", str(task)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
            )
            self.processes.append(process)
            return process

    def stop(self) -> None:
        """End all."""
        with self.lock:
            self.stopping = True
            for process in self.processes:
                process.kill()


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    *,
    at_once: int,
    title: str,
    unit: str,
    done: Callable[[Job, str | None], None],
    steps: tuple[int, Callable[[], int]] | None = None,
) -> None:
    """Do every job in a process of its own.

    Args:
        jobs: in the order they are begun.
        folder: for the tasks' files and logs (`logs/`).
        at_once: how many processes run at a time; with more than one, each has one thread.
        title: of the progress bar.
        unit: what a step of it is, in the plural.
        done: is told of each job that ended, in this thread: None, or why it crashed.
        steps: how many steps there are, and what counts those that are done; a step is a job
            without it.
    """
    started, ended = _Started(), 0
    total, count = steps or (len(jobs), lambda: ended)
    shown = count()
    with (
        progress_bar(title, total, unit, done=shown) as bar,
        ThreadPoolExecutor(at_once) as pool,
    ):
        threads = 1 if at_once > 1 else None
        waiting = {pool.submit(run_job, job, folder, threads, started): job for job in jobs}
        try:
            while waiting:
                finished, _ = wait(waiting, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = waiting.pop(future)
                    ended += 1
                    done(job, future.result())
                now = count()
                bar.advance(now - shown)
                shown = now
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            started.stop()
            raise


def run_job(job: Job, folder: Path, threads: int | None, started: _Started) -> str | None:
    """Do a job in a process of its own; None, or why it crashed."""
    task, log = folder / "tasks" / f"{job.stem}.json", folder / "logs" / f"{job.stem}.log"
    write_json(task, job.task.model_dump(mode="json"))
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": _with_package(os.environ.get("PYTHONPATH"))}
    if threads is not None:
        environment |= dict.fromkeys(_THREAD_SETTINGS, str(threads))
    with open(log, "wb") as output:
        process = started.begin(task, output, environment)
        if process is None:
            return "stopped before it began"
        status = process.wait()
    if process.stdin is not None:
        process.stdin.close()
    task.unlink(missing_ok=True)
    return None if status == 0 else _reason(status, log)


def _with_package(path: str | None) -> str:
    """The search path of modules with this very package first."""
    own = str(Path(dualtower.__file__).parent.parent)
    return own if not path else os.pathsep.join([own, path])


def _reason(status: int, log: Path) -> str:
    if status < 0:  # the log's last line tells how far it was, not why it ended
        words = f"its process was ended by {signal.Signals(-status).name}"
        return f"{words} (out of memory?)" if -status == signal.SIGKILL else words
    words = f"its process ended with status {status}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{words}: {lines[-1]}" if lines else words
