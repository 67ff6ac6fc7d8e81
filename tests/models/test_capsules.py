"""Dynamic routing against values by hand and against a loop over targets, events and interests."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dualtower.models import capsules
from dualtower.models.capsules import (
    InterestCapsules,
    encode_interests,
    interest_counts,
    routing_weights,
    squash,
)
from dualtower.models.towers import SharedInputs

LENGTH = 5
"""History length of the modules here."""


def module(interests: int = 3, iterations: int = 3) -> InterestCapsules:
    torch.manual_seed(1)
    made = InterestCapsules(4, LENGTH, interests=interests, iterations=iterations)
    with torch.no_grad():
        made.bilinear.copy_(torch.randn(4, 4))
    return made


def one_by_one(made: InterestCapsules, history: Tensor) -> list[Tensor]:
    """Algorithm 1 for one history, latest event last, with nothing shared with the module."""
    latest = [made.bilinear.T @ event for event in history[-LENGTH:]][::-1]
    most = made.start.shape[0]
    count = max(1, min(most, int(math.log2(len(latest))))) if latest else 1
    logits = [[float(made.start[j, i]) for i in range(len(latest))] for j in range(count)]
    for iteration in range(made.iterations):
        weights = []
        for i in range(len(latest)):
            total = sum(math.exp(logits[j][i]) for j in range(count))
            weights.append([math.exp(logits[j][i]) / total for j in range(count)])
        interests = []
        for j in range(count):
            z = torch.zeros(len(made.bilinear))
            for i, event in enumerate(latest):
                z = z + weights[i][j] * event
            square = float((z.detach() ** 2).sum())
            if square > 0:
                length = (z**2).sum().sqrt()
                z = z / length * (length**2 / (1 + length**2))
            interests.append(z)
        if iteration < made.iterations - 1:
            for j in range(count):
                for i, event in enumerate(latest):
                    logits[j][i] += float(interests[j].detach() @ event.detach())
    return interests


def windows() -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Three padded windows and targets at every place in them, with each target's history.

    In no order, and some of them twice or three times.
    """
    generator = torch.Generator().manual_seed(2)
    events = torch.randn(3, 9, 4, generator=generator)
    lengths = (9, 2, 6)
    for row, length in enumerate(lengths):
        events[row, length:] = 0
    places = [(row, known) for row, length in enumerate(lengths) for known in range(length + 1)]
    places = [*places[1::2], *places[::-1], *places[::3]]
    window, known = torch.tensor(places).T
    return events, window, known, [events[row, :many] for row, many in places]


def test_squash_by_hand():
    """Length 5 becomes 25 / 26, length 1/2 becomes 1/5; each vector by its own length."""
    given = squash(torch.tensor([[[3.0, 4.0], [0.0, 0.5]], [[0.0, 0.0], [-1.0, 0.0]]]))
    expected = [[[3 / 5 * 25 / 26, 4 / 5 * 25 / 26], [0, 0.2]], [[0, 0], [-0.5, 0]]]
    assert_close(given, torch.tensor(expected))


def test_squash_has_a_gradient_at_zero():
    vectors = torch.zeros(2, 3, requires_grad=True)
    squash(vectors).sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_the_number_of_interests_is_the_logarithm_of_the_history():
    lengths = torch.tensor([0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 1000])
    assert interest_counts(lengths, 4).tolist() == [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4]
    assert interest_counts(lengths, 20)[-1] == 9
    assert interest_counts(lengths, 1).tolist() == [1] * 12


def test_one_routing_iteration_by_hand():
    """Events (1, 0) and (0, 2). The first starts at 1 : 3 between the two interests, the second at
    1 : 1, so z_1 = (1/4, 1) and z_2 = (3/4, 1), of length √17/4 and 5/4. Squashed, the first is
    z_1 · (√17/4) / (33/16) and the second z_2 · (5/4) / (41/16) = (15/41, 20/41)."""
    mapped = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    start = torch.tensor([[[[0.0, 0.0], [math.log(3), 0.0]]]])
    present, both = torch.tensor([[[True, True]]]), torch.tensor([[2]])
    given = routing_weights(mapped, present, start, both, 1)
    assert_close(given, torch.tensor([[[[0.25, 0.5], [0.75, 0.5]]]]))

    first = math.sqrt(17) / 4 / (33 / 16)
    towards = [3 * math.exp(15 / 41 - first / 4), math.exp(40 / 41 - 2 * first)]
    share = [odds / (1 + odds) for odds in towards]
    given = routing_weights(mapped, present, start, both, 2)
    assert_close(given, torch.tensor([[[[1 - share[0], 1 - share[1]], share]]]))


def test_an_event_is_shared_out_among_interests_and_padding_gets_nothing():
    """The softmax is over the interests; a softmax over the events, or over all K interests of a
    query that has fewer, fails here."""
    generator = torch.Generator().manual_seed(0)
    mapped, start = torch.randn(1, 4, 3, generator=generator), torch.randn(1, 2, 3, 4)
    present = torch.tensor([[[True, True, True, False], [True, False, False, False]]])
    weights = routing_weights(mapped, present, start, torch.tensor([[3, 2]]), 3)[0]
    assert_close(weights.sum(1), present[0].float())
    assert (weights[0, :, 3] == 0).all()
    assert (weights[1, :, 1:] == 0).all()
    assert (weights[1, 2] == 0).all()


