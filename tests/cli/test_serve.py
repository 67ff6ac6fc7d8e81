import json
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dualtower.cli import app

RUN = CliRunner()


def test_nothing_beyond_this_machine_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUALTOWER_TOKEN", raising=False)
    result = RUN.invoke(app, ["serve", "bundle", "--host", "0.0.0.0"])
    assert result.exit_code == 2
    assert "set DUALTOWER_TOKEN" in result.output


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dualtower.serving.run", None)
    result = RUN.invoke(app, ["serve", "bundle"])
    assert result.exit_code == 2
    assert "pip install 'dualtower[serve]'" in result.output


def test_no_such_bundle(tmp_path: Path) -> None:
    result = RUN.invoke(app, ["serve", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "no such folder" in result.output


def test_json_makes_each_message_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "dualtower.serving.run.run", lambda folder, settings, experiment, tell: tell("up")
    )
    result = RUN.invoke(app, ["serve", "bundle", "--json"])
    assert json.loads(result.stdout) == {"message": "up"}


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = RUN.invoke(app, ["serve", str(tmp_path / "none"), "--port", str(port)])
    assert result.exit_code == 2
    assert f"127.0.0.1:{port}: another process listens there" in result.output
    assert "--port" in result.output


def test_an_address_that_is_not_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALTOWER_TOKEN", "a-token-of-sixteen-letters")
    result = RUN.invoke(app, ["serve", "bundle", "--host", "192.0.2.1"])
    assert result.exit_code == 2
    assert "192.0.2.1:8000: cannot listen there (Cannot assign requested address)" in result.output
