"""Commands from tables to a measured bundle: init, prepare, fit, evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from dualtower.cli.app import app
from dualtower.cli.common import AsJson, fail, note, print_json, print_standing, print_table

ConfigFile = Annotated[Path, typer.Argument(help="The run's TOML file.", show_default=False)]


@app.command(epilog="Example: dualtower init events.parquet products.csv")
def init(
    tables: Annotated[
        list[Path],
        typer.Argument(help="Parquet or CSV files, or one folder of them.", show_default=False),
    ],
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("dualtower.toml"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it exists.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at your tables and write a commented configuration that runs as it is."""
    from dualtower.data.config_text import config_text
    from dualtower.data.discover import discover
    from dualtower.files import write_text

    if output.exists() and not overwrite:
        fail(f"{output} exists; name another file with --output, or replace it with --overwrite")
    guess = discover(tables)
    text = config_text(guess, output)
    write_text(output, text)
    if as_json:
        print_json({"config": str(output), "notes": guess.notes})
        return
    for line in guess.notes:
        typer.echo(f"- {line}")
    typer.echo(f"Wrote {output}. Look it over, then: dualtower fit {output}")


@app.command(epilog="Example: dualtower prepare dualtower.toml")
def prepare(config: ConfigFile, as_json: AsJson = False) -> None:
    """Read, check and encode the tables into a dataset on disk."""
    from dualtower.config import load_config
    from dualtower.data.prepare import prepare as prepare_dataset
    from dualtower.studies.inspection import describe_dataset

    settings = load_config(config)
    dataset = prepare_dataset(settings, progress=True)
    description = describe_dataset(dataset, Path(settings.data.dataset))
    if as_json:
        print_json(description)
        return
    typer.echo(
        f"{settings.data.dataset}: {description['events']:,} events of {description['queries']:,} "
        f"queries on {description['items']:,} items"
    )


@app.command(epilog="Example: dualtower fit dualtower.toml --on train+validation --epochs 6")
def fit(
    config: ConfigFile,
    on: Annotated[
        str,
        typer.Option(
            help="train (stops early on validation), train+validation, or all (no test is left)."
        ),
    ] = "train",
    model: Annotated[
        str | None,
        typer.Option(
            help="dat, two_tower, fm, youtube_dnn, mind or sasrec, instead of the file's.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Instead of the file's.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Instead of the file's.", show_default=False)
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder, instead of the file's.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit the model and write it as a bundle, with its index; prepare the dataset if need be."""
    from dualtower.config import load_config
    from dualtower.studies.run import changed, fit_bundle

    settings = changed(load_config(config), model=model, epochs=epochs, seed=seed, bundle=bundle)
    try:
        fitted = fit_bundle(settings, on, say=note)
    except KeyboardInterrupt:
        checkpoint = settings.training.checkpoint
        note(
            f"No bundle is written; training.checkpoint is not set in {config}, so the next run "
            "begins anew."
            if checkpoint is None
            else f"No bundle is written; the same command goes on from the last whole epoch, which "
            f"is in {checkpoint}."
        )
        raise
    description = fitted.to_dict()
    if as_json:
        print_json(description)
        return
    print_table(
        f"{description['model']}, fitted on {on} in {description['seconds']:.0f} s",
        ["epoch", "loss", f"validation {settings.training.validation_metric}", "seconds"],
        [
            [str(epoch["epoch"]), epoch["loss"], epoch["metric"], f"{epoch['seconds']:.1f}"]
            for epoch in description["epochs"]
        ],
    )
    typer.echo(f"Wrote {settings.bundle.path}. Next: dualtower evaluate {config}")


@app.command(epilog="Example: dualtower evaluate dualtower.toml")
def evaluate(
    config: ConfigFile,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder, instead of the file's.", show_default=False)
    ] = None,
    on: Annotated[str, typer.Option(help="test or validation.")] = "test",
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html and report.json.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a bundle on the test events, beside the baselines that the file names."""
    from dualtower.config import load_config
    from dualtower.studies.measure import measure_bundle
    from dualtower.studies.run import changed

    settings = changed(load_config(config), bundle=bundle)
    found = measure_bundle(settings, on, note, report=report)
    if as_json:
        print_json(found.to_dict())
        return
    print_standing(found, f"On the {on} events, each target ranked among all items")
