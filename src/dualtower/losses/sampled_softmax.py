"""Softmax cross-entropy of each positive among sampled candidates."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dualtower.losses.shares import shares

_EXCLUDED = -1e30


def sampled_softmax(
    queries: Tensor,
    positives: Tensor,
    candidates: Tensor,
    *,
    temperature: float = 1.0,
    excluded: tuple[Tensor, Tensor] | None = None,
    positive_log_inclusion: Tensor | None = None,
    candidate_log_inclusion: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean of -log softmax of each query's positive against the candidates of the batch.

    With the logit s(u, v) = ⟨p_u, p_v⟩ / temperature − log q_v, where q_v is the probability that
    v is among a batch's candidates (the logQ correction: an item that is a negative often must not
    be pushed down more for it), row b contributes

        −s(u_b, v_b) + log(exp s(u_b, v_b) + Σ_j exp s(u_b, c_j)),

    j over the candidates that are not excluded for the row. The scores `[batch, candidates]` exist
    once, in one buffer that the forward fills and the backward reads: nothing else of that size is
    kept or written.

    With `candidate_log_inclusion` alone the positive counts as what it is: in the denominator with
    probability one, while the negatives stand for the whole corpus, Ẑ = Σ_j exp s(u_b, c_j) being
    an unbiased estimate of its sum (Horvitz and Thompson). This is the refined correction of
    Khrylchenko et al. 2025 (arXiv 2507.09331), whose loss
    −(1 − P̂) (⟨p_u, p_v⟩ / temperature − log Ẑ), with P̂ = e^s / (e^s + Ẑ) held fixed, has the
    same gradient: they weigh an example by the probability that the model is wrong on it. With
    Ẑ estimated by q_v = n Q(v) for n draws from Q it is theirs; here q_v is the probability that
    v is among candidates that are each counted once.

    Once differentiable; duplicating the rows does not change the loss; no
    gradient goes to the inclusions and weights.

    Args:
        queries: p_u, `[batch, dim]`.
        positives: p_v of each row's positive, `[batch, dim]`.
        candidates: p_v of the shared candidates, `[candidates, dim]`.
        temperature: above 0; inner products are divided by it.
        excluded: rows `[n]` and columns `[n]` of the candidates to leave out of a row: its own
            positive where that is among the candidates, and items of its history. A pair may be
            named twice.
        positive_log_inclusion: log q of each positive, `[batch]`; None: no correction of it.
        candidate_log_inclusion: log q of each candidate, `[candidates]`; None: no correction.
        weights: of the rows, `[batch]`; None: all count the same.

    Returns:
        The mean over the batch, with `weights` the weighted mean, a scalar; 0 for a row whose
        candidates are all excluded.

    Raises:
        ValueError: the shapes do not fit, or the batch is empty.
    """
    batch = len(queries)
    fits = queries.ndim == 2 and positives.shape == queries.shape
    if not fits or candidates.ndim != 2 or candidates.shape[1] != queries.shape[1] or batch == 0:
        raise ValueError(
            "sampled_softmax takes queries and positives [batch, dim], batch at least 1, and "
            f"candidates [candidates, dim]; given {list(queries.shape)}, "
            f"{list(positives.shape)} and {list(candidates.shape)}"
        )
    for name, tensor, length in (
        ("positive_log_inclusion", positive_log_inclusion, batch),
        ("candidate_log_inclusion", candidate_log_inclusion, len(candidates)),
    ):
        if tensor is not None and tensor.shape != (length,):
            raise ValueError(f"{name} must be [{length}]; given {list(tensor.shape)}")
    loss: Tensor = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        queries,
        positives,
        candidates,
        temperature,
        excluded,
        positive_log_inclusion,
        candidate_log_inclusion,
        None if weights is None else shares(weights, batch),
    )
    return loss


class _SampledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        positives: Tensor,
        candidates: Tensor,
        temperature: float,
        excluded: tuple[Tensor, Tensor] | None,
        positive_log_inclusion: Tensor | None,
        candidate_log_inclusion: Tensor | None,
        share: Tensor | None,
    ) -> Tensor:
        scaled = queries / temperature
        positive = (scaled * positives).sum(1, keepdim=True)
        if positive_log_inclusion is not None:
            positive = positive - positive_log_inclusion[:, None]
        if candidate_log_inclusion is None:
            scores = scaled @ candidates.T
        else:
            scores = torch.addmm(-candidate_log_inclusion[None], scaled, candidates.T)
        if excluded is not None:
            scores.index_put_(excluded, scores.new_tensor(_EXCLUDED))
        highest = torch.maximum(positive, _row_maximum(scores))
        scores.sub_(highest).exp_()
        own = (positive - highest).exp_()
        total = scores.sum(1, keepdim=True) + own
        ctx.save_for_backward(queries, positives, candidates, scores, own, total, share)
        ctx.temperature = temperature
        losses = total.log() + highest - positive
        return losses.mean() if share is None else share @ losses[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, positives, candidates, scores, own, total, share = ctx.saved_tensors
        if share is None:
            scale = gradient / (len(queries) * ctx.temperature)
        else:
            scale = gradient * share[:, None] / ctx.temperature
        weight = scale / total
        own_weight = own * weight - scale
        to_queries = (scores @ candidates).mul_(weight).addcmul_(own_weight, positives)
        to_positives = own_weight * queries
        to_candidates = scores.T @ (queries * weight)
        return to_queries, to_positives, to_candidates, None, None, None, None, None


def _row_maximum(scores: Tensor) -> Tensor:
    if scores.shape[1] == 0:
        return scores.new_full((len(scores), 1), _EXCLUDED)
    return scores.amax(1, keepdim=True)
