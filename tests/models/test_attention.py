"""Self-attention over the history against a plain one, event by event."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dualtower.errors import ConfigError
from dualtower.models.attention import AttentionEncoder


def encoder(
    length: int, *, dim: int = 4, blocks: int = 2, heads: int = 1, dropout: float = 0.0
) -> AttentionEncoder:
    """An encoder whose every weight is random, those that start at zero too."""
    torch.manual_seed(0)
    made = AttentionEncoder(dim, length, blocks=blocks, heads=heads, dropout=dropout)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.7)
    return made


def normalised(vector: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


def plain(made: AttentionEncoder, past: Tensor, span: int) -> Tensor:
    """What a target gets whose query did `past`: every block, event, head and lag by itself."""
    hidden = list(past)
    dim = past.shape[1]
    for block in made.blocks:
        projected = []
        for vector in hidden:
            mapped = block.project.weight @ normalised(vector, block.attention_norm)
            projected.append((mapped + block.project.bias).split(dim))
        after = []
        for place, vector in enumerate(hidden):
            gathered = []
            for head in range(block.heads):
                part = slice(head * dim // block.heads, (head + 1) * dim // block.heads)
                weights, values = [], []
                for other in range(max(0, place - span + 1), place + 1):
                    product = projected[place][0][part] @ projected[other][1][part]
                    logit = product / math.sqrt(dim / block.heads)
                    weights.append((logit + block.lag_weights[head, place - other]).exp())
                    values.append(projected[other][2][part])
                total = sum(weights)
                gathered.append(sum(w / total * v for w, v in zip(weights, values, strict=True)))
            added = block.gather.weight @ torch.cat(gathered) + block.gather.bias
            vector = vector + added
            first, _, second = block.layers
            inner = first.weight @ normalised(vector, block.layers_norm) + first.bias
            after.append(vector + second.weight @ inner.clamp(min=0) + second.bias)
        hidden = after
    return normalised(hidden[-1], made.norm)


@pytest.mark.parametrize(
    ("length", "blocks", "heads", "span"),
    [
        (7, 2, 1, 4),  # two blocks of four events reach 2 · 3 events before the last one
        (7, 2, 2, 4),
        (3, 1, 4, 3),
        (7, 3, 2, 3),
        (20, 2, 1, 10),  # more than any window has
        (1, 2, 1, 1),
    ],
)
def test_against_a_loop(length: int, blocks: int, heads: int, span: int):
    made = encoder(length, blocks=blocks, heads=heads)
    events = torch.randn(3, 9, 4)
    window = torch.tensor([0, 0, 1, 2, 2, 0])
    known = torch.tensor([9, 4, 1, 3, 2, 5])
    got = made(events, window, known)
    assert got.shape == (6, made.output_dim(4)) == (6, 4)
    for row, (one, count) in enumerate(zip(window.tolist(), known.tolist(), strict=True)):
        assert_close(got[row], plain(made, events[one, :count], span))


@pytest.mark.parametrize("length", [3, 5, 50])
def test_no_later_event_changes_an_earlier_target(length: int):
    made = encoder(length)
    events = torch.randn(2, 8, 4)
    window = torch.arange(2).repeat_interleave(9)
    known = torch.arange(9).repeat(2)
    before = made(events, window, known)
    for place in range(8):
        other = events.clone()
        other[0, place] = torch.randn(4)
        changed = (made(other, window, known) != before).any(1)
        touched = (window == 0) & (known > place)
        assert not changed[~touched].any()
        assert changed[(window == 0) & (known == place + 1)].all()


@pytest.mark.parametrize(("length", "blocks"), [(1, 2), (4, 1), (5, 2), (6, 2), (7, 3)])
def test_a_target_depends_on_its_latest_events_only(length: int, blocks: int):
    made = encoder(length, blocks=blocks)
    events = torch.randn(1, 12, 4)
    window, known = torch.tensor([0]), torch.tensor([10])
    events.requires_grad_()
    made(events, window, known).square().sum().backward()
    reached = events.grad[0].abs().sum(1).nonzero().flatten().tolist()
    reach = blocks * ((length - 1) // blocks) + 1
    assert length - blocks < reach <= length
    assert reached == list(range(10 - reach, 10))


def test_padding_and_other_windows_never_matter():
    made = encoder(5)
    events = torch.randn(3, 6, 4)
    alone = made(events[1:2, :4], torch.tensor([0, 0]), torch.tensor([4, 2]))
    for behind in (0.0, 1e6, torch.nan):
        padded = torch.full((3, 40, 4), behind)
        padded[:, :6] = events
        padded[1, 4:] = behind
        window, known = torch.tensor([0, 1, 2, 1]), torch.tensor([6, 4, 3, 2])
        assert_close(made(padded, window, known)[[1, 3]], alone)


def test_a_target_that_knows_nothing_gets_a_learned_vector():
    made = encoder(5)
    events = torch.randn(2, 6, 4)
    got = made(events, torch.tensor([0, 1]), torch.tensor([0, 2]))
    assert torch.equal(got[0], made.nothing)
    for other in (events, torch.zeros(2, 1, 4), torch.zeros(2, 0, 4)):
        none = made(other, torch.tensor([0, 1]), torch.tensor([0, 0]))
        assert torch.equal(none, made.nothing.expand(2, 4))
    assert made(events, torch.zeros(0).long(), torch.zeros(0).long()).shape == (0, 4)


def test_every_weight_learns():
    made = encoder(5, heads=2)
    events = torch.randn(2, 6, 4, requires_grad=True)
    got = made(events, torch.tensor([0, 1, 1]), torch.tensor([6, 4, 0]))
    (got * torch.randn(3, 4)).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


def test_the_gradient_is_the_slope():
    made = encoder(5, heads=2).double()
    events = torch.randn(2, 6, 4, dtype=torch.double, requires_grad=True)
    window, known = torch.tensor([0, 1, 1]), torch.tensor([6, 4, 2])
    assert torch.autograd.gradcheck(lambda events: made(events, window, known), events)


def test_dropout_in_training_only():
    made = encoder(5, dropout=0.5)
    arguments = torch.randn(1, 6, 4), torch.tensor([0]), torch.tensor([6])
    assert not torch.equal(made(*arguments), made(*arguments))
    made.eval()
    assert torch.equal(made(*arguments), made(*arguments))


def test_heads_that_do_not_divide_the_embedding_are_refused():
    with pytest.raises(ConfigError, match=r"attention_heads = 3 does not divide .* length 4"):
        encoder(5, heads=3)
