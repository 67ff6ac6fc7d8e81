"""Bundles whose checksums are right and whose arrays do not fit together."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from dualtower.errors import BundleError
from dualtower.files import MANIFEST, write_manifest
from dualtower.retrieval.bundle import Bundle
from tests.serving.bundles import dat_bundle


@cache
def good() -> Path:
    folder = Path(mkdtemp()) / "bundle"
    dat_bundle().save(folder)
    return folder


def array(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        values = np.load(folder / f"{name}.npy", allow_pickle=False)
        np.save(folder / f"{name}.npy", change(values.copy()), allow_pickle=False)

    return damage


def put(place: int, value: int) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values[place] = value
        return values

    return change


def fewer_items(folder: Path) -> None:
    path = folder / "item_vocabulary.parquet"
    pl.read_parquet(path).head(3).write_parquet(path)


def twice_the_same(folder: Path) -> None:
    path = folder / "query_vocabulary.parquet"
    frame = pl.read_parquet(path)
    pl.concat([frame.head(len(frame) - 1), frame.head(1)]).write_parquet(path)


def fewer_vectors(folder: Path) -> None:
    save_file({"vectors": np.zeros((3, 8), dtype=np.float32)}, folder / "items.safetensors")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (array("corpus", put(0, 99)), "corpus: not whole numbers from 1 to 20"),
        (array("corpus", put(0, 0)), "corpus: not whole numbers from 1 to 20"),
        (array("corpus", put(0, 2)), "corpus: not ascending"),
        (array("corpus", lambda values: values[:0]), "corpus: not ascending"),
        (array("corpus", lambda values: values.astype(np.float64)), "corpus: not whole numbers"),
        (array("item_categories", put(1, -1)), "item categories: not whole numbers from 0 to 0"),
        (array("item_categories", lambda values: values[1:]), "item categories: 20 rows, not 21"),
        (array("history_items", put(5, 21)), "history: not whole numbers from 1 to 20"),
        (array("history_items", lambda values: values[1:]), "history: the offsets do not divide"),
        (array("history_offsets", put(1, 90)), "history: the offsets do not divide"),
        (fewer_items, "item vocabulary: 4 rows, not 21"),
        (twice_the_same, "query vocabulary: a value is null or there twice"),
        (fewer_vectors, r"item vectors: shape \[3, 8\] of float32, not \[18, 8\]"),
    ],
)
def test_what_does_not_fit_is_refused(
    damage: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(good(), folder)
    damage(folder)
    content = json.loads((folder / MANIFEST).read_bytes())
    content.pop("files")
    write_manifest(folder, content)
    with pytest.raises(BundleError, match=words):
        Bundle.load(folder)
