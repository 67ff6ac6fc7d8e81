"""What a bundle may be measured on."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from dualtower.data.columns import FeatureColumn
from dualtower.data.dataset import Dataset
from dualtower.data.vocabulary import Vocabulary
from dualtower.retrieval.requests import RequestEncoder
from dualtower.schema import Feature, FeatureKind
from dualtower.studies.measure import _changed_features
from tests.training.runs import small_dataset


def changed(dataset: Dataset) -> list[str]:
    encoder = RequestEncoder.from_log(small_dataset().everything())
    return _changed_features(encoder, dataset)


def number(scale: tuple[float, float]) -> Dataset:
    feature = Feature(name="price", kind=FeatureKind.NUMERIC)
    column = FeatureColumn(feature, np.zeros(21, dtype=np.float32))
    return replace(
        small_dataset(), item_features={"price": column}, numeric_scales={"item/price": scale}
    )


def test_the_same_features_are_no_change() -> None:
    assert changed(small_dataset()) == []


@pytest.mark.parametrize("values", [["blue", "green", "red"], ["red", "green"]])
def test_another_vocabulary_is_named(values: list[str]) -> None:
    vocabularies = {"item/colour": Vocabulary(pl.Series(values))}
    assert changed(replace(small_dataset(), feature_vocabularies=vocabularies)) == ["item/colour"]


def test_a_feature_that_went_or_came_is_named() -> None:
    assert changed(replace(small_dataset(), item_features={})) == ["item/colour"]
    assert changed(number((0.0, 1.0))) == ["item/colour", "item/price"]


def test_another_scale_is_named() -> None:
    encoder = RequestEncoder.from_log(number((0.0, 1.0)).everything())
    assert _changed_features(encoder, number((0.0, 1.0))) == []
    assert _changed_features(encoder, number((5.0, 1.0))) == ["item/price"]


def test_other_categories_are_named() -> None:
    fewer = Vocabulary(pl.Series(["a", "b"]))
    assert changed(replace(small_dataset(), category_vocabulary=fewer)) == ["category"]
