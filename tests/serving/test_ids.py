from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dualtower.data.vocabulary import Vocabulary
from dualtower.serving.ids import RowOfId, ids_of_rows


@pytest.mark.parametrize(
    "values",
    [
        pl.Series(["b", "a", "", "ä", "aa", "z" * 300, "日本"]),
        pl.Series([5, -3, 2**62, 0]),
        pl.Series([7, 1], dtype=pl.Int32),
        pl.Series([7, 2**64 - 1], dtype=pl.UInt64),
        pl.Series([1.5, 2.0]),
        pl.Series([False, True]),
        pl.Series([], dtype=pl.String),
    ],
)
def test_rows_are_those_of_the_vocabulary(values: pl.Series) -> None:
    vocabulary = Vocabulary(values)
    row_of = RowOfId(vocabulary)
    for place, value in enumerate(values.to_list()):
        assert row_of(value) == place + 1
    for unknown in ("c", "aaa", 99, -(2**63), 2**63 - 1):
        assert row_of(unknown) == vocabulary.encode(pl.Series([unknown]))[0]
    ids = ids_of_rows(vocabulary, np.arange(1, len(vocabulary)))
    assert [str(value) for value in ids] == values.cast(pl.String).to_list()
    np.testing.assert_array_equal(row_of.rows(ids.tolist()), np.arange(1, len(vocabulary)))
    assert len(row_of.rows([])) == 0


def test_dates_and_truth_are_found_by_their_texts() -> None:
    days = RowOfId(Vocabulary(pl.Series([date(2024, 5, 1), date(2024, 5, 2)])))
    np.testing.assert_array_equal(days.rows(["2024-05-02", "2024-05", 5, "x"]), [2, 0, 0, 0])
    for values in (pl.Series(["true", "x"]), pl.Series([True, False]), pl.Series([1, 0])):
        assert RowOfId(Vocabulary(values))(True) == 1
        assert RowOfId(Vocabulary(values))(False) == (0 if values.dtype == pl.String else 2)


def test_a_value_of_another_type_is_cast_where_nothing_is_lost() -> None:
    numbers = RowOfId(Vocabulary(pl.Series([12, 7])))
    assert numbers("12") == 1
    assert numbers("x") == 0
    assert RowOfId(Vocabulary(pl.Series(["7", "12"])))(12) == 2
    np.testing.assert_array_equal(numbers.rows([7, 8, "12"]), [2, 0, 1])


SIGNED = Vocabulary(pl.Series([12, 0, -3, 2**62]))
UNSIGNED = Vocabulary(pl.Series([12, 0], dtype=pl.UInt8))
TEXTS = Vocabulary(pl.Series(["12", "012", "-3", "x"]))


@given(st.from_regex(r"[ +-]?[0-9]{0,3}[.e_ ]?[0-9]?", fullmatch=True) | st.text() | st.integers())
@example("-0")
@example("+12")
@example("٣")
@example("12\n")
@example("9" * 1_000)
def test_texts_and_numbers_are_cast_as_the_vocabulary_casts_them(value: str | int) -> None:
    for vocabulary in (SIGNED, UNSIGNED, TEXTS):
        if isinstance(value, str) or -(2**63) <= value < 2**63:
            assert RowOfId(vocabulary)(value) == vocabulary.encode(pl.Series([value]))[0]


def test_a_text_of_a_number_is_found_without_a_join(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = RowOfId(Vocabulary(pl.Series([12, 7])))
    texts = RowOfId(Vocabulary(pl.Series(["12", "7"])))
    # A join takes a thousand times as long as the search: a history of 1,000 items stopped all
    # answers for 21 seconds.
    monkeypatch.delattr(Vocabulary, "encode")
    np.testing.assert_array_equal(numbers.rows(["7", "12", "x", "1e3"]), [2, 1, 0, 0])
    np.testing.assert_array_equal(texts.rows([7, 12, 8]), [2, 1, 0])
    assert numbers("9" * 5_000) == 0  # more digits than Python reads
    large = RowOfId(Vocabulary(pl.Series([7, 2**64 - 1], dtype=pl.UInt64)))
    np.testing.assert_array_equal(large.rows([7, -1, "-1", str(2**64 - 1)]), [1, 0, 0, 2])


def test_integers_stay_numbers() -> None:
    ids = ids_of_rows(Vocabulary(pl.Series([30, 20])), np.array([2, 1]))
    assert ids.dtype == np.int64
    assert ids.tolist() == [20, 30]
