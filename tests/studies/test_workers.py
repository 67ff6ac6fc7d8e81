import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dualtower.studies import workers
from dualtower.studies.orders import Order
from dualtower.studies.worker import Task
from dualtower.studies.workers import Job, run_jobs
from tests.studies.runs import small_study

REASONS = {
    "import sys; sys.exit('no such thing')": "its process ended with status 1: no such thing",
    "import os; print('30%', flush=True); os.kill(os.getpid(), 9)": (
        "its process was ended by SIGKILL (out of memory?)"
    ),
    "import sys": None,
}


def job(folder: Path, label: str) -> Job:
    order = Order(config=small_study(folder).config(), model="popularity", seed=0, final=True)
    return Job(label, label, Task(run=order, output=str(folder / "out.json")))


@pytest.mark.parametrize("program", REASONS)
def test_a_crash_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    real = subprocess.Popen

    def other_program(command: list[str], **options: object) -> object:
        return real([sys.executable, "-c", program], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(workers.subprocess, "Popen", other_program)
    told: dict[str, str | None] = {}
    run_jobs(
        [job(tmp_path, "one"), job(tmp_path, "two")],
        tmp_path,
        at_once=2,
        title="Jobs",
        unit="jobs",
        done=lambda job, crash: told.update({job.label: crash}),
    )
    assert told == {"one": REASONS[program], "two": REASONS[program]}


def test_an_interruption_ends_the_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.Popen
    started: list[subprocess.Popen[bytes]] = []
    programs = iter(["pass", "import sys; sys.stdin.read()"])

    def other_program(command: list[str], **options: object) -> object:
        process = real([sys.executable, "-c", next(programs)], **options)  # type: ignore[call-overload]
        started.append(process)
        return process

    monkeypatch.setattr(workers.subprocess, "Popen", other_program)

    def interrupt(job: Job, crash: str | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(
            [job(tmp_path, "one"), job(tmp_path, "two")],
            tmp_path,
            at_once=2,
            title="Jobs",
            unit="jobs",
            done=interrupt,
        )
    assert sorted(process.wait() for process in started) in ([-signal.SIGKILL, 0], [0])


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Its end of the pipe closes however that process ended; the task would wait for ever."""
    program = (
        "import os, threading; from dualtower.studies import worker;"
        "worker.Task.model_validate_json = lambda text: None;"
        "worker.work = lambda task: threading.Event().wait();"
        f"worker.main([{str(tmp_path / 'task')!r}])"
    )
    (tmp_path / "task").write_text("{}", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait() == 1