@pytest.mark.parametrize("interests", [1, 3])
@pytest.mark.parametrize("iterations", [1, 2, 3])
@pytest.mark.parametrize(
    ("at_once", "steps"), [(1, (1, 1)), (40, (1, 9)), (40, (3, 9)), (2**18, (16, 64))]
)
def test_every_target_of_a_window_as_by_a_loop(
    monkeypatch: pytest.MonkeyPatch,
    interests: int,
    iterations: int,
    at_once: int,
    steps: tuple[int, int],
):
    monkeypatch.setattr(capsules, "_NUMBERS_AT_ONCE", at_once)
    monkeypatch.setattr(capsules, "_STEPS", steps)
    made = module(interests, iterations)
    events, window, known, histories = windows()
    given, counts = made(events, window, known)
    assert given.shape == (37, interests, 4)
    for row, history in enumerate(histories):
        expected = one_by_one(made, history)
        assert counts[row] == len(expected)
        assert_close(given[row, : len(expected)], torch.stack(expected))
        assert (given[row, len(expected) :] == 0).all()


def test_padding_is_less_than_three_quarters(monkeypatch: pytest.MonkeyPatch):
    """Windows of one target beside one with a target at each of many places, as baskets have."""
    numbers = []
    real = routing_weights

    def spied(mapped: Tensor, present: Tensor, start: Tensor, *others: Any) -> Tensor:
        numbers.append(start.numel())
        return real(mapped, present, start, *others)

    monkeypatch.setattr(capsules, "routing_weights", spied)
    made = InterestCapsules(4, 100, interests=3, iterations=2)
    known = torch.arange(500) % 150
    window = torch.cat([torch.arange(500), torch.full((150,), 500)])
    made(torch.randn(501, 150, 4), window, torch.cat([known, torch.arange(150)]))
    alone = 3 * int(known.clamp(min=1, max=100).sum())
    together = 3 * (50 * 49 + 50 * 99 + 50 * 149)  # no event leaves before the 150th target
    assert alone + together <= sum(numbers) < 4 * (alone + together)
    assert max(numbers) <= 4 * (2**18 + 3 * 50 * 149)


def test_gradients_reach_events_and_map_as_by_a_loop_with_constant_weights():
    made = module()
    events, window, known, _ = windows()
    events.requires_grad_()
    signs = torch.randn(37, 3, 4, generator=torch.Generator().manual_seed(3))
    (made(events, window, known)[0] * signs).sum().backward()
    assert events.grad is not None
    assert made.bilinear.grad is not None
    given = events.grad.clone(), made.bilinear.grad.clone()
    events.grad = made.bilinear.grad = None

    total = torch.zeros(())
    for row, (place, many) in enumerate(zip(window.tolist(), known.tolist(), strict=True)):
        for interest, vector in enumerate(one_by_one(made, events[place, :many])):
            total = total + (vector * signs[row, interest]).sum()
    total.backward()
    assert_close(given, (events.grad, made.bilinear.grad), rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing_whatever_stands_there():
    made = module()
    events, window, known, _ = windows()
    plain = made(events, window, known)[0]
    filled = events.clone()
    filled[1, 2:] = 1e3
    assert torch.equal(made(filled, window, known)[0], plain)
    longer = torch.cat([events, torch.full((3, 4, 4), -1e3)], dim=1)
    assert torch.equal(made(longer, window, known)[0], plain)


def test_events_after_the_target_or_beyond_the_history_change_nothing():
    made = module()
    events, window, known, _ = windows()
    plain = made(events, window, known)[0]
    changed = events.clone()
    changed[0, 0] += 7  # six places and more before targets 6 to 9
    changed[0, 6:] -= 7
    same = (window != 0) | (known == 6)
    assert torch.equal(made(changed, window, known)[0][same], plain[same])


def test_the_first_logits_are_drawn_once_and_for_all():
    torch.manual_seed(10)
    one = InterestCapsules(4, LENGTH, interests=3, iterations=3)
    torch.manual_seed(11)
    other = InterestCapsules(4, LENGTH, interests=3, iterations=3)
    assert torch.equal(one.start, other.start)
    assert one.start.std() > 0.5
    assert "start" in one.state_dict()
    assert [name for name, _ in one.named_parameters()] == ["bilinear"]
    events, window, known, _ = windows()
    assert torch.equal(one(events, window, known)[0], one(events, window, known)[0])


def test_each_interest_goes_through_the_tower_with_the_profile_and_absent_ones_repeat_the_first():
    capsule = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [0.0], [0.0]], [[5.0], [6.0], [0.0]]])
    profile = [torch.tensor([[10.0], [20.0], [30.0]]), torch.tensor([[0.5], [0.5], [0.25]])]
    seen = []

    def tower(interests: Tensor, shared: SharedInputs) -> Tensor:
        inputs = shared.behind(interests)
        seen.extend(inputs.tolist())
        return inputs.sum(1, keepdim=True)

    given = encode_interests(capsule, torch.tensor([3, 1, 2]), profile, tower)
    assert seen == [
        [1, 10, 0.5],
        [2, 10, 0.5],
        [3, 10, 0.5],
        [4, 20, 0.5],
        [5, 30, 0.25],
        [6, 30, 0.25],
    ]
    assert given[:, :, 0].tolist() == [
        [11.5, 12.5, 13.5],
        [24.5, 24.5, 24.5],
        [35.25, 36.25, 35.25],
    ]
    alone = encode_interests(capsule, torch.tensor([3, 1, 2]), [], tower)
    assert alone[:, :, 0].tolist() == [[1, 2, 3], [4, 4, 4], [5, 6, 5]]
