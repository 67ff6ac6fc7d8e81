"""A small trained bundle, made in seconds, for the benchmarks of faults."""

from pathlib import Path

import numpy as np
import polars as pl

import dualtower as dt
from dualtower.config import TrainingConfig
from dualtower.retrieval.bundle import Bundle

QUERIES = 200
ITEMS = 120
EVENTS = 12


def make_bundle(path: Path) -> Bundle:
    """Fit a DAT for an epoch on walks around a ring of items, and save its bundle at `path`.

    Queries are "q0" … "q199", items "i0" … "i119".
    """
    rng = np.random.default_rng(0)
    first = rng.integers(ITEMS, size=(QUERIES, 1))
    walks = (first + rng.integers(1, 4, size=(QUERIES, EVENTS)).cumsum(axis=1)) % ITEMS
    events = pl.DataFrame(
        {
            "user_id": [f"q{row}" for row in np.repeat(np.arange(QUERIES), EVENTS)],
            "item_id": [f"i{item}" for item in walks.ravel()],
            "position": np.tile(np.arange(EVENTS), QUERIES),
        }
    )
    items = pl.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(ITEMS)],
            "category": [f"c{item % 5}" for item in range(ITEMS)],
        }
    )
    data = dt.Dataset.from_frames(events, items=items)
    model = dt.DAT(embedding_dim=8, output_dim=8, augmented_dim=8, hidden_dims=(16,))
    training = TrainingConfig.of(epochs=1, batch_size=256, device="cpu")
    dt.fit(model, data.everything(), training=training, progress=False)
    return Bundle.build(model, data, fitted_on="all", progress=False).save(path)
