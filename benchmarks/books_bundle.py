"""A trained bundle of Amazon Books' size, made once, for the benchmarks of serving."""

from pathlib import Path

import dualtower as dt
from benchmarks.synthetic import EVENTS, ITEMS, QUERIES, amazon_books_shape
from dualtower.config import TrainingConfig
from dualtower.retrieval.bundle import Bundle
from dualtower.retrieval.manifest import BundleManifest

TASTES = 1_000
SHORT = (1_000, 2_000, 20_000)
"""Queries, items and events of a small one."""


def ready_bundle(folder: Path, short: bool) -> Path:
    """The bundle in `folder`; where nothing is there yet, one is trained, for some minutes.

    Args:
        folder: of the bundle; query ids are 0, 1, 2 …
        short: make a small one.
    """
    if not folder.exists():
        sizes = SHORT if short else (QUERIES, ITEMS, EVENTS)
        make_bundle(folder, *sizes, tastes=20 if short else TASTES)
    return folder


def make_bundle(folder: Path, queries: int, items: int, events: int, tastes: int) -> None:
    """Train a DAT for one epoch on a log of `amazon_books_shape`, and save its bundle."""
    data = amazon_books_shape(queries, items, events, tastes=tastes)
    training = TrainingConfig.of(epochs=1, device="cpu", threads=1)
    model = dt.fit(dt.DAT(), data.everything(), training=training)
    Bundle.build(model, data, fitted_on="all").save(folder)


def described(facts: BundleManifest) -> str:
    """The bundle in half a sentence."""
    counts, index = facts.counts, facts.index
    log = "one epoch on a made log" if made_here(facts) else "a log of its own"
    return (
        f"{counts.corpus:,} items × {facts.dim} of {facts.model} trained on {log} of "
        f"{counts.queries:,} queries and {counts.events:,} events, index {index.kind} with recall "
        f"{index.recall_mean:.3f} (first percentile {index.recall_first_percentile:.2f})"
    )


def made_here(facts: BundleManifest) -> bool:
    """Whether the bundle is of a log that this module made."""
    return "synthetic" in facts.dataset.source
