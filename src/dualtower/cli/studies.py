"""Commands that run a whole study: quickstart, study compare, study leak."""

from pathlib import Path
from typing import Annotated

import typer

from dualtower.cli.app import app
from dualtower.cli.common import AsJson, fail, note, print_json, print_standing, print_table

study = typer.Typer(no_args_is_help=True, help="Comparisons whose figures the docs quote.")
app.add_typer(study, name="study")


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
    typer.echo(f"Try:    dualtower recommend {folder / 'bundle'} --query {household} -n 10")


@study.command(epilog="Example: dualtower study compare run.toml --seeds 0,1,2 --final")
def compare(
    config: Annotated[Path, typer.Argument(help="The run's TOML file.", show_default=False)],
    models: Annotated[
        str, typer.Option(help="Names, by commas.")
    ] = "dat,two_tower,ease,item_knn,popularity",
    seeds: Annotated[str, typer.Option(help="Of the trained models, by commas.")] = "0",
    final: Annotated[
        bool,
        typer.Option("--final", help="Fit on train and validation, measure on the test."),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the tables, instead of the file's.", show_default=False),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="The file to write; results/NAME.json without it.", show_default=False),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="For finished runs; runs/NAME without it.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit and measure several models and seeds on one protocol; goes on after a kill."""
    from dualtower.evaluation.results import results_table
    from dualtower.studies.compare import Study, compare_models

    path = results or Path("results") / f"{config.stem}.json"
    plan = Study(
        config_path=config,
        models=tuple(name for name in models.split(",") if name),
        seeds=_numbers(seeds),
        final=final,
        results=path,
        data=data,
        work=work,
    )
    found = compare_models(plan, note)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    typer.echo(results_table(found))
    typer.echo(f"Wrote {path}")


@study.command(epilog="Example: dualtower study leak --data ml-1m --results results/leak.json")
def leak(
    data: Annotated[
        Path,
        typer.Option(
            help="Ratings: ratings.dat, .inter, Parquet or CSV, or a folder with one.",
            show_default=False,
        ),
    ],
    seeds: Annotated[str, typer.Option(help="Of the random splits, by commas.")] = "0,1,2",
    results: Annotated[
        Path | None,
        typer.Option(help="Also write the figures to this results file.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what two mean ratings predict with the test's labels in them, and without."""
    from dualtower.evaluation.results import results_table, write_results
    from dualtower.studies.leak import measure_leak

    found = measure_leak(data, _numbers(seeds), note)
    if results is not None:
        write_results(results, found)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    typer.echo(results_table(found, ["auc"]))


def _numbers(seeds: str) -> tuple[int, ...]:
    numbers = [part for part in seeds.split(",") if part]
    if not numbers or not all(part.isdecimal() for part in numbers):
        fail(f"--seeds: {seeds!r} given; name whole numbers, by commas: 0,1,2")
    return tuple(int(part) for part in numbers)
