"""The history feature against plain loops."""

import pytest
import torch
from torch.testing import assert_close

from dualtower.models import history
from dualtower.models.history import HistoryEncoder, MeanEncoder, lag_matrix, pool_by_lag


def test_the_lag_matrix_by_hand():
    weights = torch.tensor([[10.0, 20.0]])  # one place before: 10, two: 20
    assert lag_matrix(weights, torch.arange(4), torch.arange(3))[0].tolist() == [
        [0, 0, 0],
        [10, 0, 0],
        [20, 10, 0],
        [0, 20, 10],
    ]
    assert lag_matrix(weights, torch.tensor([7]), torch.tensor([4, 5, 6, 7]))[0].tolist() == [
        [0, 20, 10, 0]
    ]


@pytest.fixture(params=["by matrix", "by target"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Pooling by one matrix, as in usual windows, and target by target, as in very long ones."""
    if request.param == "by target":
        monkeypatch.setattr(history, "_SMALL_MATRIX", 0)
        monkeypatch.setattr(history, "_pool_by_matrix", None)
    else:
        monkeypatch.setattr(history, "_pool_by_target", None)
    return request.param


def every_position(weights: torch.Tensor, events: torch.Tensor) -> torch.Tensor:
    """Pooled sums at all positions of all windows, `[pools, length + 1, windows, dim]`."""
    windows, length = events.shape[:2]
    known, window = torch.meshgrid(torch.arange(length + 1), torch.arange(windows), indexing="ij")
    pooled = pool_by_lag(weights, events, window.flatten(), known.flatten())
    return pooled.unflatten(1, (length + 1, windows))


@pytest.mark.usefixtures("way")
def test_pooling_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 4, generator=generator)
    events = torch.randn(2, 6, 5, generator=generator)
    expected = torch.zeros(3, 7, 2, 5)
    for pool in range(3):
        for position in range(7):
            for window in range(2):
                for lag in range(1, 5):
                    if position - lag >= 0:
                        expected[pool, position, window] += (
                            weights[pool, lag - 1] * events[window, position - lag]
                        )
    assert_close(every_position(weights, events), expected)


@pytest.mark.usefixtures("way")
def test_some_targets_of_windows_of_different_lengths_and_their_gradients():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 3, generator=generator, requires_grad=True)
    events = torch.randn(3, 9, 4, generator=generator, requires_grad=True)
    window = torch.tensor([2, 0, 0, 2, 2])  # the second window has no target
    known = torch.tensor([4, 9, 8, 0, 4])
    pooled = pool_by_lag(weights, events, window, known)
    expected = []
    for pool in range(2):
        for one, count in zip(window.tolist(), known.tolist(), strict=True):
            terms = [
                weights[pool, lag - 1] * events[one, count - lag]
                for lag in range(1, min(3, count) + 1)
            ]
            expected.append(sum(terms, torch.zeros(4)))
    reference = torch.stack(expected).view(2, 5, 4)
    assert_close(pooled, reference)
    ours = torch.autograd.grad(pooled.square().sum(), (weights, events))
    theirs = torch.autograd.grad(reference.square().sum(), (weights, events))
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other)


@pytest.mark.usefixtures("way")
def test_no_target_at_all():
    none = torch.empty(0, dtype=torch.int64)
    assert pool_by_lag(torch.ones(2, 3), torch.ones(1, 4, 5), none, none).shape == (2, 0, 5)


@pytest.mark.usefixtures("way")
def test_more_lags_than_events():
    weights = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    events = torch.tensor([[[1.0], [10.0]]])
    assert every_position(weights, events)[0, :, 0, 0].tolist() == [0, 1, 12]


def test_very_long_windows_take_no_memory_by_the_square_of_their_length(monkeypatch):
    """20,000 events: the matrix would hold 1.6 GB; gradients go to weights and events alike."""
    monkeypatch.setattr(history, "_pool_by_matrix", None)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(1, 3, generator=generator, requires_grad=True)
    events = torch.randn(2, 20_000, 4, generator=generator, requires_grad=True)
    window, known = torch.tensor([0, 1, 1]), torch.tensor([20_000, 2, 12_345])
    pooled = pool_by_lag(weights, events, window, known)[0]
    flipped = weights.flip(1)[0, :, None]
    expected = [
        (flipped * events[0, -3:]).sum(0),
        (flipped[1:] * events[1, :2]).sum(0),
        (flipped * events[1, 12_342:12_345]).sum(0),
    ]
    assert_close(pooled, torch.stack(expected))
    got = torch.autograd.grad(pooled.square().sum(), (weights, events))
    reference = torch.autograd.grad(torch.stack(expected).square().sum(), (weights, events))
    for ours, theirs in zip(got, reference, strict=True):
        assert_close(ours, theirs)


def encoder(length: int, pools: int) -> HistoryEncoder:
    torch.manual_seed(0)
    made = HistoryEncoder(length, pools)
    with torch.no_grad():
        made.weights.copy_(torch.randn(pools, length))
    return made


@pytest.mark.usefixtures("way")
def test_the_encoder_against_a_loop():
    made = encoder(length=3, pools=2)
    events = torch.randn(2, 5, 4)
    events[1, 3:] = 0  # the second window has three events
    window = torch.tensor([0, 0, 1, 1, 0])
    known = torch.tensor([0, 5, 1, 3, 2])
    got = made(events, window, known)
    assert got.shape == (5, made.output_dim(4)) == (5, 12)
    for row, (one, count) in enumerate(zip(window.tolist(), known.tolist(), strict=True)):
        past = events[one, :count]
        last = past[-1] if count else torch.zeros(4)
        pooled = torch.zeros(2, 4)
        for lag in range(1, min(3, count) + 1):
            pooled += made.weights[:, lag - 1, None] * past[count - lag]
        assert_close(got[row], torch.cat([last, pooled.flatten()]))


def test_nothing_at_or_after_the_target_enters():
    made = encoder(length=3, pools=2)
    events = torch.randn(1, 5, 4)
    other = events.clone()
    other[0, 2:] = torch.randn(3, 4)
    window, known = torch.tensor([0]), torch.tensor([2])
    assert torch.equal(made(events, window, known), made(other, window, known))


@pytest.mark.parametrize(("length", "pools"), [(1, 1), (1, 4), (8, 1), (8, 3)])
def test_weights_start_as_decays_of_growing_half_life(length: int, pools: int):
    weights = HistoryEncoder(length, pools).weights
    assert weights[:, 0].tolist() == [1] * pools
    assert (weights.diff(dim=1) < 0).all()
    if length > 2 and pools > 1:
        assert (weights[:, -1].diff() > 0).all(), "each pool looks farther back"


def test_the_weights_learn():
    made = encoder(length=2, pools=1)
    made(torch.ones(1, 3, 1), torch.tensor([0]), torch.tensor([3])).sum().backward()
    assert made.weights.grad.tolist() == [[1, 1]]


def test_the_mean_by_hand():
    made = MeanEncoder(2)
    events = torch.tensor([[[1.0, 0.0], [3.0, 2.0], [5.0, 8.0]], [[7.0, 9.0], [0.0, 0.0], [0, 0]]])
    got = made(events, torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 1, 2, 3, 1]))
    assert made.output_dim(2) == 2
    assert got.tolist() == [[0, 0], [1, 0], [2, 1], [4, 5], [7, 9]]


def test_the_mean_passes_each_event_its_share_of_the_gradient():
    events = torch.zeros(1, 4, 1, requires_grad=True)
    MeanEncoder(2)(events, torch.tensor([0, 0]), torch.tensor([3, 1])).sum().backward()
    assert events.grad.flatten().tolist() == [1, 0.5, 0.5, 0]
