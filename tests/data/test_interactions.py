from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dualtower.data.interactions import read_interactions
from dualtower.data.tables import open_table
from dualtower.errors import DataError
from dualtower.schema import Feature, FeatureKind, Schema

BASE: dict[str, list[Any]] = {"user_id": ["u", "v", "w"], "item_id": [1, 2, 3]}


def read(schema: Schema | None = None, **columns: Any) -> pl.DataFrame:
    table = open_table(pl.DataFrame({**BASE, **columns}), "interactions")
    return read_interactions(table, schema or Schema()).table.frame.collect()


def test_rows_without_ids_are_left_out_and_counted() -> None:
    frame = pl.DataFrame({"user_id": ["u", None, None, "x"], "item_id": [1, 2, None, None]})
    found = read_interactions(open_table(frame, "interactions"), Schema())
    assert found.table.frame.collect().to_dict(as_series=False) == {
        "row": [0],
        "query": ["u"],
        "item": [1],
    }
    assert found.rows_read == 4
    assert found.dropped == {"no user_id": 2, "no item_id": 1}


def test_texts_that_are_empty_or_blank_are_no_ids() -> None:
    frame = pl.DataFrame({"user_id": ["u", "", " ", "v"], "item_id": ["a", "b", "c", "\t"]})
    for kept in (frame, frame.cast(pl.Categorical)):
        found = read_interactions(open_table(kept, "interactions"), Schema())
        assert found.table.frame.collect()["query"].to_list() == ["u"]
        assert found.dropped == {"no user_id": 2, "no item_id": 1}


def test_rows_without_a_split_are_left_out_whatever_else_they_lack() -> None:
    table = open_table(
        pl.DataFrame({**BASE, "split": ["Train", None, "valid"], "position": [0, None, 1]}),
        "interactions",
    )
    found = read_interactions(table, Schema(split="split", position="position"))
    assert found.table.frame.collect()["split"].to_list() == [0, 1]
    assert found.dropped == {"no split": 1}


def test_every_spelling_of_a_split() -> None:
    frame = read(Schema(split="split"), split=["VAL", " test ", "validation"])
    assert frame["split"].to_list() == [1, 2, 1]


def test_ids_as_floats_and_categories() -> None:
    frame = read(user_id=[7.0, float("nan"), 8.0], item_id=pl.Series(["a", "b", "c"]))
    assert frame["query"].to_list() == [7, 8]
    frame = read(item_id=pl.Series(["a", "b", "c"]).cast(pl.Categorical))
    assert frame["item"].dtype == pl.String


@pytest.mark.parametrize(("dtype", "limit"), [(pl.Float64, 2**53), (pl.Float32, 2**24)])
def test_decimal_ids_that_may_be_their_neighbours_are_refused(
    dtype: type[pl.DataType], limit: int
) -> None:
    assert pl.Series([limit, limit + 1]).cast(dtype).n_unique() == 1  # two ids have become one
    good = pl.Series([limit - 1, 1 - limit, 0]).cast(dtype)
    assert read(user_id=good)["query"].to_list() == [limit - 1, 1 - limit, 0]
    for bad in (limit + 1, -limit):
        with pytest.raises(DataError, match=r"row 2, column 'user_id': .* as integers or texts"):
            read(user_id=pl.Series([1, bad, None]).cast(dtype))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_ids_that_another_file_of_the_table_makes_decimal_are_refused(
    tmp_path: Path, suffix: str
) -> None:
    write = f"write_{suffix}"
    ids = pl.DataFrame({"user_id": [2**53, 2**53 + 1], "item_id": [1, 2]})
    getattr(ids, write)(tmp_path / f"1.{suffix}")
    getattr(ids.with_columns(user_id=pl.Series([1.0, 2.0])), write)(tmp_path / f"2.{suffix}")
    table = open_table(tmp_path, "interactions")
    with pytest.raises(DataError, match=rf"1\.{suffix}: row 1, column 'user_id': .* every file"):
        read_interactions(table, Schema())


