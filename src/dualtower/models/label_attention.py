"""Label-aware attention: in training, one query vector out of several, chosen by the target."""

from typing import Literal

import torch
from torch import Tensor

_SMALLEST = 1e-6
"""Stands for scores of 0 and less, whose power would be unbounded in the gradient."""


def label_aware_attention(
    interests: Tensor, counts: Tensor, targets: Tensor, power: float | Literal["hard"]
) -> Tensor:
    """v_u = Σ_j w_j v_j with w = softmax(score ^ power): section 4.4 of MIND.

    A score below 0 counts as 0: an even power would otherwise take the interest that is farthest
    from the target for the nearest, and a fractional one would not be a number.

    Args:
        interests: the query's vectors, behind the tower, `[targets, interests, dim]`.
        counts: how many of them each target has, at least 1, `[targets]`.
        targets: the target item's vector, scaled as the scores of the loss are, `[targets, dim]`.
        power: 0 weighs all alike, more prefers the interest nearest to the target; `hard` is the
            limit, that interest alone.

    Returns:
        `[targets, dim]`.
    """
    scores = torch.bmm(interests, targets[:, :, None])[:, :, 0]
    number = torch.arange(interests.shape[1], device=interests.device)
    absent = number >= counts[:, None]
    if power == "hard":
        best = scores.masked_fill(absent, -torch.inf).argmax(1)
        return interests[torch.arange(len(best), device=best.device), best]
    powers = scores.clamp(min=_SMALLEST) ** power
    weights = powers.masked_fill(absent, -torch.inf).softmax(1)
    return torch.bmm(weights[:, None], interests)[:, 0]
