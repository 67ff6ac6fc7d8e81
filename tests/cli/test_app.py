import os
import subprocess
import sys

from typer.testing import CliRunner

import dualtower
from dualtower.cli import app


def test_version_is_printed_and_nothing_else() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"dualtower {dualtower.__version__}\n"


def test_help_does_not_load_pytorch() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from dualtower.cli import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "print([name for name in ('torch', 'polars', 'faiss') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert run.stdout.strip() == "[]", run.stderr
