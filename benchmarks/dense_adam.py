"""The rival of `training.py`: dense gradients, default Adam, and a DataLoader that samples by row.

Nothing here is part of dualtower. It is written as DAT's public implementations and most two-tower
code are: `nn.Embedding` tables whose gradients have the tables' size, `torch.optim.Adam` as it
comes, a `Dataset` that draws a positive's negatives one row at a time, and both towers run for
every pair, so the query's S + 1 times for each positive.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset


class PairDataset(Dataset[tuple[int, npt.NDArray[np.int64]]]):
    """A positive per index: its query, and its item followed by negatives drawn then and there."""

    def __init__(
        self,
        queries: npt.NDArray[np.int32],
        items: npt.NDArray[np.int32],
        item_count: int,
        negatives: int,
        seed: int,
    ) -> None:
        self.queries = queries
        self.items = items
        self.item_count = item_count
        self.negatives = negatives
        self.random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, index: int) -> tuple[int, npt.NDArray[np.int64]]:
        positive = self.items[index]
        drawn = self.random.integers(1, self.item_count, self.negatives)
        while (drawn == positive).any():
            drawn = self.random.integers(1, self.item_count, self.negatives)
        return int(self.queries[index]), np.concatenate([[positive], drawn])


class DenseDat(nn.Module):
    """DAT as in Equations 1 to 5, without categories, on dense embedding tables."""

    def __init__(self, query_count: int, item_count: int, dim: int = 32) -> None:
        super().__init__()
        self.query_id = nn.Embedding(query_count, dim)
        self.item_id = nn.Embedding(item_count, dim)
        self.query_augmented = nn.Embedding(query_count, dim)
        self.item_augmented = nn.Embedding(item_count, dim)
        self.query_tower = _tower(2 * dim)
        self.item_tower = _tower(2 * dim)

    def loss(self, query: Tensor, items: Tensor) -> Tensor:
        """Eq. 5 with λ₁ = λ₂ = 0.5 on pairs: `query` `[batch]`, `items` `[batch, 1 + S]`."""
        pairs = items.numel()
        queries = query.unsqueeze(1).expand_as(items).reshape(-1)
        flat = items.reshape(-1)
        label = torch.zeros(items.shape, device=items.device)
        label[:, 0] = 1
        label = label.reshape(-1)
        a_u, a_v = self.query_augmented(queries), self.item_augmented(flat)
        p_u = functional.normalize(self.query_tower(torch.cat([self.query_id(queries), a_u], 1)))
        p_v = functional.normalize(self.item_tower(torch.cat([self.item_id(flat), a_v], 1)))
        entropy = functional.binary_cross_entropy_with_logits((p_u * p_v).sum(1), label)
        mimic_u = (label * (a_u - p_v.detach()).square().sum(1)).sum() / pairs
        mimic_v = (label * (a_v - p_u.detach()).square().sum(1)).sum() / pairs
        total: Tensor = entropy + 0.5 * mimic_u + 0.5 * mimic_v
        return total


def _tower(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 32),
        nn.ReLU(),
    )


def steps(
    queries: npt.NDArray[np.int32],
    items: npt.NDArray[np.int32],
    query_count: int,
    item_count: int,
    batch_size: int,
    device: str = "cpu",
) -> Iterator[int]:
    """Train for as long as it is asked to; yields after each step the positives it took.

    Args:
        queries: query row of each positive, `[positives]`.
        items: item row of each positive, `[positives]`.
        query_count: rows of the query tables.
        item_count: rows of the item tables.
        batch_size: positives per step.
        device: where it trains.
    """
    torch.manual_seed(0)
    model = DenseDat(query_count, item_count).to(device)
    adam = torch.optim.Adam(model.parameters(), lr=0.001)
    pairs = PairDataset(queries, items, item_count, 4, seed=0)
    while True:
        for query, batch in DataLoader(pairs, batch_size, shuffle=True, drop_last=True):
            loss = model.loss(query.to(device), batch.to(device))
            adam.zero_grad()
            torch.autograd.backward(loss)
            adam.step()
            loss.item()  # our loop reads every loss too; on a GPU that waits for the step
            yield len(query)
