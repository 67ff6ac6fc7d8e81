"""Softmax cross-entropy of each positive among sampled candidates."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dualtower.losses.shares import shares

_EXCLUDED = -1e30
_CHUNK = 512
"""Rows worked on at a time on a CPU: their scores against 1,500 candidates are 3 MB."""
_SCORES_AT_ONCE = 2**28
"""Elsewhere so many scores are worked on at a time: 1 GB."""


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

    j over the candidates that are not excluded for the row. On a CPU a few hundred rows at a time
    are scored, and turned into loss and gradient at once while they are in the processor's cache;
    on a GPU as many as make a gigabyte of scores.

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
        batch, size = len(queries), _chunk(queries, candidates)
        scaled = queries / temperature
        own = (scaled * positives).sum(1, keepdim=True)
        if positive_log_inclusion is not None:
            own = own - positive_log_inclusion[:, None]
        if share is None:
            share = own.new_full((batch,), 1 / batch)
        correction = None
        if candidate_log_inclusion is not None:
            correction = -candidate_log_inclusion.to(candidates.dtype)
        pairs = _by_chunk(excluded, batch, size)
        learns = any(ctx.needs_input_grad[:3])
        to_queries, to_positives, to_candidates = (
            torch.zeros_like(part) if learns else part for part in (queries, positives, candidates)
        )
        buffer = queries.new_empty(min(size, batch), len(candidates))
        loss = own.new_zeros(())
        for number, start in enumerate(range(0, batch, size)):
            rows = slice(start, min(start + size, batch))
            scores = buffer[: rows.stop - start]
            if correction is None:
                torch.mm(scaled[rows], candidates.T, out=scores)
            else:
                torch.addmm(correction, scaled[rows], candidates.T, out=scores)
            if pairs is not None:
                row, column = pairs[number]
                scores.index_put_((row - start, column), scores.new_tensor(_EXCLUDED))
            highest = torch.maximum(own[rows], _row_maximum(scores))
            scores.sub_(highest).exp_()
            positive = (own[rows] - highest).exp_()
            total = scores.sum(1, keepdim=True) + positive
            loss += share[rows] @ (total.log() + highest - own[rows])[:, 0]
            if learns:
                scale = share[rows, None] / temperature
                weight = scale / total
                own_weight = positive * weight - scale
                torch.mm(scores, candidates, out=to_queries[rows])
                to_queries[rows].mul_(weight).addcmul_(own_weight, positives[rows])
                torch.mul(own_weight, queries[rows], out=to_positives[rows])
                to_candidates.addmm_(scores.T, queries[rows] * weight)
        if learns:
            ctx.save_for_backward(to_queries, to_positives, to_candidates)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * part for part in ctx.saved_tensors), *[None] * 5


def _chunk(queries: Tensor, candidates: Tensor) -> int:
    """Rows scored at a time: on a CPU what the cache holds, else what memory does."""
    if queries.device.type == "cpu":
        return _CHUNK
    return max(1, min(len(queries), _SCORES_AT_ONCE // max(1, len(candidates))))


def _by_chunk(
    excluded: tuple[Tensor, Tensor] | None, batch: int, size: int
) -> list[tuple[Tensor, Tensor]] | None:
    """The pairs of each chunk of rows; those given by ascending row need no sorting."""
    if excluded is None:
        return None
    row, column = excluded
    if len(row) > 1 and bool((row[1:] < row[:-1]).any()):
        order = row.argsort(stable=True)
        row, column = row[order], column[order]
    ends = torch.arange(size, batch + size, size, device=row.device)
    counts = torch.searchsorted(row, ends).diff(prepend=ends.new_zeros(1)).tolist()
    return list(zip(torch.split(row, counts), torch.split(column, counts), strict=True))


def _row_maximum(scores: Tensor) -> Tensor:
    if scores.shape[1] == 0:
        return scores.new_full((len(scores), 1), _EXCLUDED)
    return scores.amax(1, keepdim=True)
