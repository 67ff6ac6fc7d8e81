"""Label-aware attention against values by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from dualtower.models.label_attention import label_aware_attention

INTERESTS = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [2.0, 0.0]]])
"""Three interests; in these tests the third is often an absent one that repeats the first."""
TARGET = torch.tensor([[1.0, 1.0]])
"""Its scores are 2, 1 and 2."""


def softmax(*logits: float) -> list[float]:
    total = sum(math.exp(logit) for logit in logits)
    return [math.exp(logit) / total for logit in logits]


def test_weights_are_the_softmax_of_the_powers():
    first, second = softmax(4, 1)
    given = label_aware_attention(INTERESTS, torch.tensor([2]), TARGET, 2.0)
    assert_close(given, torch.tensor([[2 * first, second]]))
    first, second, third = softmax(8, 1, 8)
    given = label_aware_attention(INTERESTS, torch.tensor([3]), TARGET, 3.0)
    assert_close(given, torch.tensor([[2 * (first + third), second]]))


def test_power_0_is_the_mean_of_the_interests_that_are():
    given = label_aware_attention(INTERESTS, torch.tensor([2]), TARGET, 0.0)
    assert_close(given, torch.tensor([[1.0, 0.5]]))


def test_hard_is_the_nearest_interest_and_the_limit_of_the_powers():
    interests = torch.tensor([[[0.0, 1.5], [2.0, 0.0], [9.0, 9.0]]])
    hard = label_aware_attention(interests, torch.tensor([2]), TARGET, "hard")
    assert hard.tolist() == [[2, 0]]
    soft = label_aware_attention(interests, torch.tensor([2]), TARGET, 8.0)
    assert_close(soft, hard)


def test_the_farthest_interest_is_not_taken_for_the_nearest():
    """Scores −3 and 1: a square of the first would win."""
    interests = torch.tensor([[[-3.0, 0.0], [0.0, 1.0]]])
    first, second = softmax(0, 1)
    given = label_aware_attention(interests, torch.tensor([2]), TARGET, 2.0)
    assert_close(given, torch.tensor([[-3 * first, second]]))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 8.0, "hard"])
def test_gradients_are_numbers_for_scores_of_every_size(power):
    interests = torch.tensor([[[0.0, 0.0], [-2.0, 0.0], [100.0, 0.0]]] * 2, requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    label_aware_attention(interests, torch.tensor([3, 2]), target, power).sum().backward()
    assert interests.grad is not None
    assert interests.grad.isfinite().all()
    assert (interests.grad[1, 2] == 0).all()  # absent
    if power != "hard":  # which a target only chooses by
        assert target.grad is not None
        assert target.grad.isfinite().all()
