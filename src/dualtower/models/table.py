"""An embedding table trained by Adam on the rows that a batch names, and on no others."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

_TINY = 1e-30
_BLOCK = 65_536


class EmbeddingTable(nn.Module):
    """Rows of float32 vectors with their own row-sparse Adam.

    `weight` is a buffer, not a parameter: no gradient of the table's size ever exists. In training
    mode `forward` reads each named row once, as a small leaf that collects the gradient; `update`
    then applies Adam to exactly those rows, with bias correction by each row's own count of
    steps. Rows that no batch names cost nothing and keep their bits. That is *not* dense Adam, in
    which a row goes on moving by its momentum in steps that do not name it; where every row is
    named in every step the two are the same.

    The moments (`[rows, 2 · dim]`, first and second side by side) and step counts are allocated at
    the first `update` and stay out of `state_dict`; `optimizer_state` gives them to a checkpoint.
    """

    weight: Tensor
    """`[rows, dim]` float32."""
    _moments: Tensor | None
    _steps: Tensor | None

    def __init__(
        self,
        rows: int,
        dim: int,
        *,
        std: float | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Draw the rows from a normal distribution.

        Args:
            rows: number of rows.
            dim: length of each row.
            std: standard deviation of the initial values; None is 1/√dim; 0 gives zeros.
            generator: source of the initial values, on `device`; None is torch's global one.
            device: where the table lives.
        """
        super().__init__()
        weight = torch.empty(rows, dim, dtype=torch.float32, device=device)
        std = 1 / math.sqrt(dim) if std is None else std
        self.register_buffer("weight", weight.normal_(0, std, generator=generator))
        self.register_buffer("_moments", None, persistent=False)
        self.register_buffer("_steps", None, persistent=False)
        self._read: list[tuple[Tensor, Tensor]] = []
        self._slots: npt.NDArray[np.int32] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.weight.shape[0]

    @property
    def dim(self) -> int:
        """Length of each row."""
        return self.weight.shape[1]

    def forward(self, ids: Tensor, *, unique: bool = False) -> Tensor:
        """The rows of `ids`.

        In training mode with gradients enabled the rows are remembered for `update`.

        Args:
            ids: rows, int64 of any shape, each in `[0, rows)`.
            unique: promises that no id is named twice; saves the search for repeats.

        Returns:
            `[*ids.shape, dim]`.

        Raises:
            IndexError: an id is outside the table.
        """
        if not (self.training and torch.is_grad_enabled()):
            return functional.embedding(ids, self.weight)
        flat = ids.reshape(-1)
        if unique:
            rows, inverse = flat, None
        else:
            rows, inverse = self.distinct(flat)
        leaf = self.weight.index_select(0, rows).requires_grad_()
        self._read.append((rows, leaf))
        if inverse is None:
            return leaf.view(*ids.shape, self.dim)
        return leaf.index_select(0, inverse).view(*ids.shape, self.dim)

    def distinct(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Each id once, and where every id stands among them.

        What is the same for every repeat of an id (its row, its tower's output) can be computed
        once and spread out by `places`: `self(rows, unique=True)[places]` equals `self(ids)`.

        Args:
            ids: rows, int64 `[n]`, each in `[0, rows)`.

        Returns:
            rows: `[distinct]`, in an order that depends on `ids` alone.
            places: `[n]`, such that `rows[places]` equals `ids`.

        Raises:
            IndexError: an id is outside the table.
        """
        if ids.is_cuda:
            unique, places = torch.unique(ids, return_inverse=True)
            return unique, places
        # Each id's slot takes the last position that names it: no sorting, two passes of `ids`.
        named = ids.numpy()
        if len(named) and (named.min() < 0 or named.max() >= self.rows):
            raise IndexError(
                f"ids must be in [0, {self.rows}); given {named.min()} to {named.max()}"
            )
        if self._slots is None:
            self._slots = np.zeros(self.rows, dtype=np.int32)
        positions = np.arange(len(named), dtype=np.int32)
        self._slots[named] = positions
        rows = named[self._slots[named] == positions]
        self._slots[rows] = positions[: len(rows)]
        return torch.from_numpy(rows), torch.from_numpy(self._slots[named]).long()

    @torch.no_grad()
    def update(
        self,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """One step of Adam on the rows read since the last `update`; call it after `backward`.

        Gradients of a row that several forwards read are added up. A forward whose output had no
        part in the loss is forgotten, and its rows take no step.

        Args:
            learning_rate: the step's learning rate.
            betas: decay rates of the first and second moments, each in `[0, 1)`.
            eps: added to the root of the second moment.
            weight_decay: decoupled, as in AdamW: the rows shrink by the learning rate times this.
        """
        collected = self._collect()
        if collected is None:
            return
        rows, value, gradient = collected
        if self._moments is None or self._steps is None:
            self._moments = _zeros((self.rows, 2 * self.dim), np.float32).to(self.weight)
            self._steps = _zeros((self.rows,), np.int32).to(self.weight.device)
        steps = self._steps.index_select(0, rows).add_(1)
        moments = self._moments.index_select(0, rows)
        first, second = moments[:, : self.dim], moments[:, self.dim :]
        first.lerp_(gradient, 1 - betas[0])
        second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
        count = steps.to(torch.float64).unsqueeze(1)
        step_size = (learning_rate / (1 - betas[0] ** count)).to(torch.float32)
        root_correction = (1 - betas[1] ** count).rsqrt_().to(torch.float32)
        # A root of exactly zero takes a processor twenty times as long. What is added stays below
        # the rounding of any eps in use.
        change = torch.add(second, _TINY).sqrt_().mul_(root_correction).add_(eps)
        if weight_decay:
            value.mul_(1 - learning_rate * weight_decay)
        value.sub_(torch.div(first, change, out=change).mul_(step_size))
        _write_rows(self._steps, rows, steps)
        _write_rows(self._moments, rows, moments)
        _write_rows(self.weight, rows, value)

    @torch.no_grad()
    def share_unknown(self) -> None:
        """Give the unknown's values, row 0's, to every row that no gradient has reached yet.

        A row that is only known from validation, test or a features table would otherwise stand
        for whatever was drawn for it at the start. So would a row that batches named without a
        gradient: row 0 as padding, or a candidate in a table that only the history reads. Where
        row 0 itself was never trained, since ids are never hidden, it becomes the mean of the
        trained rows first. Costs one pass over the moments; call it once an epoch. Nothing happens
        before the first gradient.
        """
        if self._moments is None:
            return
        blocks = [slice(start, start + _BLOCK) for start in range(0, self.rows, _BLOCK)]
        trained = torch.cat([self._moments[part].any(1) for part in blocks])
        if not trained.any():
            return
        if not trained[0]:
            total = self.weight.new_zeros(self.dim)
            for part in blocks:
                total += self.weight[part][trained[part]].sum(0)
            self.weight[0] = total / trained.sum()
        self.weight[~trained] = self.weight[0].clone()

    def optimizer_state(self) -> dict[str, Tensor]:
        """`moments` `[rows, 2 · dim]` and `steps` `[rows]` int32; empty before the first update.

        The tensors are the table's own, not copies.
        """
        if self._moments is None or self._steps is None:
            return {}
        return {"moments": self._moments, "steps": self._steps}

    def load_optimizer_state(self, state: dict[str, Tensor]) -> None:
        """Take over a copy of what `optimizer_state` gave.

        Raises:
            ValueError: a tensor is missing or of another shape.
        """
        if not state:
            self._moments = self._steps = None
            return
        shapes = {"moments": (self.rows, 2 * self.dim), "steps": (self.rows,)}
        for name, shape in shapes.items():
            if name not in state or tuple(state[name].shape) != shape:
                found = list(state[name].shape) if name in state else "nothing"
                raise ValueError(f"optimizer state: {name} must be {list(shape)}; found {found}")
        device = self.weight.device
        self._moments = state["moments"].to(device, torch.float32, copy=True)
        self._steps = state["steps"].to(device, torch.int32, copy=True)

    def _collect(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Rows, each once, with values and summed gradients of all forwards since the last."""
        read = [(rows, leaf, leaf.grad) for rows, leaf in self._read if leaf.grad is not None]
        self._read.clear()
        if not read:
            return None
        rows, leaf, gradient = read[0]
        if len(read) == 1:
            return rows, leaf.detach(), gradient
        rows, inverse = self.distinct(torch.cat([part[0] for part in read]))
        gradients = torch.cat([part[2] for part in read])
        gradient = gradients.new_zeros(len(rows), self.dim).index_add_(0, inverse, gradients)
        return rows, self.weight.index_select(0, rows), gradient


def _write_rows(target: Tensor, rows: Tensor, values: Tensor) -> None:
    """Set `target[rows]`, each row named once.

    On a CPU numpy writes them, each row as one value: a third of the time of `index_copy_`.
    """
    if target.device.type == "cpu":
        _as_values(target)[rows.numpy()] = _as_values(values)
    else:
        target.index_copy_(0, rows, values)


def _as_values(rows: Tensor) -> npt.NDArray[np.generic]:
    """The same memory with each row as one value of its bytes, `[rows]`."""
    array = rows.numpy()
    if array.ndim == 1:
        return array
    return array.view(np.dtype((np.void, array.strides[0])))[:, 0]


def _zeros(shape: tuple[int, ...], kind: type[np.generic]) -> Tensor:
    """Zeros that take memory only where they are written to, which torch's own do not."""
    return torch.from_numpy(np.zeros(shape, dtype=kind))
