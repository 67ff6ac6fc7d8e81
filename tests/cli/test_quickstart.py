import sys

import pytest

from dualtower.cli.quickstart import _command


def test_the_command_to_try_is_one_that_the_shell_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/dualtower", "quickstart"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert _command() == ".venv/bin/dualtower"
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert _command() == "dualtower"
