"""Small training runs for the tests of this room."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.config import ModelConfig, TrainingConfig
from dualtower.data.columns import FeatureColumn
from dualtower.data.dataset import Dataset, Split
from dualtower.data.vocabulary import Vocabulary
from dualtower.models.dat import DAT
from dualtower.models.two_tower import TwoTower
from dualtower.schema import Feature, FeatureKind
from tests.helpers import leave_last_out_by_hand, tiny_dataset

WINDOWS_LEAVE_OUT = (
    {"history_length": 4, "embedding_dropout": 0.2, "id_dropout": 0.1},
    {"batch_size": 24, "negative_count": 8},
)
"""Model and training settings: the recommended way, small, with all its randomness."""
PAIRS_LEARNED = (
    {
        "history": False,
        "query_id": True,
        "augmented": "learned",
        "lambda_ca": 0.1,
        "ca_momentum": 0.9,
    },
    {
        "examples": "pairs",
        "batch_size": 24,
        "loss": "binary_cross_entropy",
        "negatives": "per_positive",
        "negative_count": 2,
        "schedule": "constant",
    },
)
"""Model and training settings: the paper's way, with a linear last layer."""


def small_dataset(seed: int = 0, queries: int = 16) -> Dataset:
    """Queries that walk around a ring of 20 items, with steps of 1 or 2, twelve events each."""
    rng = np.random.default_rng(seed)
    walks = (rng.integers(20) + rng.integers(1, 3, size=12).cumsum() for _ in range(queries))
    colour = Feature(name="colour", kind=FeatureKind.CATEGORICAL)
    return tiny_dataset(
        [(walk % 20 + 1).tolist() for walk in walks],
        item_count=21,
        categories=["abc"[row % 3] for row in range(1, 21)],
        item_features={
            "colour": FeatureColumn(colour, (np.arange(21, dtype=np.int32) % 4).astype(np.int32))
        },
        feature_vocabularies={"item/colour": Vocabulary(pl.Series(["red", "green", "blue"]))},
    )


def small_split() -> Split:
    """Training, validation and test of `small_dataset`."""
    return leave_last_out_by_hand(small_dataset())


def dat(**settings: Any) -> DAT:
    """A DAT of 8 dimensions."""
    sizes = {"embedding_dim": 8, "output_dim": 8, "augmented_dim": 8, "hidden_dims": (16,)}
    return DAT(ModelConfig.of("dat", **{**sizes, **settings}))


def loop(**settings: Any) -> TrainingConfig:
    """Three epochs on one CPU thread's default device."""
    return TrainingConfig.of(**{"epochs": 3, "device": "cpu", **settings})


def same(one: TwoTower, other: TwoTower) -> bool:
    """Whether every bit of two models' states is the same."""
    left, right = one.state(), other.state()
    return left.keys() == right.keys() and all(equal(left[name], right[name]) for name in left)


def equal(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Whether two arrays agree bit for bit."""
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()
