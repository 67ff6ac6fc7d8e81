"""Feature columns of raw tables, encoded: at prepare time and, with the same code, in serving."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.columns import FeatureColumn
from dualtower.data.rules import Rule, check_rules
from dualtower.data.tables import Table, collect
from dualtower.data.vocabulary import Vocabulary
from dualtower.errors import DataError
from dualtower.schema import Feature, FeatureKind

Side = Literal["query", "item", "context"]
LIST_SEPARATOR = "|"
"""What separates the values of a multi-valued feature that is a text."""


@dataclass(frozen=True)
class Encoding:
    """What was learned from a side's feature columns; keys are `side/name`."""

    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Mean and standard deviation of each numeric feature (1 where it is constant)."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Length of each vector feature."""


def learn_features(table: Table, features: Sequence[Feature], side: Side) -> Encoding:
    """Vocabularies, scales and lengths from all rows of a table whose columns are named as
    the features; `check_features` must have passed.

    Vocabularies are sorted by value; values seen in fewer than `min_count` rows are left out.
    """
    encoding = Encoding()
    for feature in features:
        key = f"{side}/{feature.name}"
        value = _raw(feature, table.schema[feature.name]).alias("value")
        rows = table.frame.select(value)
        if feature.kind in (FeatureKind.CATEGORICAL, FeatureKind.MULTI_VALUED):
            if feature.kind == FeatureKind.MULTI_VALUED:
                rows = rows.select(pl.col("value").list.unique()).explode("value")
            counts = rows.drop_nulls().group_by("value").len()
            often = collect(table, counts.filter(pl.col("len") >= feature.min_count))
            encoding.vocabularies[key] = Vocabulary(often["value"].sort())
        elif feature.kind == FeatureKind.NUMERIC:
            value = pl.col("value")
            moments = rows.select(
                mean=value.mean(), std=value.std(ddof=0), constant=value.min() == value.max()
            )
            mean, std, constant = collect(table, moments).row(0)
            # the deviation of a constant is not always 0: 0.1 + 0.1 + 0.1 is rounded
            encoding.scales[key] = (mean or 0.0, 1.0 if constant else std or 1.0)
        elif feature.kind == FeatureKind.VECTOR:
            encoding.sizes[key] = _vector_size(table, feature)
    return encoding


