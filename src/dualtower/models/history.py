"""The history feature: the last item and pooled sums of the latest ones by lag, or their mean."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_SMALL_MATRIX = 1 << 22
"""Up to so many entries (16 MiB) the lag matrix is made."""


def lag_matrix(weights: Tensor, length: int) -> Tensor:
    """The banded matrix that turns weights by lag into a pooled sum over the events before.

    Args:
        weights: `[pools, lags]`, the weight of the event 1, 2, … places before.
        length: number of events in a window.

    Returns:
        `[pools, length + 1, length]`: entry (k, t, s) is the weight of event s for a target at
        position t; 0 unless s is 1 to `lags` places before t. Position `length` is what comes
        after the last event.
    """
    lag = torch.arange(length + 1)[:, None] - torch.arange(length)[None, :]
    lag = lag.to(weights.device)
    inside = (lag >= 1) & (lag <= weights.shape[1])
    return weights[:, (lag - 1).clamp(0, weights.shape[1] - 1)] * inside


def pool_by_lag(weights: Tensor, events: Tensor, window: Tensor, known: Tensor) -> Tensor:
    """Weighted sums over the latest events that each target may see.

    For all positions of usual windows at once it is one matrix product, which is fastest. Its
    matrix grows with the square of the length, so where a huge basket makes a window long, the
    lags of each target are gathered instead: memory then grows with targets · lags.

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
        return _pool_by_matrix(weights, events)[:, known, window]
    return _pool_by_target(weights, events, window, known)


def _pool_by_matrix(weights: Tensor, events: Tensor) -> Tensor:
    """Of every position, `[pools, length + 1, windows, dim]`."""
    windows, length, dim = events.shape
    matrix = lag_matrix(weights, length).flatten(0, 1)
    flat = events.transpose(0, 1).reshape(length, windows * dim)
    return (matrix @ flat).view(len(weights), length + 1, windows, dim)


def _pool_by_target(weights: Tensor, events: Tensor, window: Tensor, known: Tensor) -> Tensor:
    """Of the targets alone, `[pools, targets, dim]`."""
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
        last = events[window, (known - 1).clamp(min=0)] * (known > 0)[:, None]
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
