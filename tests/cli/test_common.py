import errno

import pytest
import typer
from typer.testing import CliRunner

from dualtower.cli.common import PlainErrors, print_table


def test_ids_and_texts_stand_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(1082185, "[red] ale [/b] :beer:", 1082185, 0.5, None, True)]
    print_table("", ["item", "name", "events", "score", "none", "seen"], rows, left=2)
    line = capsys.readouterr().out.splitlines()[-2]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["1082185", "[red] ale [/b] :beer:", "1,082,185", "0.5000", "", "yes"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left", "a/b"), "error: a/b: No space left"),
        (OSError(errno.ENOSPC, "No space left"), "error: file system: No space left"),
        (OSError("scratch: could not be written"), "error: scratch: could not be written"),
        (OSError(), "error: OSError"),
    ],
)
def test_what_the_machine_refuses_is_told_without_a_trace(error: OSError, message: str) -> None:
    app = typer.Typer(cls=PlainErrors)

    @app.callback(invoke_without_command=True)
    def fail() -> None:
        raise error

    result = CliRunner().invoke(app, [])
    assert (result.exit_code, result.stderr.strip()) == (1, message)
