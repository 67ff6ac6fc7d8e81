"""The command that shows everything on real data: quickstart."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from dualtower.cli.app import app
from dualtower.cli.common import AsJson, note, print_json, print_standing, print_table


@app.command(epilog="Example: dualtower quickstart --folder quickstart")
def quickstart(
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("quickstart"),
    results: Annotated[
        Path | None,
        typer.Option(help="Also write the figures to this results file.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Do everything on real grocery baskets: train, compare, index, recommend, report."""
    from dualtower.studies.quickstart import run_quickstart

    done = run_quickstart(folder, note, results=results)
    if as_json:
        print_json(done.to_dict())
        return
    print_standing(done.standing, "Products new to a household, bought in the last two weeks")
    print_table(
        "Ten products for some households",
        done.examples.columns,
        done.examples.iter_rows(),
        left=4,
    )
    typer.echo(f"Report: {folder / 'report.html'}")
    household = done.examples["household"][0]
    bundle = folder / "bundle"
    typer.echo(f"Try:    {_command()} recommend {bundle} --query {household} -n 10")


def _command() -> str:
    """How the shell finds the command: `make quickstart` leaves it in an environment."""
    return "dualtower" if shutil.which("dualtower") else sys.argv[0]
