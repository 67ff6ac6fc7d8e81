"""Table 1: the statistics of a data set."""

from collections.abc import Callable

import numpy as np

from dualtower.data.dataset import Dataset, Split
from dualtower.data.splits import split
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.evaluation.tables import results_table
from dualtower.files import write_text
from dualtower.studies.run import load_or_prepare
from dualtower.studies.study import Study


def table1(study: Study, say: Callable[[str], None]) -> Measurements:
    """Count queries, items, interactions and categories, and write JSON and Markdown.

    Raises:
        ConfigError: the configuration is not valid.
        DataError: a table is not as it should be.
    """
    config = study.config()
    dataset = load_or_prepare(config, say)
    row = statistics(dataset, split(dataset, config.split))
    found = Measurements(
        command=study.command("study table1"),
        protocol="after the filter of the configuration; density is interactions by queries × "
        "items; a category's share is of the interactions of items with a known category",
        versions=versions(),
        processor=processor(),
        runs=({"data": study.config_path.stem, **row},),
    )
    write_results(study.results, found)
    write_text(study.results.with_suffix(".md"), f"{results_table(found)}\n")
    return found


def statistics(dataset: Dataset, parts: Split) -> dict[str, str | int | float]:
    """The figures of Table 1 and a few more, by name.

    `largest_category_share` is 0 where no category is known.
    """
    queries, items = dataset.query_count - 1, dataset.item_count - 1
    events = np.diff(dataset.offsets)[1:]
    of_category = np.bincount(
        dataset.item_categories[dataset.items], minlength=len(dataset.category_vocabulary)
    )[1:]
    known = int(of_category.sum())
    largest = int(np.argmax(of_category)) if known else None
    names = dataset.category_vocabulary
    return {
        "queries": queries,
        "items": items,
        "interactions": dataset.event_count,
        "categories": len(names) - 1,
        "density": dataset.event_count / (queries * items),
        "events_per_query": float(events.mean()),
        "median_events_per_query": float(np.median(events)),
        "largest_category": (
            "–" if largest is None else str(names.decode(np.array([largest + 1]))[0])
        ),
        "largest_category_share": float(of_category.max()) / known if known else 0.0,
        "train": parts.train.event_count,
        "validation": parts.validation.event_count,
        "test": parts.test.event_count,
        "test_queries": len(parts.test.queries()),
        "corpus": len(parts.test.corpus),
    }
