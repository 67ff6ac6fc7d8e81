"""What a bundle's manifest says."""

import hashlib
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from dualtower.data.columns import FeatureSpace
from dualtower.data.dataset import Dataset
from dualtower.files import BUNDLE_FORMAT
from dualtower.schema import Schema
from dualtower.versions import package_versions

FORMAT = BUNDLE_FORMAT
VERSION = 1

_PACKAGES = ("dualtower", "torch", "faiss-cpu", "numpy", "polars", "safetensors")
_EVENTS_AT_ONCE = 16_000_000


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IndexFacts(_Part):
    """How the index is built at load, and how good it was when the bundle was built."""

    kind: Literal["flat", "ivf", "hnsw", "compressed"]
    seed: int
    effort: int
    """Clusters looked into or candidates kept by a search; found at build."""
    parameters: dict[str, int]
    """All of the kind's parameters, for reading."""
    recall_at: int
    """The k of the recall figures."""
    recall_queries: int
    """How many queries they were measured on."""
    recall_mean: float
    recall_first_percentile: float
    recall_minimum: float


class Counts(_Part):
    """Sizes, without the unknown rows."""

    queries: int
    items: int
    categories: int
    corpus: int
    events: int


class DatasetFacts(_Part):
    """Which dataset the bundle was built from."""

    fingerprint: str
    """Of the encoded log, see `dataset_fingerprint`."""
    source: dict[str, Any]
    """The dataset's own account of where it came from."""


class BundleManifest(_Part):
    """All about a bundle that is not an array."""

    model: str
    """The model's name in `dualtower.models.MODELS`."""
    config: dict[str, Any]
    """The model's configuration."""
    fitted_on: str
    """The events that the model was fitted on: train, train+validation, all, …"""
    training: dict[str, Any] = {}
    """The settings of its training; none where it has none, or was loaded from another bundle."""
    dim: int
    """Length of the vectors."""
    normalised: bool
    """Whether all item vectors are of length 1, so that scores are cosines."""
    counts: Counts
    index: IndexFacts
    dataset: DatasetFacts
    columns: Schema
    space: FeatureSpace
    """The sizes that the model was built from."""
    feature_vocabularies: tuple[str, ...]
    """`side/name` of each feature vocabulary, in the order of their files."""
    numeric_scales: dict[str, tuple[float, float]]
    versions: dict[str, str]
    """Packages and Python that built the bundle."""


def dataset_fingerprint(dataset: Dataset) -> str:
    """SHA-256 of the encoded log, in hex: whether two datasets hold the same events in order.

    Vocabularies enter by their values, features not.
    """
    digest = hashlib.sha256(np.ascontiguousarray(dataset.offsets).tobytes())
    for start in range(0, dataset.event_count, _EVENTS_AT_ONCE):
        part = dataset.items[start : start + _EVENTS_AT_ONCE]
        digest.update(np.ascontiguousarray(part).tobytes())
    for vocabulary in (dataset.query_vocabulary, dataset.item_vocabulary):
        digest.update(vocabulary.values.cast(pl.String).str.join("\0").item().encode())
    return digest.hexdigest()


def bundle_versions() -> dict[str, str]:
    """Versions of Python and of the packages that a bundle's numbers depend on."""
    return package_versions(_PACKAGES)
