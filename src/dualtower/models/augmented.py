"""Augmented vectors a_u and a_v (the Adaptive-Mimic Mechanism), in two forms behind one interface.

`LeaveOut`, the default: the minimiser of the mimic loss (Eq. 2) in closed form, without the
example at hand. `Learned`, the paper's: tables that the mimic loss trains.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dualtower.models.features import hide_rows
from dualtower.models.history import at_places, pool_by_lag
from dualtower.models.table import EmbeddingTable


@dataclass(frozen=True)
class Past:
    """What each target's query did before it, as vectors of the item tower."""

    queries: Tensor
    """Query row of each target, `[targets]`."""
    window: Tensor
    """The window of each target, `[targets]`."""
    known: Tensor
    """How many of its window's events the target may see, `[targets]`."""
    vectors: Tensor | None
    """p_v of the windows' events, zero behind the end,
    `[windows, length, output_dim]`; None where the form does not read them."""
    earlier_sum: Tensor | None
    """Sum of p_v over the query's events before the window, `[windows, output_dim]`."""
    earlier_count: Tensor | None
    """Their number, `[windows]`."""


class Augmented(nn.Module):
    """What both forms offer to the towers and to training."""

    dim: int
    """Length of one augmented vector."""
    query_dim: int
    """What the query tower's input grows by."""
    item_dim: int
    """What the item tower's input grows by."""
    folds: int
    """Training batches hold queries of one fold each, of so many."""
    reads_past: bool
    """Whether `query` needs the past's vectors."""
    exact: bool
    """Whether the vectors are a closed form of the events, made exact after training."""
    project: "Projection"
    """Maps p to the length of an augmented vector."""

    @abstractmethod
    def query(self, past: Past) -> Tensor:
        """a_u as the query tower's input, `[targets, query_dim]`."""

    @abstractmethod
    def item(self, items: Tensor, fold: int | None) -> Tensor:
        """a_v of item rows `[n]` as the item tower's input, `[n, item_dim]`.

        Args:
            items: item rows, each once.
            fold: what this fold's queries contributed is left out; None leaves nothing out.
        """

    def observe(self, items: Tensor, query_vectors: Tensor, fold: int) -> None:
        """Take note of the p_u `[n, output_dim]` of each positive's item `[n]`, after a step."""

    def fade(self) -> None:
        """Called between epochs."""

    def clear(self) -> None:
        """Called before the last, exact pass over all events."""


class Projection(nn.Module):
    """Maps p to another length by a fixed matrix with orthonormal rows or columns.

    Figure 2 of the paper varies the augmented dimension by itself, while Eq. 2 subtracts p from it.
    The mimic target is therefore p itself where both lengths are the same and a fixed projection of
    p where they are not: a shorter one keeps part of p, a longer one holds p without loss.
    """

    matrix: Tensor | None

    def __init__(self, output_dim: int, augmented_dim: int) -> None:
        super().__init__()
        matrix = None
        if output_dim != augmented_dim:
            size = max(output_dim, augmented_dim)
            drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
            matrix = torch.linalg.qr(drawn)[0][:output_dim, :augmented_dim].contiguous()
        self.register_buffer("matrix", matrix)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[..., output_dim]` to `[..., augmented_dim]`."""
        return vectors if self.matrix is None else vectors @ self.matrix


class LeaveOut(Augmented):
    """Closed-form augmented vectors that never hold the example itself.

    a_u is, by cause, the mean of p_v over the events *before* the target, and beside it a decayed
    mean over the latest ones. a_v is the mean of p_u over the item's events of queries in *other
    folds* than the batch's own: a batch holds queries of one fold, so nothing of any of them is in
    the a_v that it reads. In serving nothing is left out, and both are plain sums over counts.
    """

    sums: Tensor
    """Sum of projected p_u per fold and item row, `[folds, items, dim]`."""
    counts: Tensor
    """Number of summed events, `[folds, items]`."""

    def __init__(
        self,
        item_count: int,
        output_dim: int,
        dim: int,
        *,
        folds: int,
        fade: float,
        history_length: int,
    ) -> None:
        super().__init__()
        self.dim = self.item_dim = dim
        self.query_dim = 2 * dim
        self.folds = folds
        self.reads_past = self.exact = True
        self.project = Projection(output_dim, dim)
        self._fade = fade
        self._history_length = history_length
        self.register_buffer("sums", torch.zeros(folds, item_count, dim))
        self.register_buffer("counts", torch.zeros(folds, item_count))
        self.decay_logit = nn.Parameter(torch.tensor(1.4))

    def query(self, past: Past) -> Tensor:
        """Mean and decayed mean of p_v over the events before each target; zero without any."""
        assert past.vectors is not None
        assert past.earlier_sum is not None
        assert past.earlier_count is not None
        running = torch.nn.functional.pad(past.vectors.cumsum(1), (0, 0, 1, 0))
        total = at_places(running, past.window, past.known) + past.earlier_sum.index_select(
            0, past.window
        )
        count = past.known + past.earlier_count[past.window]
        mean = total / count.clamp(min=1)[:, None]
        lags = torch.arange(self._history_length, device=total.device)
        weights = torch.sigmoid(self.decay_logit) ** lags
        decayed = pool_by_lag(weights[None], past.vectors, past.window, past.known)[0]
        latest = past.known.clamp(min=1, max=self._history_length)
        decayed = decayed / weights.cumsum(0)[latest - 1][:, None]
        return torch.cat([self.project(mean), self.project(decayed)], dim=1)

    def item(self, items: Tensor, fold: int | None) -> Tensor:
        """Mean of p_u over the items' events outside `fold`; zero where there are none."""
        others = [other for other in range(self.folds) if other != fold]
        total, count = self.sums.new_zeros(len(items), self.dim), self.counts.new_zeros(len(items))
        for other in others:
            total += self.sums[other].index_select(0, items)
            count += self.counts[other].index_select(0, items)
        return total / count.clamp(min=1e-6)[:, None]

    def observe(self, items: Tensor, query_vectors: Tensor, fold: int) -> None:
        """Add each positive's p_u to its item's sum in `fold`."""
        projected = self.project(query_vectors.detach())
        self.sums[fold].index_add_(0, items, projected)
        self.counts[fold].index_add_(0, items, projected.new_ones(len(items)))

    def fade(self) -> None:
        """Shrink what was summed so far, so that the p_u of the newer weights count more."""
        self.sums *= self._fade
        self.counts *= self._fade

    def clear(self) -> None:
        """Forget all sums."""
        self.sums.zero_()
        self.counts.zero_()


class Learned(Augmented):
    """The paper's: a row per query and per item, trained by the mimic loss and through the tower.

    While (u, v) trains, a_u already holds p_v and a_v holds p_u: the towers read the answer in
    their input (docs/model.md, "The label leak").
    """

    def __init__(
        self,
        query_count: int,
        item_count: int,
        output_dim: int,
        dim: int,
        *,
        id_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self._id_dropout = id_dropout
        self.dim = self.query_dim = self.item_dim = dim
        self.folds = 1
        self.reads_past = self.exact = False
        self.project = Projection(output_dim, dim)
        self.queries = EmbeddingTable(query_count, dim)
        self.items = EmbeddingTable(item_count, dim)

    def query(self, past: Past) -> Tensor:
        """The row of each target's query."""
        rows: Tensor = self.queries(past.queries)
        return rows

    def item(self, items: Tensor, fold: int | None) -> Tensor:
        """The row of each item; in training a share of them read the unknown's, row 0."""
        rows = hide_rows(items, self._id_dropout if self.training else 0.0)
        found: Tensor = self.items(rows, unique=rows is items)
        return found
