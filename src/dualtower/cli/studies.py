"""Commands whose figures the docs quote: tune, and the studies by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualtower.cli.app import app
from dualtower.cli.common import AsJson, fail, note, print_json

if TYPE_CHECKING:
    from pydantic import BaseModel

    from dualtower.studies.study import Study

study = typer.Typer(no_args_is_help=True, help="Comparisons whose figures the docs quote.")
app.add_typer(study, name="study")

ConfigFile = Annotated[Path, typer.Argument(help="The run's TOML file.", show_default=False)]
Seeds = Annotated[str, typer.Option(help="Of the models that have one, by commas.")]
Models = Annotated[str, typer.Option(help="Names of models and variants, by commas.")]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder of the tables, instead of the file's.", show_default=False),
]
Work = Annotated[
    Path | None,
    typer.Option(help="For dataset and finished runs; runs/NAME without it.", show_default=False),
]
TunedFile = Annotated[
    Path | None,
    typer.Option(help="What `dualtower tune` wrote: its settings are used.", show_default=False),
]
OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--results",
        help="The JSON file to write, Markdown and plot beside it; results/STUDY-CONFIG.json "
        "without it.",
        show_default=False,
    ),
]
Jobs = Annotated[
    int, typer.Option(min=1, help="Processes at a time; of several, each has one thread.")
]
Validation = Annotated[
    bool,
    typer.Option("--validation", help="Fit on train, measure on validation; not the test."),
]

_MODELS = "dat,two_tower,ease,item_knn,popularity"


@app.command(epilog="Example: dualtower tune run.toml --models dat,two_tower --trials 20")
def tune(
    config: ConfigFile,
    models: Models = _MODELS,
    trials: Annotated[int, typer.Option(min=1, help="The most of each model.")] = 20,
    minutes: Annotated[
        float, typer.Option(min=0.01, help="The most of each model, all its trials together.")
    ] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    pruning: Annotated[
        str, typer.Option(help="median (stop trials that fall behind the others) or none.")
    ] = "median",
    keep: Annotated[
        str,
        typer.Option(help="Dimensions that stay as configured, by commas.", show_default=False),
    ] = "",
    tries: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            help="DIMENSION=VALUE, several by semicolons: try that right after the configuration, "
            "or next where trials are done, for every model that has it. May be given again.",
            show_default=False,
        ),
    ] = None,
    confirm: Annotated[
        int,
        typer.Option(
            min=0, help="Fit each model's best trials with so many more seeds; the best mean wins."
        ),
    ] = 0,
    data: Data = None,
    results: OutputFile = None,
    work: Work = None,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """Search the best settings of several models on validation; goes on after a kill."""
    from dualtower.studies.study import Study
    from dualtower.studies.tune import TunePlan, tune_models
    from dualtower.studies.tuned import tuned_table

    if pruning not in ("median", "none"):
        fail(f"--pruning: {pruning!r} given; it must be median or none")
    path = _output("tuned", config, results)
    plan = TunePlan(
        study=Study(config_path=config, results=path, data=data, work=work, jobs=jobs),
        models=_names(models),
        trials=trials,
        minutes=minutes,
        seed=seed,
        pruning=pruning == "median",
        keep=_names(keep),
        tries=tuple(_changes(text) for text in tries or ()),
        confirm=confirm,
    )
    found = tune_models(plan, note)
    _show(found, as_json, tuned_table(found), path)


@study.command(epilog="Example: dualtower study table1 run.toml")
def table1(
    config: ConfigFile,
    data: Data = None,
    results: OutputFile = None,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Count queries, items, interactions and categories, as the paper's Table 1."""
    from dualtower.evaluation.tables import results_table
    from dualtower.studies import table1 as module
    from dualtower.studies.study import Study

    path = _output("table1", config, results)
    found = module.table1(Study(config_path=config, results=path, data=data, work=work), note)
    _show(found, as_json, results_table(found), path, plot=False)


