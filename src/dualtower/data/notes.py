"""What `prepare` says of a table that is as it may be, but is probably not what was meant."""

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.arrays import query_chunks

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
        f"{count:,} rows have {column} {value!r}, which stands for a missing id in many tables: "
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
