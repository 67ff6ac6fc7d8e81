"""Whether a bundle's arrays fit together: whoever can write the files can write the checksums too.

The checksums say that the files are as they were written. What is checked here keeps a bundle that
was written wrongly, or changed with its checksums, from failing at a request.
"""

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import FeatureColumn, FeatureSpec, Ragged, Ranges
from dualtower.errors import DataError
from dualtower.retrieval.manifest import BundleManifest
from dualtower.retrieval.requests import RequestEncoder
from dualtower.schema import FeatureKind

_VALUES_AT_ONCE = 16_000_000


def check_parts(
    manifest: BundleManifest, encoder: RequestEncoder, vectors: npt.NDArray[np.float32]
) -> None:
    """Check sizes and ranges; it reads every array once.

    Args:
        manifest: names the sizes.
        encoder: histories, features, corpus and categories.
        vectors: p_v of the corpus, `[corpus, dim]`.

    Raises:
        DataError: an array has another size or type than it should, or points outside of what it
            points into.
    """
    space = manifest.space
    for name, vocabulary, rows in (
        ("query", encoder.query_vocabulary, space.query_count),
        ("item", encoder.item_vocabulary, space.item_count),
        ("category", encoder.category_vocabulary, space.category_count),
    ):
        values = vocabulary.values
        _require(len(vocabulary) == rows, f"{name} vocabulary: {len(vocabulary)} rows, not {rows}")
        whole = values.null_count() == 0 and values.n_unique() == len(values)
        _require(whole, f"{name} vocabulary: a value is null or there twice")
    corpus = encoder.corpus
    _require_rows("corpus", corpus, space.item_count, lowest=1)
    _require(len(corpus) > 0 and bool((np.diff(corpus) > 0).all()), "corpus: not ascending")
    _require(
        vectors.shape == (len(corpus), manifest.dim) and vectors.dtype == np.float32,
        f"item vectors: shape {list(vectors.shape)} of {vectors.dtype}, not "
        f"[{len(corpus)}, {manifest.dim}] of float32",
    )
    _require_rows("item categories", encoder.item_categories, space.category_count)
    _require(
        len(encoder.item_categories) == space.item_count,
        f"item categories: {len(encoder.item_categories)} rows, not {space.item_count}",
    )
    _check_history(encoder.history, space.query_count, space.item_count)
    specs = {spec.name: spec for spec in space.query_features}
    _require(specs.keys() == encoder.query_features.keys(), "query features: not the manifest's")
    for name, column in encoder.query_features.items():
        _check_feature(name, column, specs[name], space.query_count)


def _check_history(history: Ragged | Ranges, queries: int, items: int) -> None:
    if isinstance(history, Ragged):
        _require_offsets("history", history.offsets, len(history.values), queries)
    _require_rows("history", history.values, items, lowest=1)


def _check_feature(name: str, column: FeatureColumn, spec: FeatureSpec, queries: int) -> None:
    what = f"query feature {name}"
    if column.offsets is not None:
        _require_offsets(what, column.offsets, len(column.values), queries)
    else:
        _require(len(column.values) == queries, f"{what}: {len(column.values)} rows, not {queries}")
    if spec.kind in (FeatureKind.NUMERIC, FeatureKind.VECTOR):
        _require(column.values.dtype == np.float32, f"{what}: {column.values.dtype}, not float32")
        wanted = (spec.size,) if spec.kind == FeatureKind.VECTOR else ()
        _require(column.values.shape[1:] == wanted, f"{what}: rows of another length")
    else:
        _require_rows(what, column.values, spec.size)
    listed = spec.kind in (FeatureKind.MULTI_VALUED, FeatureKind.SEQUENCE)
    _require((column.offsets is not None) == listed, f"{what}: lists where there should be none")


def _require_offsets(what: str, offsets: npt.NDArray[np.integer], values: int, rows: int) -> None:
    right = (
        offsets.ndim == 1
        and offsets.dtype == np.int64
        and len(offsets) == rows + 1
        and offsets[0] == 0
        and offsets[-1] == values
        and bool((offsets[1:] >= offsets[:-1]).all())
    )
    _require(right, f"{what}: the offsets do not divide {values} values among {rows} rows")


def _require_rows(
    what: str, values: npt.NDArray[np.generic], rows: int, *, lowest: int = 0
) -> None:
    right = values.ndim == 1 and values.dtype.kind == "i"
    for start in range(0, len(values) if right else 0, _VALUES_AT_ONCE):
        part = values[start : start + _VALUES_AT_ONCE]
        right = right and bool(part.min() >= lowest) and bool(part.max() < rows)
    _require(right, f"{what}: not whole numbers from {lowest} to {rows - 1}")


def _require(right: bool, what: str) -> None:
    if not right:
        raise DataError(what)
