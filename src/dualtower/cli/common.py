"""What all commands share: plain errors, JSON on standard output, notes on standard error."""

import json
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from dualtower.errors import DualtowerError

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print the result as JSON on standard output, and nothing else."),
]


class PlainErrors(TyperGroup):
    """A group whose commands end with a plain message instead of a trace on foreseen errors."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit status 2 for bad input, 1 where the machine refuses a file."""
        try:
            return super().invoke(ctx)
        except DualtowerError as error:
            fail(str(error), status=2)
        except OSError as error:
            if error.filename is None and error.strerror is None:
                raise
            fail(f"{error.filename or 'file system'}: {error.strerror or error}", status=1)


def fail(message: str, status: int = 2) -> NoReturn:
    """Print `message` on standard error and end with `status`."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(status)


def note(message: str) -> None:
    """Tell the user something on standard error, where it does not disturb the result."""
    typer.echo(message, err=True)


def print_json(value: Any) -> None:
    """Print `value` as JSON on standard output; numbers that JSON lacks (infinity) become null."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
