from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from dualtower.data.columns import FeatureColumn
from dualtower.data.encode import Encoding, check_features, encode_features, learn_features
from dualtower.data.tables import open_table
from dualtower.data.vocabulary import Vocabulary
from dualtower.errors import DataError
from dualtower.schema import Feature, FeatureKind

ITEMS = Vocabulary(pl.Series([10, 20, 30]))


def feature(kind: FeatureKind, min_count: int = 1) -> Feature:
    return Feature(name="f", kind=kind, min_count=min_count)


def learn(values: pl.Series, chosen: Feature) -> Encoding:
    table = open_table(pl.DataFrame({"f": values}), "items")
    check_features(table, [chosen], "item")
    return learn_features(table, [chosen], "item")


def encode(values: pl.Series, chosen: Feature, encoding: Encoding) -> FeatureColumn:
    return encode_features(
        pl.DataFrame({"f": values}),
        [chosen],
        "item",
        encoding.vocabularies,
        encoding.scales,
        ITEMS,
        sizes=encoding.sizes,
    )["f"]


def lists(column: FeatureColumn) -> list[list[int]]:
    offsets = column.offsets
    assert offsets is not None
    return [column.values[start:end].tolist() for start, end in pairwise(offsets)]


def test_categorical() -> None:
    chosen = feature(FeatureKind.CATEGORICAL)
    encoding = learn(pl.Series(["red", "blue", None, "red"]), chosen)
    assert encoding.vocabularies["item/f"].values.to_list() == ["blue", "red"]
    column = encode(pl.Series(["red", None, "green", "blue"]), chosen, encoding)
    assert column.values.tolist() == [2, 0, 0, 1]
    assert column.values.dtype == np.int32


def test_a_constant_decimal_number_is_not_scaled_by_rounding_noise() -> None:
    chosen = feature(FeatureKind.NUMERIC)
    for value in (0.1, 0.7, 19.99):
        for count in (3, 7, 10, 1000):
            encoding = learn(pl.Series([value] * count + [None]), chosen)
            assert encoding.scales["item/f"][1] == 1.0
            other = encode(pl.Series([value + 1]), chosen, encoding)
            assert other.values.tolist() == [pytest.approx(1.0)]


def test_rare_values_share_the_unknown_row() -> None:
    chosen = feature(FeatureKind.CATEGORICAL, min_count=2)
    encoding = learn(pl.Series(["a", "b", "a"]), chosen)
    assert encode(pl.Series(["a", "b"]), chosen, encoding).values.tolist() == [1, 0]


def test_categories_of_polars_and_floats() -> None:
    chosen = feature(FeatureKind.CATEGORICAL)
    encoding = learn(pl.Series(["x", "y"]).cast(pl.Categorical), chosen)
    assert encode(pl.Series(["y"]), chosen, encoding).values.tolist() == [2]
    encoding = learn(pl.Series([2.0, float("nan"), 1.0]), chosen)
    assert encode(pl.Series([1.0, float("nan")]), chosen, encoding).values.tolist() == [1, 0]


def test_multi_valued_lists_and_joined_texts_give_the_same() -> None:
    chosen = feature(FeatureKind.MULTI_VALUED)
    for values in (
        pl.Series([["b", "a"], None, ["c", None], []]),
        pl.Series(["b| a", None, "c|", ""]),
    ):
        encoding = learn(values, chosen)
        assert encoding.vocabularies["item/f"].values.to_list() == ["a", "b", "c"]
        column = encode(values, chosen, encoding)
        assert lists(column) == [[2, 1], [], [3], []]
    assert lists(encode(pl.Series([["z", "a"]]), chosen, encoding)) == [[0, 1]]


def test_min_count_of_a_list_counts_rows_not_repeats() -> None:
    chosen = feature(FeatureKind.MULTI_VALUED, min_count=2)
    encoding = learn(pl.Series([["a", "a"], ["b"], ["b"]]), chosen)
    assert encoding.vocabularies["item/f"].values.to_list() == ["b"]


def test_numeric_is_standardised_and_missing_becomes_the_mean() -> None:
    chosen = feature(FeatureKind.NUMERIC)
    encoding = learn(pl.Series([1.0, 3.0, None, float("nan")]), chosen)
    assert encoding.scales["item/f"] == (2.0, 1.0)
    column = encode(pl.Series([5.0, None, float("nan"), 2.0]), chosen, encoding)
    assert column.values.tolist() == [3.0, 0.0, 0.0, 0.0]
    assert column.values.dtype == np.float32


