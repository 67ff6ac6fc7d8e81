"""Targets and what their queries did before them: what a query tower is given."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualtower.data.columns import EarlierSum, FeatureColumn, QueryBatch, Ragged


@dataclass(frozen=True)
class QueryWindows:
    """Targets and, before each, what its query did; tensors of one device."""

    queries: Tensor
    """Query row of each window, `[windows]`."""
    events: Tensor
    """Where each event's item stands in the item block, `[windows, length]`."""
    present: Tensor
    """Whether there is an event, `[windows, length]`."""
    earlier: Ragged
    """Item rows of the query's events before the window."""
    window: Tensor
    """The window of each target, `[targets]`."""
    known: Tensor
    """How many of its window's events the target may see, `[targets]`."""
    query_features: dict[str, FeatureColumn]
    """By name, one row per window."""
    context: dict[str, FeatureColumn]
    """By name, one row per target."""
    before: EarlierSum | None = None
    """The query's events before those of `earlier`, added up; None without any."""


def latest_windows(batch: QueryBatch, length: int, device: torch.device) -> QueryWindows:
    """A batch of requests as windows of the latest events, with one target each behind the last.

    Args:
        batch: the requests.
        length: how many of the latest events a window holds; 0 for a model that reads none.
        device: where the tensors go.
    """
    history = batch.history
    lengths = history.lengths()
    if length == 0:
        history = Ragged(history.values[:0], np.zeros(len(batch) + 1, dtype=np.int64))
        lengths = np.zeros_like(lengths)
    latest = np.minimum(lengths, length)
    width = max(1, int(latest.max(initial=0)))
    events = np.zeros((len(batch), width), dtype=np.int64)
    first = np.repeat(history.offsets[1:] - latest, lengths)
    place = np.arange(len(history.values)) - first
    inside = place >= 0
    events[history.row_of_value()[inside], place[inside]] = history.values[inside]
    earlier_offsets = np.concatenate([[0], np.cumsum(lengths - latest)])

    def to(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return QueryWindows(
        queries=to(batch.rows),
        events=to(events),
        present=to(np.arange(width) < latest[:, None]),
        earlier=Ragged(history.values[~inside], earlier_offsets),
        window=torch.arange(len(batch), device=device),
        known=to(latest),
        query_features=batch.features,
        context=batch.context,
        before=batch.earlier,
    )
