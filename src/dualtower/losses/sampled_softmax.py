"""Softmax cross-entropy of each positive among sampled candidates."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def sampled_softmax(
    scores: Tensor,
    target: Tensor,
    *,
    excluded: Tensor | None = None,
    log_inclusion: Tensor | None = None,
) -> Tensor:
    """Mean of -log softmax of each row's positive among the candidates of the batch.

    With the logit s'_j = s_j - log_inclusion_j (the logQ correction: a candidate that enters the
    batch often must not be pushed down more often for it), row b contributes
    -s'_target + log Σ_j exp(s'_j), j over the candidates that are not excluded. Its gradient to
    s_j is (softmax(s')_j - [j = target]) / batch, and 0 for an excluded candidate. A row whose
    other candidates are all excluded contributes 0. Duplicating the rows does not change the loss.
    Once differentiable; no gradient goes to `log_inclusion`.

    Args:
        scores: `[batch, candidates]` floats, already divided by the temperature.
        target: `[batch]` int64, the column of each row's positive.
        excluded: `[batch, candidates]` bool; True takes a candidate out of its row (an accidental
            hit of the positive, an item of the history). The target itself always stays.
        log_inclusion: `[candidates]`, log of the probability that the candidate is in a batch.

    Returns:
        The mean over the batch, a scalar.

    Raises:
        ValueError: the shapes do not fit, or the batch is empty.
    """
    if scores.ndim != 2 or target.shape != scores.shape[:1] or len(scores) == 0:
        raise ValueError(
            "sampled_softmax takes scores [batch, candidates] and target [batch], batch at least "
            f"1; given {list(scores.shape)} and {list(target.shape)}"
        )
    if excluded is not None and excluded.shape != scores.shape:
        raise ValueError(
            f"excluded must have the shape of scores {list(scores.shape)}; "
            f"given {list(excluded.shape)}"
        )
    if log_inclusion is not None and log_inclusion.shape != scores.shape[1:]:
        raise ValueError(
            f"log_inclusion must be [candidates] = {list(scores.shape[1:])}; "
            f"given {list(log_inclusion.shape)}"
        )
    loss: Tensor = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        scores, target, excluded, log_inclusion
    )
    return loss


class _SampledSoftmax(torch.autograd.Function):
    """One buffer of the scores' size instead of the several that composed operations keep."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        target: Tensor,
        excluded: Tensor | None,
        log_inclusion: Tensor | None,
    ) -> Tensor:
        column = target.unsqueeze(1)
        logits = scores if log_inclusion is None else scores - log_inclusion
        positive = logits.gather(1, column)
        if excluded is not None:
            # The difference above is ours to write to; the scores are not.
            own = logits is not scores
            logits = (logits.masked_fill_ if own else logits.masked_fill)(excluded, -math.inf)
            logits.scatter_(1, column, positive)
        probability = torch.softmax(logits, dim=1)
        ctx.save_for_backward(probability, column)
        # log Σ exp(logits), read off at the largest logit, whose probability cannot underflow.
        log_sum = logits.amax(dim=1) - probability.amax(dim=1).log()
        return (log_sum - positive.squeeze(1)).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        probability, column = ctx.saved_tensors
        scale = gradient / len(probability)
        to_scores = probability * scale
        to_scores.scatter_add_(1, column, (-scale).expand(column.shape))
        return to_scores, None, None, None
