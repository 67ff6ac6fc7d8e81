import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dualtower.models import layers
from dualtower.models.layers import fully_connected

Parts = tuple[Tensor, list[Tensor], list[Tensor]]


def parts(rows: int, dims: tuple[int, ...]) -> Parts:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    pairs = list(itertools.pairwise(dims))
    return (
        normal(rows, dims[0]),
        [normal(after, before) for before, after in pairs],
        [normal(after) for _, after in pairs],
    )


def composed(inputs: Tensor, weights: list[Tensor], biases: list[Tensor], last: bool) -> Tensor:
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        inputs = functional.linear(inputs, weight, bias)
        if last or layer < len(weights) - 1:
            inputs = functional.relu(inputs)
    return inputs


def test_value_and_gradient_by_hand() -> None:
    # ReLU(2 x - 1, -x) of x = 3 is (5, 0), and the output 5 - 0 + .5: W_1's second row is dead.
    inputs = torch.tensor([[3.0]], requires_grad=True)
    weights = [torch.tensor([[2.0], [-1.0]]), torch.tensor([[1.0, -1.0]])]
    biases = [torch.tensor([-1.0, 0.0]), torch.tensor([0.5])]
    for part in (*weights, *biases):
        part.requires_grad_()
    output = fully_connected(inputs, weights, biases, last_relu=False)
    output.backward()
    assert output.item() == 5.5
    assert inputs.grad.tolist() == [[2.0]]
    assert weights[0].grad.tolist() == [[3.0], [0.0]]
    assert weights[1].grad.tolist() == [[5.0, 0.0]]
    assert biases[0].grad.tolist() == [1.0, 0.0]
    assert biases[1].grad.tolist() == [1.0]


@pytest.mark.parametrize("last_relu", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 7, 8, 23])
def test_equal_to_composed_layers_over_several_chunks(
    rows: int, last_relu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "_CHUNK", 8)
    inputs, weights, biases = parts(rows, (4, 6, 5, 3))
    everything = [inputs, *weights, *biases]
    upstream = torch.arange(rows * 3, dtype=torch.float64).view(rows, 3) - 4

    output = fully_connected(inputs, weights, biases, last_relu=last_relu)
    gradients = torch.autograd.grad(output, everything, upstream)
    expected = composed(inputs, weights, biases, last_relu)
    torch.testing.assert_close(output, expected)
    for ours, theirs in zip(
        gradients, torch.autograd.grad(expected, everything, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_gradient_numerically() -> None:
    inputs, weights, biases = parts(5, (3, 4, 2))
    assert torch.autograd.gradcheck(
        lambda x, a, b, c, d: fully_connected(x, [a, b], [c, d], last_relu=False),
        (inputs, *weights, *biases),
    )


def test_inputs_without_gradient_and_no_gradient_at_all() -> None:
    inputs, weights, biases = parts(5, (3, 4, 2))
    fixed = inputs.detach()
    fully_connected(fixed, weights, biases, last_relu=True).sum().backward()
    assert weights[0].grad is not None
    with torch.no_grad():
        output = fully_connected(fixed, weights, biases, last_relu=True)
    assert not output.requires_grad
    torch.testing.assert_close(output, composed(fixed, weights, biases, True).detach())


def test_weights_and_biases_must_pair_up() -> None:
    with pytest.raises(ValueError, match="one bias per weight"):
        fully_connected(torch.zeros(2, 3), [torch.zeros(4, 3)], [], last_relu=True)
    with pytest.raises(ValueError, match="at least one"):
        fully_connected(torch.zeros(2, 3), [], [], last_relu=True)


@pytest.mark.parametrize("last_relu", [False, True])
def test_bfloat16_products_round_what_they_multiply(
    last_relu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and gradients stay float32, and near those of float64: eight bits are kept."""
    monkeypatch.setattr(layers, "_CHUNK", 8)
    inputs, weights, biases = parts(23, (16, 12, 8))
    exact = [inputs, *weights, *biases]
    rounded = [part.detach().float().requires_grad_() for part in exact]
    output = fully_connected(
        rounded[0], rounded[1:3], rounded[3:], last_relu=last_relu, product_type=torch.bfloat16
    )
    expected = composed(inputs, weights, biases, last_relu)
    assert output.dtype == torch.float32
    upstream = torch.arange(23 * 8, dtype=torch.float64).view(23, 8).sin()
    ours = torch.autograd.grad(output, rounded, upstream.float())
    theirs = torch.autograd.grad(expected, exact, upstream)
    for one, other in zip([output, *ours], [expected, *theirs], strict=True):
        assert one.dtype == torch.float32
        distance = (one.double() - other).norm() / other.norm()
        assert 1e-5 < distance < 0.02


def test_products_of_float64_are_never_rounded() -> None:
    inputs, weights, biases = parts(5, (3, 4, 2))
    rounded = fully_connected(inputs, weights, biases, last_relu=False, product_type=torch.bfloat16)
    torch.testing.assert_close(rounded, composed(inputs, weights, biases, False))


def test_parts_of_two_types_are_refused() -> None:
    inputs, weights, biases = parts(5, (3, 4, 2))
    with pytest.raises(ValueError, match=r"of one type; given torch\.float32 and torch\.float64"):
        fully_connected(inputs.float(), weights, biases, last_relu=True)
