import json
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
