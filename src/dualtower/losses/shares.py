"""How much each positive counts in a batch's loss when events have weights."""

import torch
from torch import Tensor


def shares(weights: Tensor, batch: int) -> Tensor:
    """Each positive's share of the loss: its weight over the sum of the batch's weights.

    The loss is then the weighted mean over the positives: it stays the same when all weights are
    doubled or the batch is duplicated, and equal weights give the plain mean.

    Args:
        weights: of the positives, `[batch]`, finite and at least 0.
        batch: number of positives.

    Returns:
        `[batch]`, summing to 1; zeros where all weights are 0. No gradient goes to the weights.

    Raises:
        ValueError: the shape is another, and would broadcast.
    """
    if weights.shape != (batch,):
        raise ValueError(f"weights must be [{batch}]; given {list(weights.shape)}")
    exact = weights.detach().to(torch.float64)
    smallest = torch.finfo(torch.float64).tiny
    return (exact / exact.sum().clamp(min=smallest)).to(weights.dtype)
