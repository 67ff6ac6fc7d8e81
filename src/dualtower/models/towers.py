"""The tower of Eq. 1, with a linear last layer and a linear path as options."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualtower.models.layers import fully_connected


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

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs z `[rows, input_dim]` to vectors p `[rows, output_dim]`, of unit length.

        A row whose last layer is all zero stays zero.
        """
        if self.training and self.layer_dropout > 0:
            hidden = self._with_dropout(inputs)
        else:
            parameters = list(self.layers.parameters())
            hidden = fully_connected(
                inputs,
                parameters[0::2],
                parameters[1::2],
                last_relu=self.last_relu,
                product_type=self.product_type if self.training else torch.float32,
            )
        if self.path is not None:
            hidden = hidden + self.path(inputs)
        return functional.normalize(hidden, dim=-1) if self.normalise else hidden

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
