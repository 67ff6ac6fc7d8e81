"""A training run whose process is really killed, and that goes on to the same bits."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualtower import files
from dualtower.models.dat import DAT
from dualtower.training.loop import train
from dualtower.training.objective import Objective
from tests.training.runs import WINDOWS_LEAVE_OUT, dat, loop, same, small_split

ROOT = Path(__file__).parents[2]


def run(checkpoint: str) -> DAT:
    """Four epochs of eight or nine steps, with a checkpoint after each."""
    model_settings, training_settings = WINDOWS_LEAVE_OUT
    model = dat(**model_settings)
    settings = {**training_settings, "epochs": 4, "threads": 1, "checkpoint": checkpoint}
    train(model, small_split().train, loop(**settings), progress=False)
    return model


def kill_at(owner: Any, function: str, call: int) -> None:
    """Let this process be killed when a function is called for the so-manieth time."""
    original, calls = getattr(owner, function), []

    def counted(*arguments: Any) -> Any:
        calls.append(function)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    setattr(owner, function, counted)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_killed_process_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed at a random step after the first checkpoint; between the renames of another one."""
    step = int(np.random.default_rng(0).integers(10, 30))
    checkpoints = {"observe": (str(tmp_path / "step"), step), "replace": (str(tmp_path / "put"), 5)}
    code = "from tests.training import test_kill; test_kill.main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((f"{ROOT / 'src'}", f"{ROOT}"))}
    children = [
        subprocess.Popen([sys.executable, "-c", code, name, *map(str, how)], env=environment)
        for name, how in checkpoints.items()
    ]
    whole = run(str(tmp_path / "whole"))
    assert [child.wait() for child in children] == [-signal.SIGKILL] * 2
    assert (tmp_path / "step").is_dir()
    assert not (tmp_path / "put").exists()
    assert (tmp_path / ".put.old").is_dir()
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    for folder, _ in checkpoints.values():
        resumed = run(folder)
        assert same(whole, resumed)
        assert resumed.record is not None
        assert len(resumed.record.epochs) == 4


def main() -> None:
    """Run in a process of its own: train, and be killed on the way."""
    function, checkpoint, call = sys.argv[1:]
    kill_at(Objective if function == "observe" else files.os, function, int(call))
    run(checkpoint)
