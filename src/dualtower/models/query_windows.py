"""Targets and what their queries did before them: what a query tower is given."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualtower.data.columns import EarlierSum, FeatureColumn, QueryBatch, Ragged

_FEW_PLACES = 1 << 14
"""Windows of so many places together, padding and all, are not worth dividing."""
_FEW_ON_A_GPU = 1 << 23
"""Likewise off the CPU, where more kernels cost more than padding, until the network's vectors of
all places take gigabytes. The padded events are there whole all the same, a few bytes a place."""
_TIMES_SHORTER = 4
"""Windows that are so many times shorter than the longest are encoded apart."""


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

    def by_length(self) -> list[tuple[Tensor, "QueryWindows"]]:
        """Parts with windows of about one length, so that little time goes to padding.

        Logs differ in length by orders of magnitude, and a batch is padded to its longest window:
        of Amazon Books' batches 95 places in 100 are padding. On a GPU to start more kernels would
        cost more than that does, so there is one part, unless one long window among many makes
        the network's vectors of the batch too large for its memory. The padded `events` and
        `present` are there already, whole.

        Returns:
            Of each part, that with the longest windows first, the places of its targets,
            `[targets of the part]` ascending, and itself. One part where there is little to gain.
        """
        everything = torch.arange(len(self.window), device=self.window.device)
        few = _FEW_PLACES if self.present.device.type == "cpu" else _FEW_ON_A_GPU
        if self.present.numel() <= few or len(self.window) == 0:
            return [(everything, self)]
        return self._divided()

    def _divided(self) -> list[tuple[Tensor, "QueryWindows"]]:
        """All parts, as `by_length`."""
        read = self.known.new_zeros(len(self.queries)).scatter_reduce(
            0, self.window, self.known, "amax"
        )
        parts: list[tuple[Tensor, QueryWindows]] = []
        longest = self.present.shape[1]
        while longest:
            shorter = longest // _TIMES_SHORTER
            chosen = (read <= longest) & ((read > shorter) | (shorter == 0))
            targets = chosen[self.window].nonzero()[:, 0]
            if len(targets):
                length = max(1, int(read[chosen].max()))
                parts.append((targets, self._part(chosen, targets, length)))
            longest = shorter
        return parts

    def _part(self, chosen: Tensor, targets: Tensor, length: int) -> "QueryWindows":
        """The windows that are `chosen` (`[windows]`, bool), cut to a length."""
        windows = chosen.nonzero()[:, 0]
        place = chosen.cumsum(0) - 1
        rows, target_rows = windows.cpu().numpy(), targets.cpu().numpy()
        return QueryWindows(
            queries=self.queries[windows],
            events=self.events[windows, :length],
            present=self.present[windows, :length],
            earlier=self.earlier.take(rows),
            window=place[self.window[targets]],
            known=self.known[targets],
            query_features={name: c.take(rows) for name, c in self.query_features.items()},
            context={name: c.take(target_rows) for name, c in self.context.items()},
            before=None if self.before is None else self.before.take(rows),
        )


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
