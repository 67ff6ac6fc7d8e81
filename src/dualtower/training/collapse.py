"""Notices when a model's representations have collapsed, and says so in plain words."""

import warnings

import torch
from torch import Tensor

from dualtower.config import ModelConfig
from dualtower.errors import CollapseWarning

_ZERO_SHARE = 0.5
_FLAT_SCORES = 1e-3


def find_collapse(queries: Tensor, items: Tensor) -> str | None:
    """What is wrong with these vectors, in plain words; None when nothing is.

    Args:
        queries: p_u of some queries, `[n, dim]`.
        items: p_v of some items, `[m, dim]`.
    """
    for side, vectors in (("query", queries), ("item", items)):
        zero = float((vectors.abs().amax(1) == 0).float().mean())
        if zero > _ZERO_SHARE:
            return f"{zero:.0%} of the {side} vectors are zero"
    if len(items) < 2:
        return None  # one item cannot be told apart from others
    spread = float((queries @ items.T).std(dim=1).mean())
    if not spread >= _FLAT_SCORES:
        return f"a query's scores are the same for all items (standard deviation {spread:.1g})"
    return None


def warn_of_collapse(fault: str, config: ModelConfig, epoch: int) -> None:
    """Warn that the model is dead, why that happens, and what to set instead."""
    cause = ""
    if config.last_relu:
        cause = (
            " ReLU on the last layer (last_relu = true, Eq. 1 to the letter) keeps every cosine "
            "at 0 or above and can switch a whole tower off for good."
        )
    warnings.warn(
        f"After epoch {epoch} the representations have collapsed: {fault}. The model no longer "
        f"tells items apart and its recommendations are arbitrary.{cause} Use "
        'preset = "recommended", or last_relu = false, a softmax loss and a lower learning rate.',
        CollapseWarning,
        stacklevel=2,
    )


def sample_rows(count: int, size: int, device: torch.device) -> Tensor:
    """Up to `size` rows of `1 … count - 1`, evenly spaced, `[n]`."""
    chosen = min(size, count - 1)
    return torch.linspace(1, count - 1, chosen, dtype=torch.float64, device=device).long()