@study.command(epilog="Example: dualtower study table2 run.toml --seeds 0,1,2 --jobs 2")
def table2(
    config: ConfigFile,
    models: Models = _MODELS,
    seeds: Seeds = "0",
    validation: Validation = False,
    tuned: TunedFile = None,
    data: Data = None,
    results: OutputFile = None,
    work: Work = None,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """Compare models on the test, as the paper's Table 2; goes on after a kill."""
    from dualtower.studies import table2 as module

    plan = _study("table2", config, seeds, not validation, data, results, work, tuned, jobs)
    found = module.table2(plan, _names(models), note)
    _show(found, as_json, module.markdown(found), plan.results)


@study.command(epilog="Example: dualtower study figure2 run.toml --dims 8,16,32,64,128")
def figure2(
    config: ConfigFile,
    dims: Annotated[
        str, typer.Option(help="Lengths of the augmented vectors, by commas.")
    ] = "8,16,32,64,128",
    seeds: Seeds = "0,1,2",
    forms: Annotated[
        str, typer.Option(help="leave_out, learned or both, by commas.")
    ] = "leave_out,learned",
    validation: Validation = False,
    tuned: TunedFile = None,
    data: Data = None,
    results: OutputFile = None,
    work: Work = None,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """Measure DAT over the length of its augmented vectors, as the paper's Figure 2."""
    from dualtower.evaluation.tables import results_table
    from dualtower.studies import figure2 as module

    plan = _study("figure2", config, seeds, not validation, data, results, work, tuned, jobs)
    found = module.figure2(plan, _numbers("--dims", dims), note, forms=_names(forms))
    _show(found, as_json, results_table(found), plan.results)


@study.command(epilog="Example: dualtower study factors run.toml --factors history,temperature")
def factors(
    config: ConfigFile,
    names: Annotated[
        str,
        typer.Option("--factors", help="Names, by commas; all without.", show_default=False),
    ] = "",
    model: Annotated[str, typer.Option(help="What is varied.")] = "dat",
    seeds: Seeds = "0,1",
    noise_seeds: Annotated[
        str,
        typer.Option(
            help="More, by commas, of the model as configured alone, to tell what is chance.",
            show_default=False,
        ),
    ] = "",
    final: Annotated[
        bool,
        typer.Option("--final", help="Fit on train and validation, measure on the test."),
    ] = False,
    tuned: TunedFile = None,
    data: Data = None,
    results: OutputFile = None,
    work: Work = None,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """Vary one setting at a time on validation, and show what it changes; goes on after a kill."""
    from dualtower.studies import factors as module

    plan = _study("factors", config, seeds, final, data, results, work, tuned, jobs)
    extra = _numbers("--noise-seeds", noise_seeds) if noise_seeds else ()
    found = module.factors(plan, note, model=model, names=_names(names), noise_seeds=extra)
    _show(found, as_json, module.markdown(found, model), plan.results)


@study.command(epilog="Example: dualtower study live run.toml --period-share 0.2 --jobs 2")
def live(
    config: ConfigFile,
    period_share: Annotated[
        float | None,
        typer.Option(
            help="Replay the last share of each query's events, instead of the split's test.",
            show_default=False,
        ),
    ] = None,
    held_share: Annotated[
        float, typer.Option(help="Share of the queries that training never sees.")
    ] = 0.1,
    counts: Annotated[
        str, typer.Option(help="Events after which those are measured, by commas.")
    ] = "0,1,2,3,5,10",
    trained_at: Annotated[
        int, typer.Option(help="The count at which training with the events is the measure.")
    ] = 5,
    questions: Annotated[
        str, typer.Option(help="Which are asked, by commas: period, held_out.")
    ] = "period,held_out",
    seeds: Seeds = "0",
    tuned: TunedFile = None,
    data: Data = None,
    results: OutputFile = None,
    work: Work = None,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """Replay events one by one with live and frozen vectors; goes on after a kill."""
    from dualtower.studies import live as module

    study = _study("live", config, seeds, True, data, results, work, tuned, jobs)
    plan = module.LivePlan(
        study, period_share, held_share, _numbers("--counts", counts), trained_at, _names(questions)
    )
    found = module.live(plan, note)
    _show(found, as_json, module.markdown(found, plan), study.results)


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
    from dualtower.evaluation.results import write_results
    from dualtower.evaluation.tables import results_table
    from dualtower.studies.leak import measure_leak

    found = measure_leak(data, _numbers("--seeds", seeds), note)
    if results is not None:
        write_results(results, found)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    typer.echo(results_table(found, ["auc"]))


def _study(
    name: str,
    config: Path,
    seeds: str,
    final: bool,
    data: Path | None,
    results: Path | None,
    work: Path | None,
    tuned: Path | None,
    jobs: int,
) -> "Study":
    from dualtower.studies.study import Study

    return Study(
        config_path=config,
        results=_output(name, config, results),
        seeds=_numbers("--seeds", seeds),
        final=final,
        data=data,
        work=work,
        tuned=tuned,
        jobs=jobs,
    )


def _output(name: str, config: Path, results: Path | None) -> Path:
    path = results or Path("results") / f"{name}-{config.stem}.json"
    if path.suffix != ".json":
        fail(f"--results: {path} given; name a .json file")
    return path


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _changes(text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(";")]
    if not all(name.strip() and value.strip() for name, _, value in parts):
        fail(f"--try: {text!r} given; write dimension=value, several by semicolons")
    changes = {name.strip(): value.strip() for name, _, value in parts}
    if len(changes) < len(parts):
        fail(f"--try: {text!r} names a dimension twice")
    return changes


def _numbers(option: str, text: str) -> tuple[int, ...]:
    numbers = [part.strip() for part in text.split(",") if part.strip()]
    if not numbers or not all(part.isdecimal() for part in numbers):
        fail(f"{option}: {text!r} given; name whole numbers, by commas: 0,1,2")
    return tuple(int(part) for part in numbers)


def _show(found: "BaseModel", as_json: bool, table: str, path: Path, *, plot: bool = True) -> None:
    """What was found, as JSON or as a table with where it was written."""
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    typer.echo(table)
    beside = [path.with_suffix(".md").name, *([path.with_suffix(".svg").name] if plot else [])]
    typer.echo(f"Wrote {path}, {' and '.join(beside)}")
