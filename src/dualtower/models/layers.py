"""The fully connected layers of Eq. 1 in one differentiable piece that stays in the cache."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_CHUNK = 1024
"""Rows worked on at a time on a CPU: 1,024 rows of 256 floats are 1 MB, half of a core's cache."""
_ROUNDED_ROWS = 128
"""Of rounded products the rows are filled up with zeros to a multiple of this: the library makes
and keeps a program for every number of rows that it meets, and batches come in all sizes."""


def fully_connected(
    inputs: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    last_relu: bool,
    product_type: torch.dtype = torch.float32,
) -> Tensor:
    """h_l = ReLU(W_l h_{l-1} + b_l) for every layer, Eq. 1 without its normalisation.

    What `torch.nn.Linear` and ReLU compute one layer after the other over all rows, this does over
    a thousand rows at a time, in place, forward and backward. A large batch then costs its matrix
    products and little more; on a CPU that is about half of the time. Once differentiable.

    Args:
        inputs: h_0, `[rows, input_dim]`, of one type with weights and biases.
        weights: W_l, `[layer_dim, layer_dim_before]` each; at least one.
        biases: b_l, `[layer_dim]` each.
        last_relu: whether the last layer has its ReLU.
        product_type: with `torch.bfloat16` (eight significant bits) float32 inputs, parameters,
            layers, the gradients that go through them and each chunk's part of a weight's gradient
            are rounded to it; the parts are summed, and the result given, in float32. Other types
            than float32 are left as they are.

    Returns:
        h_L, `[rows, last_dim]`.

    Raises:
        ValueError: the numbers of weights and biases differ, or there are none; or they and the
            inputs are not of one type.
    """
    if not weights or len(weights) != len(biases):
        raise ValueError(
            "fully_connected takes one bias per weight and at least one of both; "
            f"given {len(weights)} and {len(biases)}"
        )
    for parameter in (*weights, *biases):
        if parameter.dtype != inputs.dtype:
            raise ValueError(
                f"fully_connected takes inputs, weights and biases of one type; given "
                f"{inputs.dtype} and {parameter.dtype}"
            )
    output: Tensor = _FullyConnected.apply(  # type: ignore[no-untyped-call]
        inputs,
        last_relu,
        product_type if inputs.dtype == torch.float32 else inputs.dtype,
        *weights,
        *biases,
    )
    return output


class _FullyConnected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        last_relu: bool,
        product_type: torch.dtype,
        *parameters: Tensor,
    ) -> Tensor:
        depth, rows = len(parameters) // 2, len(inputs)
        rounded = [parameter.to(product_type) for parameter in parameters]
        weights, biases = rounded[:depth], rounded[depth:]
        hidden = [_rounded(inputs, product_type)]
        hidden += [hidden[0].new_empty(len(hidden[0]), len(bias)) for bias in biases]
        for start, end in _chunks(hidden[0]):
            for layer in range(depth):
                before, after = hidden[layer][start:end], hidden[layer + 1][start:end]
                torch.addmm(biases[layer], before, weights[layer].t(), out=after)
                if last_relu or layer < depth - 1:
                    after.relu_()
        ctx.last_relu = last_relu
        ctx.input_type = inputs.dtype
        ctx.save_for_backward(*hidden, *weights)
        return hidden[-1] if product_type == inputs.dtype else hidden[-1][:rows].to(inputs.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        depth = len(ctx.saved_tensors) // 2
        hidden, weights = ctx.saved_tensors[: depth + 1], ctx.saved_tensors[depth + 1 :]
        own = {"dtype": ctx.input_type, "device": gradient.device}
        to_inputs = torch.empty_like(hidden[0]) if ctx.needs_input_grad[0] else None
        to_weights = [torch.zeros(weight.shape, **own) for weight in weights]
        to_biases = [torch.zeros(len(weight), **own) for weight in weights]
        rows = len(gradient)
        gradient = _rounded(gradient, weights[0].dtype)
        for start, end in _chunks(gradient):
            slope = gradient[start:end]
            for layer in reversed(range(depth)):
                if ctx.last_relu or layer < depth - 1:
                    slope = torch.ops.aten.threshold_backward(
                        slope, hidden[layer + 1][start:end], 0
                    )
                _add_product(to_weights[layer], slope.t(), hidden[layer][start:end])
                to_biases[layer] += slope.sum(0, dtype=ctx.input_type)
                if layer > 0:
                    slope = slope @ weights[layer]
                elif to_inputs is not None:
                    torch.mm(slope, weights[0], out=to_inputs[start:end])
        if to_inputs is not None:
            to_inputs = to_inputs[:rows].to(ctx.input_type)
        return to_inputs, None, None, *to_weights, *to_biases


def _rounded(values: Tensor, product_type: torch.dtype) -> Tensor:
    """The same values; in another type, with rows of zeros behind them, which add nothing."""
    if values.dtype == product_type:
        return values
    return functional.pad(values.to(product_type), (0, 0, 0, -len(values) % _ROUNDED_ROWS))


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _chunks(values: Tensor) -> list[tuple[int, int]]:
    size = _CHUNK if values.device.type == "cpu" else max(1, len(values))
    return [(start, min(start + size, len(values))) for start in range(0, len(values), size)]
