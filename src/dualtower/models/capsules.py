"""Several interests of one query: dynamic routing of its latest events to interest capsules."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dualtower.models.towers import SharedInputs

_NUMBERS_AT_ONCE = 2**18
"""About so many routing weights, or numbers of events where those are more, are handled together:
1 MB, which stays in the cache."""
_STEPS = (16, 64)
"""Targets of one window whose histories end within half a history of each other, or the nearer of
these numbers of events, are routed together."""


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

    An event's weights are a softmax over the interests that the target has. Each iteration forms
    the capsules, u_j = squash(Σ_i w_ij S e_i), and adds their agreement with the event,
    ⟨u_j, S e_i⟩, to its logits.

    Args:
        mapped: S e_i of events, for some groups of targets that share them, `[groups, events,
            dim]`.
        present: whether a target may see an event, `[groups, targets, events]`.
        start: the logits b_ij to begin with, `[groups, targets, interests, events]`.
        counts: how many interests each target has, at least 1, `[groups, targets]`.
        iterations: how often the weights are computed, at least 1.

    Returns:
        `[groups, targets, interests, events]`; exactly 0 where there is no event or no interest.
    """
    interest = torch.arange(start.shape[2], device=start.device)
    absent = interest >= counts[..., None]
    logits = start.masked_fill(absent[..., None], -torch.inf)
    weights = logits.softmax(2) * present[:, :, None]
    for _ in range(iterations - 1):
        capsules = squash(torch.bmm(weights.flatten(1, 2), mapped))
        agreement = torch.bmm(capsules, mapped.transpose(1, 2))
        logits = logits + agreement.view_as(logits)
        weights = logits.softmax(2) * present[:, :, None]
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

        Targets of one window that see about the same events are routed together, so that these are
        gathered once for all of them; those that see exactly the same are one. Memory for the
        backward pass grows with targets times interests times `history_length`.

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
        length = events.shape[1]
        mapped = (events @ self.bilinear).flatten(0, 1)
        distinct, alike = torch.unique(window * (length + 1) + known, return_inverse=True)
        window, known = distinct // (length + 1), distinct % (length + 1)
        counts = interest_counts(known.clamp(max=history_length), interests)
        pooled, order = [], []
        for groups in _grouped(window, known, history_length, interests, mapped.shape[1]):
            lag = known[groups.targets][:, :, None] - 1 - groups.places[:, None]
            present = (lag >= 0) & (lag < history_length)
            start = self.start[:, lag.clamp(0, history_length - 1)].permute(1, 2, 0, 3)
            rows = groups.windows[:, None] * length + groups.places.clamp(max=length - 1)
            seen = nn.functional.embedding(rows, mapped)
            with torch.no_grad():
                weights = routing_weights(
                    seen, present, start, counts[groups.targets], self.iterations
                )
            sums = torch.bmm(weights.flatten(1, 2), seen)
            inside = groups.inside.flatten().nonzero()[:, 0]
            pooled.append(nn.functional.embedding(inside, sums.view(groups.targets.numel(), -1)))
            order.append(groups.targets.flatten()[inside])
        place = torch.argsort(torch.cat(order))[alike]
        capsules = nn.functional.embedding(place, torch.cat(pooled))
        return squash(capsules.view(len(place), interests, -1)), counts[alike]


@dataclass(frozen=True)
class _Groups:
    """Some groups of targets, each of one window and with histories that end near each other."""

    windows: Tensor
    """The window of each group, `[groups]`."""
    places: Tensor
    """Places in the window that hold all events its targets may see, `[groups, events]`."""
    targets: Tensor
    """The targets, `[groups, most]`; of a smaller group the first one again behind the last."""
    inside: Tensor
    """Where they are not repeated, `[groups, most]`."""


def _grouped(
    window: Tensor, known: Tensor, history_length: int, interests: int, dim: int
) -> Iterator[_Groups]:
    """Deal targets out in groups, and groups of about one size in parts that fit the cache.

    A part is padded to its largest group: its groups differ less than twofold in targets and in
    events, so that less than three quarters of it is padding.

    Args:
        window: of each target, ascending, `[targets]`.
        known: how many of its window's events it may see, ascending in a window, `[targets]`.
        history_length: of them it sees so many at most.
        interests: K.
        dim: length of an event's embedding.
    """
    step = min(max(history_length // 2, _STEPS[0]), _STEPS[1])
    steps = int(known.max()) // step + 1
    counts = torch.unique_consecutive(window * steps + known // step, return_counts=True)[1]
    first = counts.cumsum(0) - counts
    low = (known[first] - history_length).clamp(min=0)
    widths = (known[first + counts - 1] - low).clamp(min=1)
    many, wide = counts.cpu(), widths.cpu()
    kind = 64 * torch.frexp(wide - 0.5)[1] + torch.frexp(many - 0.5)[1]  # powers of two
    order = torch.argsort(kind, stable=True)
    sizes = (wide * (many * interests).clamp(min=dim))[order]
    part = (sizes.cumsum(0) - sizes) // _NUMBERS_AT_ONCE
    # Neither falls along the order: their sum stays where both do.
    together = torch.unique_consecutive(kind[order] + part, return_counts=True)[1]
    for chosen in torch.split(order, together.tolist()):
        column = torch.arange(int(many[chosen].max()), device=known.device)
        place = torch.arange(int(wide[chosen].max()), device=known.device)
        chosen = chosen.to(known.device)
        inside = column < counts[chosen, None]
        yield _Groups(
            windows=window[first[chosen]],
            places=low[chosen, None] + place,
            targets=first[chosen, None] + column * inside,
            inside=inside,
        )


def encode_interests(
    capsules: Tensor,
    counts: Tensor,
    profile: Sequence[Tensor],
    tower: Callable[[Tensor, SharedInputs], Tensor],
) -> Tensor:
    """Each interest with the query's profile behind it, through the tower.

    Args:
        capsules: `[targets, interests, dim]`.
        counts: how many of them each target has, at least 1, `[targets]`.
        profile: what else is known of each target, `[targets, …]` each.
        tower: maps the interests that there are, and the profile that those of a target share, to
            `[rows, output_dim]`.

    Returns:
        `[targets, interests, output_dim]`; the first interest's vector again where a target has no
        such interest, so that none but its own can be the best.
    """
    first = counts.cumsum(0) - counts
    target = torch.repeat_interleave(counts)
    interest = torch.arange(len(target), device=counts.device) - first[target]
    known = torch.cat([capsules.new_empty(len(capsules), 0), *profile], dim=1)
    vectors = tower(capsules[target, interest], SharedInputs(known, target))
    number = torch.arange(capsules.shape[1], device=counts.device)
    return vectors[first[:, None] + number * (number < counts[:, None])]
