"""The application that the `dualtower` script runs, and its options."""

from typing import Annotated

import typer

import dualtower
from dualtower.cli.common import PlainErrors

app = typer.Typer(
    cls=PlainErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Retrieval for recommenders: from interaction logs to served candidates.",
    epilog="Start here: dualtower quickstart, or dualtower init YOUR_TABLES.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dualtower {dualtower.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""
