"""What `prepare` says of a table that is as it may be, but is probably not what was meant."""

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.arrays import query_chunks
from dualtower.data.columns import FeatureColumn
from dualtower.schema import FeatureKind

NULL_WORDS = ("null", "none", "na", "n/a", "<na>", "nan", "\\n")
"""What programs write where there is no value, in any case; any of them may be an id as well."""
_SORTED_SHARE = 0.9
"""From this share on of events that follow one with a smaller (or a larger) item id a table looks
sorted by it; by chance it is a half."""
_FEWEST_PAIRS = 100
"""With fewer events that follow another it may be chance."""


def null_word_notes(counts: pl.DataFrame, column: str, what: str) -> list[str]:
    """A line for each id that other programs write where there is none.

    Args:
        counts: `value` and `len` (number of events) of every id.
        column: the user's name of the id column.
        what: "query" or "item".
    """
    if counts.schema["value"] != pl.String:
        return []
    found = counts.filter(pl.col("value").str.strip_chars().str.to_lowercase().is_in(NULL_WORDS))
    return [
        f"{count:,} rows have {column} '{value}', which stands for a missing id in many tables: "
        f"they are taken as one {what} of that name; if the id is missing there, leave it empty"
        for value, count in found.select("value", "len").iter_rows()
    ]


def order_note(
    offsets: npt.NDArray[np.int64],
    items: npt.NDArray[np.int32],
    split: npt.NDArray[np.int8] | None,
) -> list[str]:
    """A line where the rows of a log of which no order is known look sorted by item id.

    A model would take that for a sequence: read the small ids, predict the large ones. Looked at
    are the events that follow a different item of the same query and part of the split.
    """
    smaller = larger = 0
    for first, last in query_chunks(offsets):
        begin, end = offsets[first], offsets[last]
        follows = np.ones(end - begin, dtype=bool)
        follows[offsets[first:last][np.diff(offsets[first : last + 1]) > 0] - begin] = False
        if split is not None:
            follows &= np.diff(split[begin:end], prepend=0) == 0
        step = np.diff(items[begin:end], prepend=0)[follows]
        smaller, larger = smaller + int((step > 0).sum()), larger + int((step < 0).sum())
    pairs, most = smaller + larger, max(smaller, larger)
    if pairs < _FEWEST_PAIRS or most < _SORTED_SHARE * pairs:
        return []
    return [
        "columns: neither timestamp nor position is named, so each query's rows count as they "
        f"stand, but {most / pairs:.0%} follow one with a "
        f"{'smaller' if most == smaller else 'larger'} item id: that looks like a sorted table, "
        "not like what happened first; name the column that tells, or set columns.unordered = true"
    ]


def late_history_note(
    offsets: npt.NDArray[np.int64],
    times: npt.NDArray[np.int64] | None,
    split: npt.NDArray[np.int8] | None,
) -> list[str]:
    """A line where the split column marks events as test that are older than what goes before.

    Args:
        offsets: where each query's events begin, `[queries + 1]`.
        times: of each event.
        split: 0 train, 1 validation, 2 test of each event.
    """
    if times is None or split is None:
        return []
    tested = late = 0
    for first, last in query_chunks(offsets):
        events = slice(offsets[first], offsets[last])
        rows = _rows_of(offsets, first, last)
        is_test = split[events] == 2
        latest = np.full(last - first, np.iinfo(np.int64).min)
        np.maximum.at(latest, rows[~is_test], times[events][~is_test])
        has_history = np.bincount(rows[~is_test], minlength=last - first) > 0
        tested += int(has_history[rows[is_test]].sum())
        late += int((times[events] < latest[rows])[is_test].sum())
    if not late:
        return []
    return [
        f"columns.split: {late / tested:.1%} of the {tested:,} test events of queries with a "
        "history are older than some of it, so the split is not one in time: a model is asked for "
        "events whose future it has seen. Leave columns.split out, and split by time or "
        "leave_last_out, to measure what comes next"
    ]


def own_item_notes(
    offsets: npt.NDArray[np.int64],
    items: npt.NDArray[np.int32],
    query_features: dict[str, FeatureColumn],
) -> list[str]:
    """A line for each feature of the queries that lists items of a query's own events.

    Args:
        offsets: where each query's events begin, `[queries + 1]`.
        items: the item row of each event.
        query_features: by name; one row per query row.
    """
    notes = []
    for name, column in query_features.items():
        if column.feature.kind == FeatureKind.SEQUENCE and column.offsets is not None:
            found = _lists_with_own_items(offsets, items, column.offsets, column.values)
            if found:
                notes.append(
                    f"columns.query_features {name!r}: the lists of {found:,} of "
                    f"{len(offsets) - 2:,} queries hold items of their own events; where these are "
                    "to be predicted, a model reads the answers there, so leave the feature out "
                    "unless its lists are older than the test"
                )
    return notes


def _lists_with_own_items(
    offsets: npt.NDArray[np.int64],
    items: npt.NDArray[np.int32],
    list_offsets: npt.NDArray[np.int64],
    listed: npt.NDArray[np.generic],
) -> int:
    """How many queries have a known item in their list that is one of their events' too."""
    count = 0
    for first, last in query_chunks(offsets + list_offsets):  # both are held at a time
        pairs = []
        for starts, values in ((offsets, items), (list_offsets, listed)):
            own = np.asarray(values[starts[first] : starts[last]], dtype=np.int64)
            pairs.append((_rows_of(starts, first, last) << 32 | own)[own > 0])
        count += len(np.unique(np.intersect1d(pairs[0], pairs[1]) >> 32))
    return count


def _rows_of(offsets: npt.NDArray[np.int64], first: int, last: int) -> npt.NDArray[np.int64]:
    """Of each value of the queries from `first` to before `last`, which of them it is, from 0."""
    return np.repeat(np.arange(last - first), np.diff(offsets[first : last + 1]))
