"""Ids to rows and back for one request at a time, without a Python dictionary of all ids.

A dictionary of 700,000 ids takes a second of work that no other thread can interrupt, which is
a pause in every answer while a new bundle is loaded. Sorted arrays are made outside Python's lock.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.vocabulary import Vocabulary
from dualtower.serving.event import Id

_AT_ONCE = 4_096
_WHOLE = re.compile(r"[+-]?[0-9]{1,1000}")
_WHOLE_UNSIGNED = re.compile(r"\+?[0-9]{1,1000}")
"""Of no more digits than an id may have: Python refuses to read 4,301."""


class RowOfId:
    """Finds the row of one id by a binary search; a few microseconds, whatever the vocabulary.

    A page and most clients send ids as texts, so the text of a whole number is found as fast as
    the number, and a whole number as fast as its text.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Sort the ids of `vocabulary`; rows are as `vocabulary.encode` gives them."""
        self._vocabulary = vocabulary
        self._kind: type = type(None)
        self._ascending: Sequence[Any] = ()
        values = vocabulary.values
        self._number = _WHOLE_UNSIGNED if values.dtype.is_unsigned_integer() else _WHOLE
        order = values.arg_sort()
        if values.dtype == pl.String:
            self._kind = str
            self._ascending = _Texts(values.gather(order))
        elif values.dtype.is_integer():
            self._kind = int
            kind = np.uint64 if values.dtype == pl.UInt64 else np.int64
            self._ascending = _view(values.gather(order).to_numpy(), kind)
        self._rows = _view(order.to_numpy().astype(np.int64) + 1)

    def __call__(self, value: Id) -> int:
        """The row of an id; 0 where it is unknown."""
        if self._kind is int:
            if isinstance(value, str) and not self._number.fullmatch(value):
                return 0
            key: Any = int(value)
        elif self._kind is str:
            key = text_of(value).encode("utf-8", "surrogatepass")
        else:
            return int(self.rows([value])[0])
        place = bisect_left(self._ascending, key)
        if place < len(self._ascending) and self._ascending[place] == key:
            return self._rows[place]
        return 0

    def rows(self, values: Sequence[Id]) -> npt.NDArray[np.int64]:
        """The rows of a few ids, `[len(values)]`; 0 where one is unknown."""
        if self._kind is type(None):  # numbers with a fraction, dates, truth: rare as ids
            texts = pl.Series([text_of(value) for value in values], dtype=pl.String)
            return self._vocabulary.encode(texts).astype(np.int64)
        return np.fromiter(map(self, values), dtype=np.int64, count=len(values))


def text_of(value: Id) -> str:
    """An id or category as text, as Polars writes it: true and not True."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Texts(Sequence[bytes]):
    """Strings in one buffer, each read when it is asked for."""

    def __init__(self, values: pl.Series) -> None:
        array = values.to_arrow().cast("large_string")
        _, offsets, data = array.buffers()
        found = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
        self._offsets = _view(found)
        self._data = memoryview(data or b"")
        self._array = array  # owns the buffers

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, place: Any) -> Any:
        offsets = self._offsets
        return self._data[offsets[place] : offsets[place + 1]].tobytes()


def _view(values: npt.NDArray[Any], kind: type[np.integer] = np.int64) -> memoryview:
    """Whole numbers that Python reads one by one, faster than NumPy gives them."""
    array: Any = np.ascontiguousarray(values, dtype=kind)
    return memoryview(array)


def ids_of_rows(vocabulary: Vocabulary, rows: npt.NDArray[np.integer]) -> npt.NDArray[Any]:
    """The ids of rows as an array that JSON takes: whole numbers, or Python strings.

    Strings are made a few thousand at a time, so that other threads go on in between.
    """
    values = vocabulary.decode(rows)
    if values.dtype.is_integer():
        return values.to_numpy()
    if values.dtype != pl.String:
        values = values.cast(pl.String)
    result = np.empty(len(values), dtype=object)
    for start in range(0, len(values), _AT_ONCE):
        part = values.slice(start, _AT_ONCE)
        result[start : start + len(part)] = part.to_list()
    return result