def test_constant_and_missing_numbers() -> None:
    chosen = feature(FeatureKind.NUMERIC)
    assert learn(pl.Series([4, 4]), chosen).scales["item/f"] == (4.0, 1.0)
    assert learn(pl.Series([None, None], dtype=pl.Float64), chosen).scales["item/f"] == (0.0, 1.0)


def test_numbers_written_as_texts() -> None:
    chosen = feature(FeatureKind.NUMERIC)
    encoding = learn(pl.Series(["1", "3"]), chosen)
    assert encode(pl.Series(["5"]), chosen, encoding).values.tolist() == [3.0]


@pytest.mark.parametrize("dtype", [pl.List(pl.Float64), pl.Array(pl.Float32, 2)])
def test_vector(dtype: Any) -> None:
    chosen = feature(FeatureKind.VECTOR)
    values = pl.Series([[1.0, 2.0], None, [3.0, 4.0]], dtype=dtype)
    encoding = learn(values, chosen)
    assert encoding.sizes == {"item/f": 2}
    column = encode(values, chosen, encoding)
    assert column.values.tolist() == [[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]]
    assert encode(pl.Series([None]), chosen, encoding).values.shape == (1, 2)


def test_sequence_uses_the_item_vocabulary() -> None:
    chosen = feature(FeatureKind.SEQUENCE)
    column = encode(pl.Series([[30, 99, 10], None, []]), chosen, Encoding())
    assert lists(column) == [[3, 0, 1], [], []]


@pytest.mark.parametrize("kind", FeatureKind)
def test_a_column_without_any_value(kind: FeatureKind) -> None:
    chosen = feature(kind)
    values = pl.Series([None, None])
    column = encode(values, chosen, learn(values, chosen))
    assert len(column) == 2
    assert not column.values.any()


def test_a_column_that_a_request_lacks_is_missing_in_every_row() -> None:
    chosen = [
        Feature(name="brand"),
        Feature(name="tags", kind=FeatureKind.MULTI_VALUED),
        Feature(name="price", kind=FeatureKind.NUMERIC),
        Feature(name="image", kind=FeatureKind.VECTOR),
    ]
    vocabularies = {
        "item/brand": Vocabulary(pl.Series(["a"])),
        "item/tags": Vocabulary(pl.Series(["t"])),
    }
    columns = encode_features(
        pl.DataFrame({"brand": ["a", "a"]}),
        chosen,
        "item",
        vocabularies,
        {"item/price": (5.0, 2.0)},
        ITEMS,
        sizes={"item/image": 3},
    )
    assert columns["brand"].values.tolist() == [1, 1]
    assert lists(columns["tags"]) == [[], []]
    assert columns["price"].values.tolist() == [0.0, 0.0]
    assert columns["image"].values.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("categorical", [["a"], ["b"]], 'categorical needs one value per row; use kind = "multi'),
        ("numeric", ["1", "cheap"], "row 2, column 'f': 'cheap' is not a finite number"),
        ("numeric", [1.0, float("-inf")], "row 2, column 'f': -inf is not a finite number"),
        ("numeric", [[1], [2]], "numeric needs a number per row"),
        ("multi_valued", [1, 2], 'multi_valued needs a list per row .* "categorical"'),
        ("multi_valued", [[["a"]], [["b"]]], "needs a plain list, not lists of lists"),
        ("vector", ["1|2", "3|4"], "vector needs a list of numbers per row; a text is not a list"),
        ("vector", [["a"], ["b"]], "vector needs a list of numbers"),
        ("vector", [[1.0, 2.0], [3.0]], r"row 2, column 'f': \[3.0\] is not of length 2"),
        ("vector", [[1.0, float("nan")], [1.0, 2.0]], "row 1, .* holds a NaN"),
        ("vector", [[1.0, None], [1.0, 2.0]], "row 1, .* holds a NaN, null"),
        ("sequence", ["10|20", "30"], 'a text is not a list, .* kind = "multi_valued"'),
    ],
)
def test_what_does_not_fit_its_kind(kind: FeatureKind, values: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        learn(pl.Series(values), feature(FeatureKind(kind)))


def test_a_request_with_a_vector_of_another_length() -> None:
    chosen = feature(FeatureKind.VECTOR)
    with pytest.raises(DataError, match=r"item features: row 1, .* is not of length 3"):
        encode(pl.Series([[1.0, 2.0]]), chosen, Encoding(sizes={"item/f": 3}))
