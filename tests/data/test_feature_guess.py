from typing import Any

import polars as pl
import pytest

from dualtower.data.feature_guess import guess_category, guess_features
from dualtower.data.profiles import Profile, profile_tables
from dualtower.schema import FeatureKind

ROWS = 60


def profile_of(tmp_path_factory: pytest.TempPathFactory, **columns: Any) -> Profile:
    path = tmp_path_factory.mktemp("tables") / "items.parquet"
    pl.DataFrame({"item_id": range(ROWS), **columns}).write_parquet(path)
    return profile_tables([path])[0]


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("brand", ["a", "b", "c"] * 20, FeatureKind.CATEGORICAL),
        ("age", [18, 25, 35] * 20, FeatureKind.CATEGORICAL),
        ("is_new", [True, False] * 30, FeatureKind.CATEGORICAL),
        ("views", list(range(1000, 1000 + ROWS)), FeatureKind.NUMERIC),
        ("price", [number / 7 for number in range(ROWS)], FeatureKind.NUMERIC),
        ("tags", [["a", "b"], ["c"], []] * 20, FeatureKind.MULTI_VALUED),
        ("genres", ["a|b", "c", "a"] * 20, FeatureKind.MULTI_VALUED),
        ("image", [[0.5, 1.5]] * ROWS, FeatureKind.VECTOR),
        ("similar_items", [[1, 2], [3]] * 30, FeatureKind.SEQUENCE),
        ("title", [f"A film, number {number}" for number in range(ROWS)], None),
        (
            "story",
            [
                "a very long text that goes on and on and on and on",
                "another text that goes on and on and on and on",
            ]
            * 30,
            None,
        ),
        ("constant", ["x"] * ROWS, None),
        ("empty", [None] * ROWS, None),
        ("uneven", [[0.5], [0.5, 1.5]] * 30, None),
        ("made_up", [float("inf"), 1.0] * 30, None),
    ],
)
def test_kinds(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    values: list[Any],
    kind: FeatureKind | None,
) -> None:
    profile = profile_of(tmp_path_factory, **{name: values})
    features, reasons = guess_features(profile, {"item_id"}, pl.Series(range(ROWS)))
    assert [feature.kind for feature in features] == ([kind] if kind else [])
    assert list(reasons) == ([name] if kind else [])


def test_the_coarsest_category_unless_one_is_called_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    fine, coarse = [str(number % 12) for number in range(ROWS)], ["a", "b"] * 30
    profile = profile_of(tmp_path_factory, product_category=fine, department=coarse)
    found = guess_category(profile, profile.column("item_id"))
    assert found is not None
    assert found.name == "department"
    profile = profile_of(tmp_path_factory, category=fine, department=coarse)
    found = guess_category(profile, profile.column("item_id"))
    assert found is not None
    assert found.name == "category"
    profile = profile_of(tmp_path_factory, genres=["a|b", "c"] * 30)
    assert guess_category(profile, profile.column("item_id")) is None