def check_features(
    table: Table,
    features: Sequence[Feature],
    side: Side,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Check types and values of the feature columns that the table has.

    Args:
        table: a table whose columns are named as the features.
        features: the features.
        side: whose features they are.
        sizes: expected length of vector features by `side/name`; by default that of the first row.

    Raises:
        DataError: a type does not fit the kind, or a value is not finite or a vector not of one
            length; the message names table, row, column and value.
    """
    rules = []
    for feature in features:
        dtype = table.schema.get(feature.name)
        if dtype is None or dtype == pl.Null:
            continue
        _check_type(table, feature, dtype)
        value = _raw(feature, dtype)
        if feature.kind == FeatureKind.NUMERIC:
            unread = pl.col(feature.name).is_not_null() & value.is_null()
            if dtype.is_float():
                unread &= pl.col(feature.name).is_not_nan()
            rules.append(Rule(feature.name, unread | value.is_infinite(), "is not a finite number"))
        elif feature.kind == FeatureKind.VECTOR:
            known = (sizes or {}).get(f"{side}/{feature.name}")
            size = known if known is not None else _vector_size(table, feature)
            finite = value.list.eval(pl.element().is_finite().fill_null(False)).list.all()
            rules.append(Rule(feature.name, ~finite, "holds a NaN, null or infinite number"))
            rules.append(
                Rule(
                    feature.name,
                    value.list.len() != size,
                    f"is not of length {size}, as every other vector of this feature is",
                )
            )
    check_rules(table, rules)


def encode_features(
    frame: pl.DataFrame,
    features: Sequence[Feature],
    side: Side,
    vocabularies: Mapping[str, Vocabulary],
    scales: Mapping[str, tuple[float, float]],
    item_vocabulary: Vocabulary,
    *,
    sizes: Mapping[str, int] | None = None,
    name: str | None = None,
) -> dict[str, FeatureColumn]:
    """Encode raw feature columns with what was learned when the dataset was prepared.

    A missing value, and one that is not in the vocabulary, is row 0; a missing number is 0 (the
    mean); a missing vector is all zeros; a missing list is empty, an unknown value in it row 0. A
    column that the frame does not have counts as missing in every row.

    Args:
        frame: one row per query, item or event, columns named as the features.
        features: the features of this side.
        side: whose features they are.
        vocabularies: of categorical and multi-valued features, by `side/name`.
        scales: mean and standard deviation of numeric features, by `side/name`.
        item_vocabulary: encodes sequences of items.
        sizes: lengths of vector features by `side/name`; by default that of the first value.
        name: what to call the frame in messages.

    Returns:
        Columns by feature name, each with `len(frame)` rows.

    Raises:
        DataError: as `check_features`.
    """
    lazy = frame.lazy()
    label = name or f"{side} features"
    table = Table(label, lazy, ((label, lazy),))
    check_features(table, features, side, sizes)
    columns = {}
    for feature in features:
        key = f"{side}/{feature.name}"
        if feature.name in frame.columns:
            values = frame.select(_raw(feature, frame.schema[feature.name])).to_series()
        else:
            values = pl.Series(feature.name, [None] * len(frame))
        columns[feature.name] = _encode(
            feature,
            values,
            item_vocabulary if feature.kind == FeatureKind.SEQUENCE else vocabularies.get(key),
            scales.get(key, (0.0, 1.0)),
            (sizes or {}).get(key),
        )
    return columns


def _encode(
    feature: Feature,
    values: pl.Series,
    vocabulary: Vocabulary | None,
    scale: tuple[float, float],
    size: int | None,
) -> FeatureColumn:
    if feature.kind == FeatureKind.NUMERIC:
        mean, std = scale
        numbers = ((values.cast(pl.Float64) - mean) / std).fill_null(0.0)
        return FeatureColumn(feature, numbers.to_numpy().astype(np.float32))
    if feature.kind == FeatureKind.VECTOR:
        return FeatureColumn(feature, _vectors(values, size))
    if vocabulary is None:
        raise DataError(f"feature {feature.name!r}: no vocabulary was learned for it")
    if feature.kind == FeatureKind.CATEGORICAL:
        return FeatureColumn(feature, vocabulary.encode(values))
    if values.dtype == pl.Null:
        values = values.cast(pl.List(vocabulary.values.dtype))
    lengths = values.list.len().fill_null(0)
    offsets = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(lengths.to_numpy(), out=offsets[1:])
    flat = values.filter(lengths > 0).explode()
    return FeatureColumn(feature, vocabulary.encode(flat), offsets)


def _vectors(values: pl.Series, size: int | None) -> npt.NDArray[np.float32]:
    present = values.is_not_null().to_numpy()
    count = int(present.sum())
    if count == 0:
        return np.zeros((len(values), size or 0), dtype=np.float32)
    flat = values.drop_nulls().explode(empty_as_null=False).cast(pl.Float32).to_numpy()
    vectors = np.zeros((len(values), len(flat) // count), dtype=np.float32)
    vectors[present] = flat.reshape(count, -1) if len(flat) else 0
    return vectors


def _raw(feature: Feature, dtype: pl.DataType) -> pl.Expr:
    """The column as its kind wants it: lists as lists, NaN as null, categories as text."""
    value = pl.col(feature.name)
    match feature.kind:
        case FeatureKind.MULTI_VALUED | FeatureKind.SEQUENCE if dtype == pl.Null:
            return value.cast(pl.List(pl.String))
        case FeatureKind.CATEGORICAL:
            return _scalar(value, dtype)
        case FeatureKind.NUMERIC:
            return value.cast(pl.Float64, strict=False).fill_nan(None)
        case FeatureKind.VECTOR:
            return value.cast(pl.List(pl.Float32))
        case FeatureKind.MULTI_VALUED if dtype == pl.String:
            parts = value.str.split(LIST_SEPARATOR)
            return parts.list.eval(
                pl.element().str.strip_chars().filter(pl.element().str.strip_chars() != "")
            )
        case _:
            inner = dtype.inner  # type: ignore[attr-defined]
            return value.cast(pl.List(inner)).list.eval(_scalar(pl.element(), inner).drop_nulls())


def _scalar(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return value.cast(pl.String)
    return value.fill_nan(None) if dtype.is_float() else value


def _check_type(table: Table, feature: Feature, dtype: pl.DataType) -> None:
    is_list = isinstance(dtype, pl.List | pl.Array)
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    where = f"{table.name}: column {feature.name!r} is of type {dtype}"
    match feature.kind:
        case FeatureKind.CATEGORICAL if dtype.is_nested():
            raise DataError(
                f"{where}, but categorical needs one value per row; "
                'use kind = "multi_valued" for lists of values or "vector" for embeddings'
            )
        case FeatureKind.NUMERIC if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.String)):
            raise DataError(f"{where}, but numeric needs a number per row")
        case FeatureKind.MULTI_VALUED if dtype != pl.String and not is_list:
            raise DataError(
                f"{where}, but multi_valued needs a list per row (or a text such as "
                f'"a{LIST_SEPARATOR}b"); use kind = "categorical" for one value per row'
            )
        case FeatureKind.VECTOR if not (is_list and inner.is_numeric()):
            raise DataError(
                f"{where}, but vector needs a list of numbers per row; a text is not a list, and "
                "CSV cannot hold one: use Parquet"
            )
        case FeatureKind.SEQUENCE if not is_list:
            raise DataError(
                f"{where}, but sequence needs a list of item ids per row; a text is not a list, "
                'and CSV cannot hold one: use Parquet (or kind = "multi_valued", which splits a '
                f'text at "{LIST_SEPARATOR}")'
            )
        case _ if is_list and inner.is_nested():
            raise DataError(f"{where}, but {feature.kind} needs a plain list, not lists of lists")


def _vector_size(table: Table, feature: Feature) -> int:
    value = pl.col(feature.name).drop_nulls().head(1).cast(pl.List(pl.Float32)).list.len()
    first = collect(table, table.frame.select(value))
    return 0 if first.is_empty() else int(first.item())
