import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import io_faults


def test_a_few_faults_of_each_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strace = shutil.which("strace")
    if not strace or subprocess.run([strace, "true"], capture_output=True).returncode:
        pytest.skip("strace is not installed, or may not trace here")
    monkeypatch.setattr(io_faults, "CALLS", ("write", "pwrite64", "fsync", "fdatasync"))
    monkeypatch.setattr(io_faults, "ERRORS", ("ENOSPC",))
    rows = io_faults.inject(tmp_path, most=2)
    assert {row["operation"] for row in rows} == set(io_faults.OPERATIONS)
    assert all(row["faults"] and not row["broken"] for row in rows)
    by_call = {(row["operation"], row["call"]): row for row in rows}
    assert by_call["save", "write"]["reported"] == 2
