"""k-core: queries and items with too few events are dropped, to a fixed point."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dualtower.data.arrays import query_chunks


def core(
    offsets: npt.NDArray[np.int64],
    items: npt.NDArray[np.int32],
    item_count: int,
    min_query_events: int,
    min_item_events: int,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which query rows and item rows stay.

    The fixed point does not depend on the order in which rows are dropped. Each pass reads the
    events once, in pieces; the state is a count and a flag per query and item.

    Args:
        offsets: `[queries + 1]`, where each query's events begin.
        items: item row of each event, may be memory-mapped.
        item_count: rows of the item vocabulary, the unknown included.
        min_query_events: at least so many events on kept items per query.
        min_item_events: at least so many events of kept queries per item.

    Returns:
        Flags `[queries]` and `[items]`; row 0, the unknown, always stays.
    """
    queries = np.ones(len(offsets) - 1, dtype=np.bool_)
    kept_items = np.ones(item_count, dtype=np.bool_)
    while True:
        item_events = np.zeros(item_count, dtype=np.int64)
        for first, last, rows, piece in event_pieces(offsets, items):
            counts = np.bincount(rows[kept_items[piece]], minlength=last - first)
            stays = queries[first:last] & (counts >= min_query_events)
            if first == 0:
                stays[0] = True
            queries[first:last] = stays
            kept = piece[stays[rows] & kept_items[piece]]
            item_events += np.bincount(kept, minlength=item_count)
        stays = kept_items & (item_events >= min_item_events)
        stays[0] = True
        dropped_items = int((kept_items & ~stays).sum())
        kept_items = stays
        if dropped_items == 0:
            return queries, kept_items


def event_pieces(
    offsets: npt.NDArray[np.int64], items: npt.NDArray[np.int32]
) -> Iterator[tuple[int, int, npt.NDArray[np.int64], npt.NDArray[np.int32]]]:
    """Pieces of the events: first and last query row, the row of each event from `first`, items."""
    for first, last in query_chunks(offsets):
        lengths = np.diff(offsets[first : last + 1])
        rows = np.repeat(np.arange(last - first, dtype=np.int64), lengths)
        yield first, last, rows, np.asarray(items[offsets[first] : offsets[last]])
