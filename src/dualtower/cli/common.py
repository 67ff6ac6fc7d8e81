"""What all commands share: plain errors, JSON on standard output, notes on standard error."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from dualtower.errors import DualtowerError

if TYPE_CHECKING:
    from dualtower.studies.comparison import Standing

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print the result as JSON on standard output, and nothing else."),
]

_PIPED_WIDTH = 160
"""Columns of a table that goes to a file or a pipe, where there is no terminal to ask."""


class PlainErrors(TyperGroup):
    """A group whose commands end with a plain message instead of a trace on foreseen errors."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit status 2 for bad input, 1 where the machine refuses a file.

        Stopped by Ctrl-C it says so, with exit status 130.
        """
        try:
            return super().invoke(ctx)
        except DualtowerError as error:
            fail(str(error), status=2)
        except OSError as error:
            if error.strerror is None:  # of a library, which says it all in its text
                fail(str(error) or type(error).__name__, status=1)
            fail(f"{error.filename or 'file system'}: {error.strerror}", status=1)
        except KeyboardInterrupt:
            note("stopped before it was done")
            raise typer.Exit(130) from None


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


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, left: int = 1
) -> None:
    """Print a table on standard output; the first `left` columns are text, the others numbers.

    Text stands as it is: an id that is a number gets no separators, brackets are no markup.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        cells = (_text(value) if place < left else _cell(value) for place, value in enumerate(row))
        table.add_row(*cells)
    width = None if Console().is_terminal else _PIPED_WIDTH
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    console.print(table)


def print_standing(found: "Standing", title: str) -> None:
    """Print a table of the models' metrics and, below, the verdicts in words."""
    main = next(iter(found.evaluations.values()))
    names = [
        *(f"hit_rate@{cutoff}" for cutoff in main.cutoffs),
        "mrr",
        f"coverage@{main.cutoffs[-1]}",
    ]
    rows = [
        [name, *(evaluation.metrics[metric] for metric in names)]
        for name, evaluation in found.evaluations.items()
    ]
    print_table(title, ["model", *names], rows)
    for difference in found.differences:
        typer.echo(f"- {difference.verdict}")


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}"
    return _text(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
