"""Several interests of one query: dynamic routing of its latest events to interest capsules."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_TARGETS_AT_ONCE = 256
"""Targets routed together: with 50 events of 32 floats each, 1.6 MB, which stay in the cache."""


def interest_counts(lengths: Tensor, most: int) -> Tensor:
    """How many interests a history of each length has: max(1, min(K, log2 |I_u|)), rounded down.

    Args:
        lengths: numbers of events, from 0, `[n]`.
        most: K, the most interests.
    """
    _, exponent = torch.frexp(lengths.double())  # length = mantissa · 2^exponent, mantissa ≥ 1/2
    return (exponent.long() - 1).clamp(min=1, max=most)


def squash(vectors: Tensor) -> Tensor:
    """Each vector with its direction kept and its length n made n² / (1 + n²).

    Args:
        vectors: `[..., dim]`; a zero vector stays zero.
    """
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    squashed: Tensor = vectors * (length / (1 + length**2))
    return squashed


def routing_weights(
    mapped: Tensor, present: Tensor, start: Tensor, counts: Tensor, iterations: int
) -> Tensor:
    """How much of each event goes to each interest: w_ij of Algorithm 1 of MIND.

    An event's weights are a softmax over the interests that the query has. Each iteration forms
    the capsules, u_j = squash(Σ_i w_ij S e_i), and adds their agreement with the event,
    ⟨u_j, S e_i⟩, to its logits.

    Args:
        mapped: S e_i of every event, `[targets, events, dim]`.
        present: whether there is an event, `[targets, events]`.
        start: the logits b_ij to begin with, `[interests, events]`.
        counts: how many interests each target has, at least 1, `[targets]`.
        iterations: how often the weights are computed, at least 1.

    Returns:
        `[targets, interests, events]`; exactly 0 where there is no event or no interest.
    """
    interest = torch.arange(len(start), device=start.device)
    absent = interest >= counts[:, None]
    logits = start.masked_fill(absent[:, :, None], -torch.inf)
    weights = logits.softmax(1) * present[:, None]
    for _ in range(iterations - 1):
        capsules = squash(torch.bmm(weights, mapped))
        logits = logits + torch.bmm(capsules, mapped.transpose(1, 2))
        weights = logits.softmax(1) * present[:, None]
    return weights


class InterestCapsules(nn.Module):
    """Behaviour-to-interest dynamic routing (Li et al. 2019, section 4.3).

    All events and interests share one bilinear map S. The logits start from a normal draw with a
    fixed seed, one number for each interest and lag, which is part of the state: neither trained
    nor drawn again, so the same history has the same interests whenever it is asked for. The
    weights are constants to the gradient, which reaches events and S through the sum that they
    weigh.
    """

    start: Tensor
    """b_ij to begin with, the latest event first, `[interests, history_length]`."""

    def __init__(self, dim: int, history_length: int, *, interests: int, iterations: int) -> None:
        """Choose the sizes.

        Args:
            dim: length of an event's embedding, and of a capsule.
            history_length: how many of the latest events are routed.
            interests: K, the most interests.
            iterations: of the routing.
        """
        super().__init__()
        self.iterations = iterations
        self.bilinear = nn.Parameter(nn.init.orthogonal_(torch.empty(dim, dim)))
        drawn = torch.randn(interests, history_length, generator=torch.Generator().manual_seed(0))
        self.register_buffer("start", drawn)

    def forward(self, events: Tensor, window: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The interests of each target, from the latest `history_length` events it may see.

        Memory grows with targets times interests; events are gathered for a few hundred targets at
        a time, those with histories of about the same length together.

        Args:
            events: item embeddings of padded windows, `[windows, length, dim]`.
            window: the window of each target, `[targets]`.
            known: how many of its window's events the target may see, `[targets]`.

        Returns:
            capsules: `[targets, interests, dim]`, each shorter than 1; zero where there is no
                interest or no event.
            counts: how many of them each target has, at least 1, `[targets]`.
        """
        interests, history_length = self.start.shape
        mapped = (events @ self.bilinear).flatten(0, 1)
        latest = known.clamp(max=history_length)
        counts = interest_counts(latest, interests)
        last = window * events.shape[1] + known - 1
        order = torch.argsort(latest, stable=True)
        parts = []
        for rows in torch.split(order, _TARGETS_AT_ONCE):
            lag = torch.arange(max(1, int(latest[rows].max())), device=known.device)
            present = lag < latest[rows, None]
            place = (last[rows, None] - lag) * present
            with torch.no_grad():
                weights = routing_weights(
                    mapped[place], present, self.start[:, : len(lag)], counts[rows], self.iterations
                )
            # What was gathered is gathered again in the backward pass rather than kept.
            parts.append(
                checkpoint(
                    _pooled, mapped, place, weights, use_reentrant=False, preserve_rng_state=False
                )
            )
        return squash(torch.cat(parts)[torch.argsort(order)]), counts


def _pooled(mapped: Tensor, place: Tensor, weights: Tensor) -> Tensor:
    return torch.bmm(weights, nn.functional.embedding(place, mapped))


def encode_interests(
    capsules: Tensor, counts: Tensor, profile: Sequence[Tensor], tower: Callable[[Tensor], Tensor]
) -> Tensor:
    """Each interest with the query's profile beside it, through the tower.

    Args:
        capsules: `[targets, interests, dim]`.
        counts: how many of them each target has, at least 1, `[targets]`.
        profile: what else is known of each target, `[targets, …]` each.
        tower: maps `[rows, …]` to `[rows, output_dim]`; it is spared the interests that are not.

    Returns:
        `[targets, interests, output_dim]`; the first interest's vector again where a target has no
        such interest, so that none but its own can be the best.
    """
    first = counts.cumsum(0) - counts
    target = torch.repeat_interleave(counts)
    interest = torch.arange(len(target), device=counts.device) - first[target]
    vectors = tower(
        torch.cat([capsules[target, interest], *(part[target] for part in profile)], dim=1)
    )
    number = torch.arange(capsules.shape[1], device=counts.device)
    return vectors[first[:, None] + number * (number < counts[:, None])]
