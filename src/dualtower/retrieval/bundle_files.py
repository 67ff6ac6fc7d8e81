"""A bundle's files: arrays, vocabularies and weights, written and read without pickle."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dualtower.data.arrays import ArrayWriter, memory_map, query_chunks, save_array
from dualtower.data.columns import FeatureColumn, Ragged, Ranges
from dualtower.data.vocabulary import Vocabulary
from dualtower.retrieval.manifest import BundleManifest
from dualtower.retrieval.requests import RequestEncoder

Arrays = dict[str, npt.NDArray[Any]]

_STATE = "model.safetensors"
_VECTORS = "items.safetensors"
_TYPES = {"BOOL": "?", "F64": "f8", "F32": "f4", "F16": "f2"}
_TYPES |= {f"{sign}{8 * size}": f"{sign.lower()}{size}" for sign in "IU" for size in (1, 2, 4, 8)}
"""NumPy's names of safetensors' types."""
_PART = 1 << 24
"""Bytes let go of at a time: well under a millisecond."""


def write_weights(folder: Path, state: Arrays, vectors: npt.NDArray[np.float32]) -> None:
    """Write the model's state and the corpus's item vectors.

    Raises:
        OSError: a file cannot be written.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
    for path, content in ((folder / _STATE, arrays), (folder / _VECTORS, {"vectors": vectors})):
        try:
            save_file(content, path)
        except SafetensorError as error:
            raise OSError(f"{path}: {error}") from error


@contextmanager
def read_weights(folder: Path) -> Iterator[tuple[Arrays, npt.NDArray[np.float32]]]:
    """What `write_weights` wrote: the state, memory-mapped for the model to copy, and the vectors.

    A server that loads a bundle answers meanwhile, so nothing here holds Python's lock for long:
    neither the copying, which the readers of safetensors do while they hold it, nor the letting go
    of the pages at the end, which is done a part at a time. An array that was kept stays valid.
    """
    state, whole = _mapped(folder / _STATE)
    vectors, _ = _mapped(folder / _VECTORS)
    yield state, np.array(vectors["vectors"])
    for start in range(0, len(whole), _PART):
        whole.madvise(mmap.MADV_DONTNEED, start, min(_PART, len(whole) - start))


def _mapped(path: Path) -> tuple[Arrays, mmap.mmap]:
    """The arrays of a safetensors file, and the memory map that they are views of."""
    with open(path, "rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    arrays: Arrays = {}
    # Opening checks that the arrays follow one another without gap or overlap to the file's end.
    with safe_open(path, framework="numpy") as header:
        place = 8 + int.from_bytes(whole[:8], "little")
        for name in header.offset_keys():
            part = header.get_slice(name)
            kind, shape = np.dtype(_TYPES[part.get_dtype()]), part.get_shape()
            arrays[name] = np.ndarray(shape, kind, whole, place)
            place += arrays[name].nbytes
    return arrays, whole


def write_encoder(folder: Path, encoder: RequestEncoder) -> None:
    """Write all of the encoder that the manifest does not hold."""
    save_array(folder / "corpus.npy", encoder.corpus)
    save_array(folder / "item_categories.npy", encoder.item_categories)
    _write_history(folder, encoder.history)
    for number, column in enumerate(encoder.query_features.values()):
        save_array(folder / f"query_feature_{number}_values.npy", column.values)
        if column.offsets is not None:
            save_array(folder / f"query_feature_{number}_offsets.npy", column.offsets)
    encoder.query_vocabulary.save(folder / "query_vocabulary.parquet")
    encoder.item_vocabulary.save(folder / "item_vocabulary.parquet")
    encoder.category_vocabulary.save(folder / "category_vocabulary.parquet")
    for number, vocabulary in enumerate(encoder.feature_vocabularies.values()):
        vocabulary.save(folder / f"feature_vocabulary_{number}.parquet")


def read_encoder(folder: Path, manifest: BundleManifest) -> RequestEncoder:
    """What `write_encoder` wrote; arrays by query and event are memory-mapped."""
    query_features = {}
    for number, feature in enumerate(manifest.columns.query_features):
        offsets = folder / f"query_feature_{number}_offsets.npy"
        query_features[feature.name] = FeatureColumn(
            feature,
            memory_map(folder / f"query_feature_{number}_values.npy"),
            memory_map(offsets) if offsets.exists() else None,
        )
    return RequestEncoder(
        schema=manifest.columns,
        space=manifest.space,
        query_vocabulary=Vocabulary.load(folder / "query_vocabulary.parquet"),
        item_vocabulary=Vocabulary.load(folder / "item_vocabulary.parquet"),
        category_vocabulary=Vocabulary.load(folder / "category_vocabulary.parquet"),
        feature_vocabularies={
            name: Vocabulary.load(folder / f"feature_vocabulary_{number}.parquet")
            for number, name in enumerate(manifest.feature_vocabularies)
        },
        numeric_scales=dict(manifest.numeric_scales),
        history=Ragged(
            memory_map(folder / "history_items.npy"), memory_map(folder / "history_offsets.npy")
        ),
        query_features=query_features,
        item_categories=np.load(folder / "item_categories.npy", allow_pickle=False),
        corpus=np.load(folder / "corpus.npy", allow_pickle=False),
    )


def _write_history(folder: Path, history: Ragged | Ranges) -> None:
    """The histories one after the other, in blocks, so that they are never in memory as a whole."""
    offsets = np.zeros(len(history) + 1, dtype=np.int64)
    np.cumsum(history.lengths(), out=offsets[1:])
    writer = ArrayWriter(folder / "history_items.npy")
    for first, last in query_chunks(offsets):
        writer.append(history.take(np.arange(first, last)).values)
    writer.close()
    save_array(folder / "history_offsets.npy", offsets)
