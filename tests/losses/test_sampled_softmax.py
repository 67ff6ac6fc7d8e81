import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dualtower.losses.sampled_softmax import sampled_softmax


def scores_for(batch: int, candidates: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch * 100 + candidates)
    return torch.randn(batch, candidates, generator=generator, dtype=torch.float64)


def test_value_by_hand() -> None:
    # exp(scores) are 1 2 1 and 3 1 4: probabilities 2/4 and 3/8.
    scores = torch.tensor([[1.0, 2.0, 1.0], [3.0, 1.0, 4.0]], dtype=torch.float64).log()
    loss = sampled_softmax(scores, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(-(math.log(2 / 4) + math.log(3 / 8)) / 2, rel=1e-12)


def test_exclusion_and_correction_by_hand() -> None:
    # Divided by the inclusion probabilities 1/2 1 1/4, exp(scores) are 2 2 4 and 6 1 16.
    # The first row loses its last candidate; the second row's target is marked, and stays.
    scores = torch.tensor([[1.0, 2.0, 1.0], [3.0, 1.0, 4.0]], dtype=torch.float64).log()
    loss = sampled_softmax(
        scores,
        torch.tensor([1, 0]),
        excluded=torch.tensor([[False, False, True], [True, False, False]]),
        log_inclusion=torch.tensor([0.5, 1.0, 0.25], dtype=torch.float64).log(),
    )
    assert loss.item() == pytest.approx(-(math.log(2 / 4) + math.log(6 / 23)) / 2, rel=1e-12)


@pytest.mark.parametrize("with_excluded", [False, True])
@pytest.mark.parametrize("with_log_inclusion", [False, True])
def test_equal_to_composed_operations(with_excluded: bool, with_log_inclusion: bool) -> None:
    target = torch.tensor([0, 3, 5, 5])
    excluded = torch.zeros(4, 6, dtype=torch.bool)
    excluded[0, 2] = excluded[1, 3] = excluded[3, 0] = True
    kept = excluded.clone()
    kept[1, 3] = False
    log_inclusion = -torch.arange(6, dtype=torch.float64)

    ours = scores_for(4, 6).requires_grad_()
    options = {
        "excluded": excluded if with_excluded else None,
        "log_inclusion": log_inclusion if with_log_inclusion else None,
    }
    loss = sampled_softmax(ours, target, **options)
    (3 * loss).backward()

    reference = scores_for(4, 6).requires_grad_()
    logits = reference - log_inclusion if with_log_inclusion else reference
    logits = logits.masked_fill(kept, -math.inf) if with_excluded else logits
    expected = functional.cross_entropy(logits, target)
    (3 * expected).backward()

    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, reference.grad)
    assert torch.autograd.gradcheck(lambda s: sampled_softmax(s, target, **options), ours)
    assert torch.equal(ours.detach(), scores_for(4, 6)), "the scores were written to"


def test_an_excluded_candidate_gets_no_gradient() -> None:
    scores = scores_for(2, 4).requires_grad_()
    excluded = torch.tensor([[False, True, False, False], [False, False, False, True]])
    sampled_softmax(scores, torch.tensor([0, 1]), excluded=excluded).backward()
    assert scores.grad is not None
    assert torch.equal(scores.grad == 0, excluded)


def test_a_row_whose_others_are_all_excluded_contributes_nothing() -> None:
    scores = torch.tensor([[500.0, -500.0], [0.0, 0.0]], requires_grad=True)
    excluded = torch.tensor([[True, True], [False, False]])
    loss = sampled_softmax(scores, torch.tensor([1, 0]), excluded=excluded)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) / 2)
    torch.testing.assert_close(scores.grad, torch.tensor([[0.0, 0.0], [-0.25, 0.25]]))


def test_large_scores_stay_finite() -> None:
    scores = torch.tensor([[1000.0, -1000.0]], requires_grad=True)
    loss = sampled_softmax(scores, torch.tensor([1]))
    loss.backward()
    assert loss.item() == 2000.0
    torch.testing.assert_close(scores.grad, torch.tensor([[1.0, -1.0]]))


def test_duplicating_the_rows_changes_nothing() -> None:
    scores, target = scores_for(3, 5), torch.tensor([0, 4, 2])
    once = sampled_softmax(scores, target)
    twice = sampled_softmax(scores.repeat(2, 1), target.repeat(2))
    torch.testing.assert_close(once, twice, rtol=1e-14, atol=0)


def test_no_gradient_to_the_correction() -> None:
    log_inclusion = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    scores = scores_for(2, 5).requires_grad_()
    sampled_softmax(scores, torch.tensor([0, 1]), log_inclusion=log_inclusion).backward()
    assert log_inclusion.grad is None


@pytest.mark.parametrize(
    ("scores", "target", "options", "message"),
    [
        ((4,), (4,), {}, "scores"),
        ((4, 4), (4, 1), {}, "scores"),
        ((4, 5), (5,), {}, "scores"),
        ((0, 5), (0,), {}, "scores"),
        ((4, 4), (4,), {"excluded": torch.zeros(4, dtype=torch.bool)}, "excluded"),
        ((4, 4), (4,), {"log_inclusion": torch.zeros(4, 1)}, "log_inclusion"),
        ((4, 5), (4,), {"log_inclusion": torch.zeros(4)}, "log_inclusion"),
    ],
)
def test_shapes_that_would_broadcast_are_refused(
    scores: tuple[int, ...], target: tuple[int, ...], options: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sampled_softmax(torch.zeros(scores), torch.zeros(target, dtype=torch.int64), **options)
