"""The encoded dataset on disk: `.npy` arrays, Parquet vocabularies and a manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.arrays import (
    Events,
    EventWriter,
    array_file,
    column_names,
    memory_map,
    query_chunks,
    read_events,
    save_array,
)
from dualtower.data.columns import FeatureColumn
from dualtower.data.dataset import Dataset
from dualtower.data.vocabulary import Vocabulary
from dualtower.errors import BundleError
from dualtower.files import (
    DATASET_FORMAT,
    read_folder,
    read_manifest,
    replacing_folder,
    write_manifest,
)
from dualtower.schema import Feature, Schema

FORMAT = DATASET_FORMAT
FORMAT_VERSION = 1


def save(dataset: Dataset, path: str | Path) -> None:
    """Write the dataset into folder `path`, in place of what is there.

    Raises:
        ConfigError: the folder holds anything but an older dataset, or is a mount point.
        OSError: the folder cannot be written.
    """
    with replacing_folder(path, FORMAT) as folder:
        writer = EventWriter(folder)
        events = Events(
            dataset.items, dataset.times, dataset.weights, dataset.split, dataset.context_features
        )
        for first, last in query_chunks(dataset.offsets):
            writer.append(events.take(slice(dataset.offsets[first], dataset.offsets[last])))
        writer.close()
        write_all_but_events(dataset, folder)


def write_all_but_events(dataset: Dataset, folder: Path) -> None:
    """Write everything beside the event arrays, which stand in `folder`, and the manifest."""
    _save_array(folder, "offsets", dataset.offsets)
    _save_array(folder, "item_categories", dataset.item_categories)
    for side in ("query", "item"):
        columns: dict[str, FeatureColumn] = getattr(dataset, f"{side}_features")
        for number, column in enumerate(columns.values()):
            values, offsets = column_names(side, number)
            _save_array(folder, values, column.values)
            if column.offsets is not None:
                _save_array(folder, offsets, column.offsets)
    dataset.query_vocabulary.save(_vocabulary_file(folder, "query"))
    dataset.item_vocabulary.save(_vocabulary_file(folder, "item"))
    dataset.category_vocabulary.save(_vocabulary_file(folder, "category"))
    for number, vocabulary in enumerate(dataset.feature_vocabularies.values()):
        vocabulary.save(_vocabulary_file(folder, f"feature-{number}"))
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "queries": dataset.query_count,
        "items": dataset.item_count,
        "events": dataset.event_count,
        "schema": dataset.schema.model_dump(mode="json"),
        "feature_vocabularies": list(dataset.feature_vocabularies),
        "numeric_scales": dataset.numeric_scales,
        "source": dataset.source,
    }
    write_manifest(folder, content)


def load(path: str | Path, *, in_memory: bool = False) -> Dataset:
    """Open a dataset that `save` or `prepare` wrote.

    Args:
        path: its folder.
        in_memory: read the arrays instead of mapping the files.

    Raises:
        BundleError: there is none, a file is missing or damaged, or it is of another version.
    """
    return read_folder(path, lambda folder: _load(folder, in_memory))


def _load(folder: Path, in_memory: bool) -> Dataset:
    manifest = read_manifest(folder, FORMAT, FORMAT_VERSION)
    try:
        dataset = _read(folder, manifest, _read_array if in_memory else memory_map)
    except (KeyError, ValueError, TypeError, OSError, pl.exceptions.PolarsError) as error:
        raise BundleError(
            f"{folder}: not a complete {FORMAT}: {error}; prepare it again"
        ) from error
    _check(folder, dataset, manifest)
    return dataset


def _read(
    folder: Path, manifest: dict[str, Any], load_array: Callable[[Path], npt.NDArray[Any]]
) -> Dataset:
    schema = Schema.model_validate(manifest["schema"])
    events = read_events(folder, schema.context_features, load_array)

    def columns(side: str, features: tuple[Feature, ...]) -> dict[str, FeatureColumn]:
        found = {}
        for number, feature in enumerate(features):
            values, offsets = column_names(side, number)
            has_offsets = array_file(folder, offsets).exists()
            found[feature.name] = FeatureColumn(
                feature,
                load_array(array_file(folder, values)),
                load_array(array_file(folder, offsets)) if has_offsets else None,
            )
        return found

    return Dataset(
        schema=schema,
        query_vocabulary=Vocabulary.load(_vocabulary_file(folder, "query")),
        item_vocabulary=Vocabulary.load(_vocabulary_file(folder, "item")),
        category_vocabulary=Vocabulary.load(_vocabulary_file(folder, "category")),
        feature_vocabularies={
            key: Vocabulary.load(_vocabulary_file(folder, f"feature-{number}"))
            for number, key in enumerate(manifest["feature_vocabularies"])
        },
        numeric_scales={
            key: (mean, std) for key, (mean, std) in manifest["numeric_scales"].items()
        },
        offsets=load_array(array_file(folder, "offsets")),
        items=events.items,
        times=events.times,
        weights=events.weights,
        split=events.split,
        item_categories=load_array(array_file(folder, "item_categories")),
        query_features=columns("query", schema.query_features),
        item_features=columns("item", schema.item_features),
        context_features=events.context,
        source=manifest["source"],
    )


def _check(folder: Path, dataset: Dataset, manifest: dict[str, Any]) -> None:
    counts = {
        "queries": (dataset.query_count, len(dataset.query_vocabulary)),
        "items": (dataset.item_count, len(dataset.item_vocabulary)),
        "events": (dataset.event_count, int(dataset.offsets[-1])),
    }
    for name, sizes in counts.items():
        if any(size != manifest.get(name) for size in sizes):
            raise BundleError(
                f"{folder}: the manifest says {manifest.get(name)} {name}, the arrays "
                f"{' and '.join(str(size) for size in sizes)}; prepare it again"
            )


def _read_array(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    return array


def _save_array(folder: Path, name: str, array: npt.NDArray[Any]) -> None:
    save_array(array_file(folder, name), array)


def _vocabulary_file(folder: Path, name: str) -> Path:
    return folder / f"{name}-vocabulary.parquet"
