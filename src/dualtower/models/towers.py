"""The tower of Eq. 1, with a linear last layer and a linear path as options."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualtower.models.layers import fully_connected


@dataclass(frozen=True)
class SharedInputs:
    """Inputs of a tower that several rows have in common, behind each row's own."""

    values: Tensor
    """`[groups, shared_dim]`."""
    group: Tensor
    """The group of each row, `[rows]`."""

    def behind(self, inputs: Tensor) -> Tensor:
        """Whole rows, from the own inputs of each, `[rows, input_dim - shared_dim]`."""
        return torch.cat([inputs, functional.embedding(self.group, self.values)], dim=1)


class Tower(nn.Module):
    """Fully connected layers with ReLU, then L2 normalisation (Eq. 1) unless `normalise` is off.

    With `last_relu` and without `linear_path` it is the paper's to the letter. ReLU on the last
    layer keeps every cosine in [0, 1] and lets the tower die; see docs/model.md.
    """

    product_type: torch.dtype
    """What the layers are computed in while training (`fully_connected`); the path is not."""

    def __init__(
        self,
        input_dim: int,
        hidden_dims: tuple[int, ...],
        output_dim: int,
        *,
        last_relu: bool,
        linear_path: bool,
        layer_dropout: float,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        dims = (input_dim, *hidden_dims, output_dim)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(dims))
        self.path = nn.Linear(input_dim, output_dim, bias=False) if linear_path else None
        self.last_relu = last_relu
        self.layer_dropout = layer_dropout
        self.normalise = normalise
        self.product_type = torch.float32

    def forward(self, inputs: Tensor, shared: SharedInputs | None = None) -> Tensor:
        """Map inputs z to vectors p, of unit length.

        Args:
            inputs: `[rows, input_dim]`; without those that are shared.
            shared: the last ones. What the first layer makes of them is computed once a group, but
                where there is dropout on layers, or they are rounded, for every row.

        Returns:
            `[rows, output_dim]`; a row whose last layer is all zero stays zero.
        """
        drops = self.training and self.layer_dropout > 0
        product_type = self.product_type if self.training else torch.float32
        path = None
        if shared is not None and not drops and product_type == torch.float32:
            hidden, path = self._from_shared(inputs, shared)
        else:
            inputs = inputs if shared is None else shared.behind(inputs)
            parameters = list(self.layers.parameters())
            hidden = (
                self._with_dropout(inputs)
                if drops
                else fully_connected(
                    inputs,
                    parameters[0::2],
                    parameters[1::2],
                    last_relu=self.last_relu,
                    product_type=product_type,
                )
            )
            if self.path is not None:
                path = self.path(inputs)
        if path is not None:
            hidden = hidden + path
        return functional.normalize(hidden, dim=-1) if self.normalise else hidden

    def _from_shared(self, inputs: Tensor, shared: SharedInputs) -> tuple[Tensor, Tensor | None]:
        """The last layer and the path."""
        first = list(self.layers[0].parameters())
        weight: Tensor = first[0]
        bias: Tensor = first[1]
        if self.path is not None:
            weight = torch.cat([weight, self.path.weight])
            bias = functional.pad(bias, (0, len(self.path.weight)))
        own, common = torch.split(weight, [inputs.shape[1], shared.values.shape[1]], dim=1)
        products = functional.linear(shared.values, common, bias)
        both = functional.linear(inputs, own) + functional.embedding(shared.group, products)
        hidden, path = torch.split(both, [len(first[0]), len(weight) - len(first[0])], dim=1)
        if len(self.layers) > 1 or self.last_relu:
            hidden = hidden.relu()
        if len(self.layers) > 1:
            parameters = list(self.layers[1:].parameters())
            hidden = fully_connected(
                hidden, parameters[0::2], parameters[1::2], last_relu=self.last_relu
            )
        return hidden, path if self.path is not None else None

    def _with_dropout(self, hidden: Tensor) -> Tensor:
        parameters = list(self.layers.parameters())
        last = len(self.layers) - 1
        for number, parts in enumerate(zip(parameters[0::2], parameters[1::2], strict=True)):
            weight, bias = parts
            hidden = fully_connected(
                hidden,
                [weight],
                [bias],
                last_relu=number < last or self.last_relu,
                product_type=self.product_type,
            )
            if number < last:
                hidden = functional.dropout(hidden, self.layer_dropout)
        return hidden
