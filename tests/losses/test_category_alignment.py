import numpy as np
import pytest
import torch

from dualtower.losses.category_alignment import RunningCovariances, category_alignment


def test_two_categories_by_hand() -> None:
    # Category 3: C = [[1, .5], [.5, 1]]; category 7: C = [[2, 2], [2, 2]].
    # The difference is [[-1, -1.5], [-1.5, -1]]: 1 + 2.25 + 2.25 + 1 = 6.5.
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [0.0, 0.0], [2.0, 2.0]])
    categories = torch.tensor([3, 3, 3, 7, 7])
    assert category_alignment(vectors, categories).item() == pytest.approx(6.5)
    order = torch.tensor([4, 1, 3, 0, 2])
    assert category_alignment(vectors[order], categories[order]).item() == pytest.approx(6.5)


def test_a_category_with_one_item_is_left_out() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [0.0, 0.0], [2.0, 2.0], [9.0, 4.0]])
    categories = torch.tensor([3, 3, 3, 7, 7, 1])
    vectors.requires_grad_()
    loss = category_alignment(vectors, categories)
    loss.backward()
    assert loss.item() == pytest.approx(6.5)
    assert vectors.grad is not None
    assert vectors.grad[5].tolist() == [0.0, 0.0]
    assert vectors.grad[0].abs().sum() > 0
    assert vectors.grad[3].abs().sum() > 0


@pytest.mark.parametrize("categories", [[4, 4, 4], [1, 2, 3], [4, 4, 1]])
def test_fewer_than_two_categories_of_two_items_give_zero(categories: list[int]) -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]], requires_grad=True)
    loss = category_alignment(vectors, torch.tensor(categories))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(vectors.grad, torch.zeros(3, 2))


def test_of_several_largest_the_lowest_number_is_the_major() -> None:
    # Variances 0 (category 2), 2 (category 5), 8 (category 9), two items each:
    # with 2 as major (0-2)² + (0-8)² = 68; 5 would give 40, 9 would give 100.
    vectors = torch.tensor([[0.0], [2.0], [1.0], [1.0], [0.0], [4.0]])
    categories = torch.tensor([5, 5, 2, 2, 9, 9])
    assert category_alignment(vectors, categories).item() == pytest.approx(68.0)


def test_equal_to_numpy_covariances() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(200, 6))
    categories = np.repeat([4, 0, 9, 11, 30], [90, 60, 40, 9, 1])
    shuffled = generator.permutation(200)
    vectors, categories = vectors[shuffled], categories[shuffled]
    covariance = {c: np.cov(vectors[categories == c], rowvar=False) for c in (4, 0, 9, 11)}
    expected = sum(((covariance[4] - covariance[c]) ** 2).sum() for c in (0, 9, 11))
    loss = category_alignment(torch.from_numpy(vectors), torch.from_numpy(categories))
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_gradient_numerically() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    categories = torch.tensor([1, 0, 1, 1, 0, 2, 5])
    assert torch.autograd.gradcheck(lambda v: category_alignment(v, categories), vectors)


def test_shapes_and_the_empty_batch() -> None:
    with pytest.raises(ValueError, match=r"categories \[n\]"):
        category_alignment(torch.zeros(4, 4), torch.zeros(4, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"categories \[n\]"):
        category_alignment(torch.zeros(4), torch.zeros(4, dtype=torch.int64))
    empty = category_alignment(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert empty.item() == 0.0


def test_running_covariances_by_hand() -> None:
    # One dimension. First batch: category 1 has variance 2, category 2 variance 8. Second batch:
    # 18 and 2; with a momentum of .75 that is .75 · 2 + .25 · 18 = 6 and .75 · 8 + .25 · 2 = 6.5.
    running = RunningCovariances(3, 1, 0.75, torch.device("cpu"))
    categories = torch.tensor([1, 1, 2, 2])
    first = torch.tensor([[0.0], [2.0], [0.0], [4.0]])
    assert category_alignment(first, categories, running).item() == pytest.approx(36.0)
    second = torch.tensor([[0.0], [6.0], [0.0], [2.0]], requires_grad=True)
    loss = category_alignment(second, categories, running)
    loss.backward()
    assert loss.item() == pytest.approx(0.25)
    # d loss / d C_1 = 2 (6 - 6.5) = -1, and the batch's C by the second vector of the pair is 6.
    assert second.grad is not None
    assert second.grad[1].item() == pytest.approx(-1 * 6)
    running.clear()
    assert category_alignment(first, categories, running).item() == pytest.approx(36.0)


def test_a_category_of_one_row_leaves_its_running_covariance_alone() -> None:
    running = RunningCovariances(3, 1, 0.5, torch.device("cpu"))
    pairs = torch.tensor([1, 1, 2, 2])
    category_alignment(torch.tensor([[0.0], [2.0], [0.0], [4.0]]), pairs, running)
    alone = torch.tensor([[0.0], [2.0], [9.0]])
    assert category_alignment(alone, torch.tensor([1, 1, 2]), running).item() == 0.0
    third = torch.tensor([[0.0], [2.0], [0.0], [4.0]])
    assert category_alignment(third, pairs, running).item() == pytest.approx(36.0)
