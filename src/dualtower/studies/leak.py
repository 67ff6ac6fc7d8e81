"""What two means of ratings predict when the test's own labels are in them, and when they are not.

Some published tables with DAT as a baseline feed every model the mean label of the pair's user and
of its item, taken over the rows of the test itself: docs/published-baselines.md.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualtower.data.readers.ratings import Ratings, read_ratings
from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.results import (
    DataSource,
    Results,
    Run,
    peak_memory_mb,
    processor,
    versions,
)
from dualtower.studies.logistic import Floats, area_under_curve, fit_logistic, scores_of

NEUTRAL = 3.0
"""Ratings of this are left out; above it is label 1, below it label 0."""
TEST_SHARE = 0.2
LEAKED, HONEST = "means_of_test_labels", "means_of_training_labels"

PROTOCOL = (
    "ratings above 3 are label 1, below 3 label 0, 3 left out; a random fifth of the pairs is the "
    "test; a logistic regression of the mean label of the pair's user and of its item, fitted on "
    "the training pairs with the training means; on the test pairs the two means are those of the "
    "test labels, or those of the training labels (of all of them for a user or item without one)"
)


def measure_leak(data: str | Path, seeds: Sequence[int], say: Callable[[str], None]) -> Results:
    """The leaked and the honest means on the same split and with the same regression.

    Args:
        data: ratings, as `read_ratings` takes them.
        seeds: of the random splits.
        say: is told each result in a line.

    Raises:
        ConfigError: no seeds.
        DataError: the ratings cannot be read, or too few are left to split.
    """
    if not seeds:
        raise ConfigError("--seeds: names no seed; at least one is needed")
    ratings = read_ratings(data)
    runs = []
    for seed in seeds:
        start = time.monotonic()
        found = leaked_and_honest(ratings, seed)
        seconds = time.monotonic() - start
        for name, auc in found.items():
            say(f"{name}, seed {seed}: auc {auc:.4f}")
            runs.append(
                Run(
                    model=name,
                    seed=seed,
                    metrics={"auc": auc},
                    seconds=round(seconds, 1),
                    peak_memory_mb=round(peak_memory_mb()),
                )
            )
    return Results(
        command="dualtower study leak --data FOLDER "
        f"--seeds {','.join(str(seed) for seed in seeds)} --results results/leak.json",
        data=DataSource(name=ratings.name, sha256=ratings.sha256),
        protocol=PROTOCOL,
        preset="none",
        versions=versions(),
        processor=processor(),
        runs=tuple(sorted(runs, key=lambda run: run.model != LEAKED)),
    )


def leaked_and_honest(ratings: Ratings, seed: int) -> dict[str, float]:
    """The AUC on a random test with the means of the test's labels, and of the training's.

    Raises:
        DataError: training or test lack a label.
    """
    kept = np.flatnonzero(ratings.values != NEUTRAL)
    order = np.random.default_rng(seed).permutation(kept)
    test, train = np.split(order, [round(TEST_SHARE * len(order))])
    labels = (ratings.values > NEUTRAL).astype(np.float64)
    for name, rows in (("training", train), ("test", test)):
        if len(np.unique(labels[rows])) < 2:
            raise DataError(
                f"{ratings.name}: the {name} pairs have ratings on one side of {NEUTRAL:g} only; "
                "more ratings are needed"
            )

    def means(source: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> Floats:
        sides = (ratings.users, ratings.items)
        return np.column_stack([_means(side, labels, source)[side[rows]] for side in sides])

    weights = fit_logistic(means(train, train), labels[train])
    return {
        name: area_under_curve(scores_of(means(source, test), weights), labels[test])
        for name, source in ((LEAKED, test), (HONEST, train))
    }


def _means(ids: npt.NDArray[np.int64], labels: Floats, rows: npt.NDArray[np.int64]) -> Floats:
    """Mean label over `rows` by id; the mean of all where an id has none."""
    count = int(ids.max()) + 1
    sums = np.bincount(ids[rows], weights=labels[rows], minlength=count)
    counts = np.bincount(ids[rows], minlength=count)
    return np.where(counts > 0, sums / np.maximum(counts, 1), labels[rows].mean())
