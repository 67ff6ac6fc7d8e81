"""Eq. 1 by hand, and the options beside it."""

import numpy as np
import pytest
import torch

from dualtower.models.towers import SharedInputs, Tower


def tower(*, last_relu: bool, linear_path: bool) -> Tower:
    """Two inputs, one hidden layer of two, two outputs, with weights for mental arithmetic."""
    made = Tower(
        2,
        (2,),
        2,
        last_relu=last_relu,
        linear_path=linear_path,
        layer_dropout=0.0,
    )
    with torch.no_grad():
        made.layers[0].weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.0]]))
        made.layers[0].bias.copy_(torch.tensor([0.0, -1.0]))
        made.layers[1].weight.copy_(torch.tensor([[3.0, 1.0], [0.0, -4.0]]))
        made.layers[1].bias.copy_(torch.tensor([0.0, 0.0]))
        if made.path is not None:
            made.path.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    return made


INPUTS = torch.tensor([[2.0, 1.0]])
# h1 = ReLU([2 - 1, 4 - 1]) = [1, 3]; W2 h1 = [3 + 3, -12] = [6, -12].


def test_equation_1_to_the_letter():
    # ReLU([6, -12]) = [6, 0], normalised.
    assert tower(last_relu=True, linear_path=False)(INPUTS).tolist() == [[1.0, 0.0]]


def test_a_linear_last_layer():
    expected = np.array([6.0, -12.0]) / np.sqrt(180)
    assert tower(last_relu=False, linear_path=False)(INPUTS)[0].tolist() == pytest.approx(expected)


def test_the_linear_path_is_added_before_the_normalisation():
    expected = np.array([6.0 + 1, -12.0 + 2]) / np.sqrt(49 + 100)
    assert tower(last_relu=False, linear_path=True)(INPUTS)[0].tolist() == pytest.approx(expected)


def test_relu_between_the_layers():
    # h1 = ReLU([-3, -1]) = 0, and there is no bias behind it: what is left is the path, [3, 0].
    inputs = torch.tensor([[0.0, 3.0]])
    assert tower(last_relu=False, linear_path=True)(inputs).tolist() == [[1.0, 0.0]]


def test_a_row_whose_last_layer_is_zero_stays_zero_and_has_a_finite_gradient():
    inputs = torch.tensor([[0.0, 3.0]], requires_grad=True)
    vectors = tower(last_relu=True, linear_path=False)(inputs)
    assert vectors.tolist() == [[0.0, 0.0]]
    vectors.sum().backward()
    assert torch.isfinite(inputs.grad).all()


def test_dropout_only_in_training():
    made = Tower(
        64,
        (64,),
        8,
        last_relu=False,
        linear_path=True,
        layer_dropout=0.5,
    )
    inputs = torch.ones(3, 64)
    torch.manual_seed(0)
    assert not torch.equal(made(inputs), made(inputs))
    made.eval()
    assert torch.equal(made(inputs), made(inputs))
    assert made(inputs).norm(dim=1).tolist() == pytest.approx([1, 1, 1])


def test_dropout_between_layers_leaves_the_last_layer_alone():
    torch.manual_seed(0)
    settings = {"last_relu": False, "linear_path": False}
    made = Tower(6, (5, 4), 3, layer_dropout=0.9, **settings)
    inputs = torch.randn(200, 6)
    vectors = made(inputs)
    # Where every unit of the layer before was dropped, what is left is the last layer's bias.
    alone = torch.nn.functional.normalize(made.layers[2].bias, dim=0)
    share = ((vectors - alone).abs().amax(dim=1) < 1e-6).double().mean().item()
    assert 0.9**4 - 0.15 < share < 1
    bare = Tower(6, (5, 4), 3, layer_dropout=0.0, **settings)
    bare.load_state_dict(made.state_dict())
    torch.testing.assert_close(made.eval()(inputs), bare(inputs))


@pytest.mark.parametrize("layer_dropout", [0.0, 1e-9])
def test_bfloat16_layers_are_of_training_alone(layer_dropout: float):
    torch.manual_seed(0)
    made = Tower(16, (32,), 8, last_relu=False, linear_path=True, layer_dropout=layer_dropout)
    inputs = torch.randn(50, 16)
    exact = made.eval()(inputs)
    made.product_type = torch.bfloat16
    assert torch.equal(made(inputs), exact)
    rounded = made.train()(inputs)
    assert rounded.dtype == torch.float32
    assert 1e-5 < (rounded - exact).abs().max() < 0.05


@pytest.mark.parametrize("linear_path", [False, True])
@pytest.mark.parametrize("last_relu", [False, True])
@pytest.mark.parametrize("hidden_dims", [(), (4,), (6, 4)])
def test_what_rows_share_counts_as_if_it_stood_in_each(
    hidden_dims: tuple[int, ...], last_relu: bool, linear_path: bool
):
    torch.manual_seed(3)
    made = Tower(
        8, hidden_dims, 3, last_relu=last_relu, linear_path=linear_path, layer_dropout=0.0
    ).double()
    own = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    values = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    group = torch.tensor([0, 0, 3, 1, 1, 1, 3])  # no row of group 2
    whole = torch.cat([own, values[group]], dim=1)
    known = [own, values, *made.parameters()]
    weigh = torch.randn(7, 3, dtype=torch.float64)

    def vectors_and_gradients(vectors: torch.Tensor) -> list[torch.Tensor]:
        return [vectors, *torch.autograd.grad((vectors * weigh).sum(), known)]

    shared = vectors_and_gradients(made(own, SharedInputs(values, group)))
    torch.testing.assert_close(shared, vectors_and_gradients(made(whole)))


@pytest.mark.parametrize(("own_dim", "shared_dim"), [(0, 4), (4, 0)])
def test_all_or_nothing_may_be_shared(own_dim: int, shared_dim: int):
    torch.manual_seed(3)
    made = Tower(4, (5,), 3, last_relu=False, linear_path=True, layer_dropout=0.0)
    own, values, group = torch.randn(6, own_dim), torch.randn(2, shared_dim), torch.arange(6) // 3
    shared = SharedInputs(values, group)
    torch.testing.assert_close(made(own, shared), made(shared.behind(own)))


@pytest.mark.parametrize("product_type", [torch.float32, torch.bfloat16])
def test_dropout_and_rounded_layers_take_shared_inputs_too(product_type: torch.dtype):
    torch.manual_seed(3)
    settings = {"last_relu": False, "linear_path": True}
    made = Tower(9, (16,), 4, layer_dropout=0.5, **settings)
    made.product_type = product_type
    own, values, group = torch.randn(6, 5), torch.randn(2, 4), torch.arange(6) // 3
    shared = SharedInputs(values, group)
    torch.manual_seed(1)
    dropped = made(own, shared)
    torch.manual_seed(1)
    assert torch.equal(dropped, made(shared.behind(own)))
    undropped = Tower(9, (16,), 4, layer_dropout=0.0, **settings)
    undropped.product_type = product_type
    undropped.load_state_dict(made.state_dict())
    difference = (undropped(own, shared) - undropped(shared.behind(own))).abs().max()
    assert difference < 1e-6
