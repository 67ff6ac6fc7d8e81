import pytest
import torch

from dualtower.losses.shares import shares


def test_values_by_hand() -> None:
    torch.testing.assert_close(
        shares(torch.tensor([1.0, 0.0, 3.0]), 3), torch.tensor([0.25, 0.0, 0.75])
    )


def test_all_zero_weights_count_nothing() -> None:
    assert torch.equal(shares(torch.zeros(3), 3), torch.zeros(3))


def test_large_and_small_weights_neither_overflow_nor_vanish() -> None:
    for size in (3e38, 1e-38):
        weights = torch.tensor([size, size])
        torch.testing.assert_close(shares(weights, 2), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (4, 4), (3,), (1,), ()])
def test_shapes_that_would_broadcast_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"weights must be \[4\]"):
        shares(torch.ones(shape), 4)
