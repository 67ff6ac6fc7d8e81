import pytest
import torch

from dualtower.losses.mimic import mimic


def test_value_by_hand() -> None:
    # Squared distances 1 + 4 and 9 + 0, over T = 2 · (1 + 4).
    augmented = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    embedding = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert mimic(augmented, embedding, 4).item() == pytest.approx(14 / 10)
    assert mimic(augmented, embedding, 0).item() == pytest.approx(14 / 2)


def test_the_square_is_summed_over_dimensions_not_averaged() -> None:
    assert mimic(torch.ones(1, 32), torch.zeros(1, 32), 0).item() == 32.0


def test_the_gradient_reaches_the_augmented_vector_only() -> None:
    augmented = torch.tensor([[1.0, 2.0], [3.0, 0.0]], requires_grad=True)
    embedding = torch.tensor([[0.0, 1.0], [4.0, 0.0]], requires_grad=True)
    mimic(augmented, embedding, 1).backward()
    assert embedding.grad is None
    torch.testing.assert_close(augmented.grad, torch.tensor([[2.0, 2.0], [-2.0, 0.0]]) / 4)


def test_gradient_numerically() -> None:
    generator = torch.Generator().manual_seed(0)
    augmented = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    embedding = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: mimic(a, embedding, 4), augmented)


def test_the_mean_of_the_embeddings_is_its_minimum() -> None:
    embedding = torch.tensor([[1.0, 5.0], [3.0, 7.0]])
    augmented = torch.tensor([2.0, 6.0], requires_grad=True)
    mimic(augmented.expand(2, 2), embedding, 4).backward()
    torch.testing.assert_close(augmented.grad, torch.zeros(2))


def test_duplicating_the_batch_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    augmented, embedding = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    once = mimic(augmented, embedding, 4)
    twice = mimic(augmented.repeat(2, 1), embedding.repeat(2, 1), 4)
    torch.testing.assert_close(once, twice, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("augmented", "embedding"), [((4, 4), (4,)), ((4, 4), (4, 1)), ((1, 4), (4, 4)), ((4,), (4,))]
)
def test_shapes_that_would_broadcast_are_refused(
    augmented: tuple[int, ...], embedding: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="of one shape"):
        mimic(torch.zeros(augmented), torch.zeros(embedding), 4)


def test_an_empty_batch_and_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="batch at least 1"):
        mimic(torch.zeros(0, 4), torch.zeros(0, 4), 4)
    with pytest.raises(ValueError, match="at least 0: -1"):
        mimic(torch.zeros(1, 4), torch.zeros(1, 4), -1)


def test_weights_by_hand_where_the_batch_is_as_large_as_the_dimension() -> None:
    # Squared distances 1 + 4 and 9 + 0 with weights 1 and 3: (5 + 27) / 4, over 1 + 4 pairs.
    augmented = torch.tensor([[1.0, 2.0], [3.0, 0.0]], requires_grad=True)
    weights = torch.tensor([1.0, 3.0])
    loss = mimic(augmented, torch.zeros(2, 2), 4, weights)
    assert loss.item() == pytest.approx(32 / 4 / 5)
    loss.backward()
    torch.testing.assert_close(augmented.grad, torch.tensor([[2.0, 4.0], [18.0, 0.0]]) / 4 / 5)


def test_equal_weights_count_like_none() -> None:
    augmented, embedding = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(0))
    weighted = mimic(augmented, embedding, 4, torch.full((5,), 7.0))
    torch.testing.assert_close(weighted, mimic(augmented, embedding, 4))