@pytest.mark.parametrize(
    ("schema", "columns", "message"),
    [
        ({}, {"user_id": [1.0, 2.5, 3.0]}, "row 2, column 'user_id': 2.5 is not a whole number"),
        ({}, {"user_id": [1.0, 2.0, 1e300]}, r"row 3, .* 1e\+300 is not a whole number"),
        ({}, {"user_id": [[1], [2], [3]]}, r"column 'user_id' is of type List\(Int64\); ids are"),
        ({}, {"user_id": [None, None, None]}, "column 'user_id' is null in every row"),
        ({"weight": "w"}, {"w": [1.0, -0.5, 2.0]}, "row 2, column 'w': -0.5 is not a weight"),
        ({"weight": "w"}, {"w": [1.0, 1.0, float("nan")]}, "row 3, column 'w': nan is not a"),
        ({"weight": "w"}, {"w": [None, 1.0, 1.0]}, "row 1, column 'w': None is not a weight"),
        ({"weight": "w"}, {"w": ["1", "2", "3"]}, "column 'w' is of type String; a weight is"),
        ({"timestamp": "t"}, {"t": ["2024-01-01", "soon", "2024-01-02"]}, "row 2, .*'soon' is not"),
        ({"timestamp": "t"}, {"t": [1.7e9, 1.7e9, None]}, "row 3, column 't': None is not a time"),
        ({"position": "p"}, {"p": [1, None, 2]}, "row 2, column 'p': None is missing"),
        ({"position": "p"}, {"p": [1.0, 1.5, 2.0]}, "row 2, column 'p': 1.5 is not a whole"),
        ({"position": "p"}, {"p": ["1", "2", "3"]}, "column 'p' is of type String; a position"),
        ({"split": "s"}, {"s": ["train", "holdout", "test"]}, "row 2, .*'holdout' is not a split"),
        ({"split": "s"}, {"s": [0, 1, 2]}, "column 's' is of type Int64; a split column says"),
        ({"split": "s"}, {"s": [None, None, None]}, "column 's' is null in every row"),
        ({"split": "s"}, {"s": ["", "", ""]}, "no rows are left: 3 rows with no s"),
        ({"weight": "wieght"}, {"weight": [1, 1, 1]}, "no column 'wieght'.*did you mean 'weight'"),
    ],
)
def test_faults_name_row_column_and_value(
    schema: dict[str, Any], columns: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(Schema(**schema), **columns)


def test_columns_of_the_user_may_have_our_names() -> None:
    frame = pl.DataFrame({"row": [1, 2], "query": ["a", "b"], "order": [2, 1], "value": [1, -1]})
    table = open_table(frame, "interactions")
    schema = Schema(query_id="row", item_id="query", position="order")
    found = read_interactions(table, schema).table.frame.collect()
    assert found.to_dict(as_series=False) == {
        "row": [0, 1],
        "query": [1, 2],
        "item": ["a", "b"],
        "order": [2, 1],
    }
    with pytest.raises(DataError, match="row 2, column 'value': -1 is not a weight"):
        read_interactions(table, schema.model_copy(update={"weight": "value"}))


def test_a_fault_names_the_file_it_is_in(tmp_path: Path) -> None:
    good = pl.DataFrame({**BASE, "weight": [1.0, 2.0, 3.0]})
    good.write_parquet(tmp_path / "1.parquet")
    good.with_columns(weight=pl.Series([1.0, -1.0, 1.0])).write_parquet(tmp_path / "2.parquet")
    table = open_table(tmp_path, "interactions")
    with pytest.raises(DataError, match=r"2\.parquet: row 2, column 'weight': -1\.0"):
        read_interactions(table, Schema(weight="weight"))


def test_context_features_are_checked() -> None:
    schema = Schema(context_features=(Feature(name="price", kind=FeatureKind.NUMERIC),))
    with pytest.raises(DataError, match="row 2, column 'price': inf is not a finite number"):
        read(schema, price=[1.0, float("inf"), 2.0])
    assert read(schema, price=[1.0, None, 2.0])["context/price"].to_list() == [1.0, None, 2.0]
