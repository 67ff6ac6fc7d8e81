"""The history feature: the last item and pooled sums of the latest ones by lag, or their mean."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_SMALL_MATRIX = 1 << 22
"""Up to so many entries (16 MiB) the lag matrix is made."""


def lag_matrix(weights: Tensor, targets: Tensor, events: Tensor) -> Tensor:
    """The banded matrix that turns weights by lag into a pooled sum over the events before.

    Args:
        weights: `[pools, lags]`, the weight of the event 1, 2, … places before.
        targets: places of the targets, `[rows]`.
        events: places of the events, `[columns]`.

    Returns:
        `[pools, rows, columns]`: entry (k, t, s) is the weight of event s for target t; 0 unless s
        is 1 to `lags` places before t.
    """
    lag = targets[:, None] - events[None, :]
    inside = (lag >= 1) & (lag <= weights.shape[1])
    return weights[:, (lag - 1).clamp(0, weights.shape[1] - 1)] * inside


def at_places(rows: Tensor, window: Tensor, place: Tensor) -> Tensor:
    """`rows[window, place]` of `[windows, length, dim]`, with a gradient that is quick to add up.

    Args:
        rows: `[windows, length, dim]`.
        window: `[n]`.
        place: `[n]`.

    Returns:
        `[n, dim]`.
    """
    return functional.embedding(window * rows.shape[1] + place, rows.flatten(0, 1))


def pool_by_lag(weights: Tensor, events: Tensor, window: Tensor, known: Tensor) -> Tensor:
    """Weighted sums over the latest events that each target may see.

    For all places of usual windows at once it is one matrix product, which is fastest. Its matrix
    grows with the square of the length, so where a huge basket makes a window long, the lags of
    each target are gathered instead: memory then grows with targets · lags.

    Args:
        weights: `[pools, lags]`, the weight of the event 1, 2, … places before.
        events: `[windows, length, dim]`.
        window: the window of each target, `[targets]`.
        known: how many of its window's events the target may see, `[targets]`.

    Returns:
        `[pools, targets, dim]`.
    """
    length = events.shape[1]
    if len(weights) * length * (length + 1) <= _SMALL_MATRIX:
        return _pool_by_matrix(weights, events, window, known)
    return _pool_by_target(weights, events, window, known)


def _pool_by_matrix(weights: Tensor, events: Tensor, window: Tensor, known: Tensor) -> Tensor:
    """The windows are laid end to end, the last target of each in one row of the matrix.

    So the matrix has rows for a window's targets alone, not for the events before the first, and
    columns for the events that those see.
    """
    windows, length, dim = events.shape
    if len(window) == 0:
        return events.new_zeros(len(weights), 0, dim)
    last = known.new_zeros(windows).scatter_reduce(0, window, known, "amax")
    end = int(last.max())
    shift = end - last
    place = known + shift[window]
    first_row = int(place.min())
    first_column = max(0, first_row - weights.shape[1])
    rows = torch.arange(first_row, end + 1, device=known.device)
    columns = torch.arange(first_column, end, device=known.device)
    source = columns[:, None] - shift
    inside = source >= 0
    source = source.clamp(min=0) + torch.arange(windows, device=known.device) * length
    shown = functional.embedding(source, events.flatten(0, 1)) * inside[..., None]
    matrix = lag_matrix(weights, rows, columns).flatten(0, 1)
    pooled = (matrix @ shown.flatten(1)).view(-1, dim)
    pool = torch.arange(len(weights), device=known.device)[:, None]
    return functional.embedding((pool * len(rows) + place - first_row) * windows + window, pooled)


def _pool_by_target(weights: Tensor, events: Tensor, window: Tensor, known: Tensor) -> Tensor:
    """Of each target by itself."""
    length = events.shape[1]
    place = known[:, None] - torch.arange(1, weights.shape[1] + 1, device=known.device)
    row = window[:, None] * length + place.clamp(min=0)
    inside = place >= 0
    flat = events.flatten(0, 1)
    sums = [
        functional.embedding_bag(row, flat, per_sample_weights=pool * inside, mode="sum")
        for pool in weights
    ]
    return torch.stack(sums)


class HistoryEncoder(nn.Module):
    """Last item's embedding and `pools` sums of the latest `length` item embeddings.

    The weight of each lag is learned, one set a pool; it starts as an exponential decay whose
    half-life differs from pool to pool.
    """

    def __init__(self, length: int, pools: int) -> None:
        super().__init__()
        half_lives = np.geomspace(1.0, length / 2, pools) if pools > 1 else np.array([length / 4])
        lags = np.arange(length)
        start = 0.5 ** (lags[None, :] / half_lives[:, None])
        self.weights = nn.Parameter(torch.tensor(start, dtype=torch.float32))

    def output_dim(self, embedding_dim: int) -> int:
        """Length of the encoded history."""
        return embedding_dim * (1 + self.weights.shape[0])

    def forward(self, events: Tensor, window: Tensor, known: Tensor) -> Tensor:
        """Encode what each target may see.

        Args:
            events: item embeddings of padded windows, zero behind the end,
                `[windows, length, dim]`.
            window: the window of each target, `[targets]`.
            known: how many of its window's events the target may see, `[targets]`.

        Returns:
            `[targets, (1 + pools) · dim]`; zero where nothing is known.
        """
        last = at_places(events, window, (known - 1).clamp(min=0)) * (known > 0)[:, None]
        pooled = pool_by_lag(self.weights, events, window, known)
        return torch.cat([last, pooled.permute(1, 0, 2).flatten(1)], dim=1)


class MeanEncoder(nn.Module):
    """The mean of the latest `length` item embeddings (Covington et al. 2016, section 3.2)."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def output_dim(self, embedding_dim: int) -> int:
        """Length of the encoded history."""
        return embedding_dim

    def forward(self, events: Tensor, window: Tensor, known: Tensor) -> Tensor:
        """Encode what each target may see; arguments as of `HistoryEncoder`.

        Returns:
            `[targets, dim]`; zero where nothing is known.
        """
        running = functional.pad(events.cumsum(1), (0, 0, 1, 0)).flatten(0, 1)
        end = window * (events.shape[1] + 1) + known
        latest = known.clamp(max=self.length)
        total = functional.embedding(end, running) - functional.embedding(end - latest, running)
        return total / latest.clamp(min=1)[:, None]
