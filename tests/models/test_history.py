"""The history feature against plain loops."""

import pytest
import torch
from torch.testing import assert_close

from dualtower.models.history import HistoryEncoder, MeanEncoder, lag_matrix, pool_by_lag


def test_the_lag_matrix_by_hand():
    weights = torch.tensor([[10.0, 20.0]])  # one place before: 10, two: 20
    assert lag_matrix(weights, 3)[0].tolist() == [
        [0, 0, 0],
        [10, 0, 0],
        [20, 10, 0],
        [0, 20, 10],
    ]


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
    assert_close(pool_by_lag(weights, events), expected)


def test_more_lags_than_events():
    weights = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    events = torch.tensor([[[1.0], [10.0]]])
    assert pool_by_lag(weights, events)[0, :, 0, 0].tolist() == [0, 1, 12]


def encoder(length: int, pools: int) -> HistoryEncoder:
    torch.manual_seed(0)
    made = HistoryEncoder(length, pools)
    with torch.no_grad():
        made.weights.copy_(torch.randn(pools, length))
    return made


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
