import math

import pytest
import torch

from dualtower.losses.binary_cross_entropy import binary_cross_entropy


def test_value_by_hand() -> None:
    # sigma(0) = 1/2, sigma(ln 3) = 3/4, sigma(-ln 3) = 1/4, sigma(ln 4) = 4/5; T = 2 · 3.
    ln3, ln4 = math.log(3), math.log(4)
    positive = torch.tensor([0.0, ln3], dtype=torch.float64)
    negative = torch.tensor([[0.0, ln3], [-ln3, ln4]], dtype=torch.float64)
    logs = [1 / 2, 3 / 4, 1 / 2, 1 / 4, 3 / 4, 1 / 5]
    expected = -sum(math.log(probability) for probability in logs) / 6
    assert binary_cross_entropy(positive, negative).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_by_hand_and_numerically() -> None:
    positive = torch.tensor([0.0, math.log(3)], dtype=torch.float64, requires_grad=True)
    negative = torch.tensor([[0.0], [-math.log(3)]], dtype=torch.float64, requires_grad=True)
    binary_cross_entropy(positive, negative).backward()
    assert positive.grad is not None
    assert negative.grad is not None
    torch.testing.assert_close(positive.grad, torch.tensor([-0.5, -0.25]).double() / 4)
    torch.testing.assert_close(negative.grad, torch.tensor([[0.5], [0.25]]).double() / 4)
    assert torch.autograd.gradcheck(binary_cross_entropy, (positive, negative))


def test_duplicating_the_batch_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(5, generator=generator, dtype=torch.float64)
    negative = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    once = binary_cross_entropy(positive, negative)
    twice = binary_cross_entropy(positive.repeat(2), negative.repeat(2, 1))
    torch.testing.assert_close(once, twice, rtol=1e-14, atol=0)


def test_large_logits_stay_finite() -> None:
    loss = binary_cross_entropy(torch.tensor([-1000.0]), torch.tensor([[1000.0]]))
    assert loss.item() == 1000.0


def test_no_negatives() -> None:
    assert binary_cross_entropy(torch.zeros(3), torch.zeros(3, 0)).item() == pytest.approx(
        math.log(2)
    )


@pytest.mark.parametrize(
    ("positive", "negative"),
    [((4, 1), (4, 4)), ((4,), (4,)), ((4,), (1, 4)), ((4,), (5, 4)), ((), (4, 4))],
)
def test_shapes_that_would_broadcast_are_refused(
    positive: tuple[int, ...], negative: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"positive \[batch\] and negative \[batch, S\]"):
        binary_cross_entropy(torch.zeros(positive), torch.zeros(negative))


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch is empty"):
        binary_cross_entropy(torch.zeros(0), torch.zeros(0, 4))


def test_weights_by_hand() -> None:
    # Of the pairs above: positive 0 has the losses ln 2 + ln 2 + ln 4, positive 1 ln 4/3 + ln 4/3
    # + ln 5; weights 1 and 3 over T = 4 · 3.
    ln3, ln4 = math.log(3), math.log(4)
    positive = torch.tensor([0.0, ln3], dtype=torch.float64)
    negative = torch.tensor([[0.0, ln3], [-ln3, ln4]], dtype=torch.float64)
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    expected = (math.log(16) + 3 * (math.log(16 / 9) + math.log(5))) / 12
    loss = binary_cross_entropy(positive, negative, weights)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    same = binary_cross_entropy(positive, negative, 2 * weights)
    torch.testing.assert_close(same, loss, rtol=1e-14, atol=0)
    twice = binary_cross_entropy(positive.repeat(2), negative.repeat(2, 1), weights.repeat(2))
    torch.testing.assert_close(twice, loss, rtol=1e-14, atol=0)


def test_as_many_negatives_as_positives_with_weights() -> None:
    """Where weights `[batch]` against `[batch, S]` would broadcast along the wrong axis."""
    negative = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    binary_cross_entropy(torch.zeros(2, dtype=torch.float64), negative, weights).backward()
    assert negative.grad is not None
    torch.testing.assert_close(negative.grad[0], torch.tensor([1.0, 2.0]).double().sigmoid() / 3)
    assert torch.equal(negative.grad[1], torch.zeros(2).double())
