"""The history by causal self-attention (SASRec), computed once for all the targets of a window."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualtower.errors import ConfigError


class AttentionEncoder(nn.Module):
    """Blocks of causal self-attention over the events, read at each target's last known one.

    Kang and McAuley, "Self-Attentive Sequential Recommendation", 2018: every block adds to an
    event's vector first what it gathers from the events up to it, then a small network of that.
    An event sees the latest `span` events, itself included, so that after all blocks a target
    depends on its `length` latest events and on nothing else, whatever else stands in the window:
    one pass serves all its targets, and a request gets the vector that training would give it.

    Positions enter as a learned weight of each lag, per block and head, added to the logits: one
    that counts from the target backwards, as none from the window's beginning would.
    """

    def __init__(self, dim: int, length: int, *, blocks: int, heads: int, dropout: float) -> None:
        """Draw the weights from torch's global generator.

        Args:
            dim: length of an event's embedding, a multiple of `heads`.
            length: how many of the latest events a target may depend on.
            blocks: how many blocks follow each other.
            heads: how many heads each block's attention has.
            dropout: on attention weights and on what each block adds, in training.

        Raises:
            ConfigError: `dim` is no multiple of `heads`.
        """
        super().__init__()
        if dim % heads:
            raise ConfigError(
                f"model: attention_heads = {heads} does not divide the item embedding's length "
                f"{dim}; choose a divisor of {dim}"
            )
        self.dim = dim
        self.span = (length - 1) // blocks + 1
        self.blocks = nn.ModuleList(_Block(dim, self.span, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.nothing = nn.Parameter(torch.randn(dim) / dim**0.5)

    def output_dim(self, embedding_dim: int) -> int:
        """Length of the encoded history."""
        return embedding_dim

    def forward(self, events: Tensor, window: Tensor, known: Tensor) -> Tensor:
        """Encode what each target may see.

        Args:
            events: item embeddings of padded windows, `[windows, length, dim]`.
            window: the window of each target, `[targets]`.
            known: how many of its window's events the target may see, `[targets]`.

        Returns:
            `[targets, dim]`; a learned vector where nothing is known.
        """
        seen = known.new_zeros(len(events)).scatter_reduce(0, window, known, "amax")
        hidden, first = self._pack(events, seen)
        if len(hidden) == 0:
            return self.nothing.expand(len(window), -1)
        # All windows one after the other, cut into pieces of `span`: what an event may see lies in
        # its own piece and the one before, so that no time goes to padding or to far events.
        pieces = -(-len(hidden) // self.span)
        padding = pieces * self.span - len(hidden)
        hidden = functional.pad(hidden, (0, 0, 0, padding)).view(pieces, self.span, self.dim)
        owner = functional.pad(torch.repeat_interleave(seen), (0, padding), value=-1)
        allowed = _allowed(owner.view(pieces, self.span))
        for block in self.blocks:
            hidden = block(hidden, allowed)
        last = (first[window] + known - 1).clamp(min=0)
        read = self.norm(functional.embedding(last, hidden.flatten(0, 1)))
        return torch.where((known > 0)[:, None], read, self.nothing)

    def _pack(self, events: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """The first `seen` events of each window one after the other, and where each begins."""
        first = seen.cumsum(0) - seen
        row = torch.repeat_interleave(seen)
        place = torch.arange(len(row), device=row.device) - first[row]
        return functional.embedding(row * events.shape[1] + place, events.flatten(0, 1)), first


class _Block(nn.Module):
    """x + Dropout(f(LayerNorm(x))), with attention and then two layers as f."""

    def __init__(self, dim: int, span: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 3 * dim)
        self.gather = nn.Linear(dim, dim)
        self.lag_weights = nn.Parameter(torch.zeros(heads, span))
        self.layers_norm = nn.LayerNorm(dim)
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, hidden: Tensor, allowed: Tensor) -> Tensor:
        """`[pieces, span, dim]` to the same; `allowed` is `[pieces, span, 2 · span]`."""
        hidden = hidden + self._drop(self._attend(self.attention_norm(hidden), allowed))
        return hidden + self._drop(self.layers(self.layers_norm(hidden)))

    def _attend(self, hidden: Tensor, allowed: Tensor) -> Tensor:
        pieces, span, dim = hidden.shape
        projected = self.project(hidden).view(pieces, span, 3, self.heads, dim // self.heads)
        before = functional.pad(projected[:-1, :, 1:], (0, 0, 0, 0, 0, 0, 0, 0, 1, 0))
        keys, values = torch.cat([before, projected[:, :, 1:]], dim=1).unbind(2)
        weights = self.lag_weights[:, _lags(span, hidden.device).clamp(0, span - 1)]
        gathered = functional.scaled_dot_product_attention(
            projected[:, :, 0].transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=torch.where(allowed[:, None], weights, -torch.inf),
            dropout_p=self.dropout if self.training else 0.0,
        )
        result: Tensor = self.gather(gathered.transpose(1, 2).flatten(2))
        return result

    def _drop(self, added: Tensor) -> Tensor:
        return functional.dropout(added, self.dropout, self.training)


def _lags(span: int, device: torch.device) -> Tensor:
    """How far before each event of a piece stand those of the piece before and its own."""
    event = torch.arange(2 * span, device=device)
    return event[span:, None] - event[None, :]


def _allowed(owner: Tensor) -> Tensor:
    """Which events of its own piece and of the one before each event may see.

    Those of its own window, up to itself, at most `span`: itself always.

    Args:
        owner: the window of each event, −1 for padding, `[pieces, span]`.

    Returns:
        `[pieces, span, 2 · span]`.
    """
    span = owner.shape[1]
    before = functional.pad(owner[:-1], (0, 0, 1, 0), value=-2)
    seen = torch.cat([before, owner], dim=1)
    lags = _lags(span, owner.device)
    return (owner[:, :, None] == seen[:, None, :]) & (lags >= 0) & (lags < span)
