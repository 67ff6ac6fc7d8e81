import numpy as np
import pytest

from dualtower.models.interactions import history_matrix, interaction_matrix
from tests.helpers import leave_last_out_by_hand, tiny_dataset


def test_targets_become_ones_and_repeats_count_once():
    dataset = tiny_dataset([[1, 3, 1, 2], [2, 2, 3]], item_count=5)
    train = leave_last_out_by_hand(dataset).train
    assert interaction_matrix(train).toarray().tolist() == [[0, 1, 0, 1, 0], [0, 0, 1, 0, 0]]


def test_the_latest_event_of_an_item_decides_its_weight():
    dataset = tiny_dataset([[1, 3, 1, 2, 4], [2, 1, 3], [4, 4, 4]])
    batch = leave_last_out_by_hand(dataset).test.requests(np.array([1, 0, 3]))
    expected = [
        # Query 1 did 1, 3, 1, 2: lags 3, 2, 1 and 0, of which item 1 keeps the smaller.
        [0, 0.5, 1, 0.25, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
    ]
    assert history_matrix(batch, 5, decay=0.5).toarray() == pytest.approx(np.array(expected))


def test_without_decay_the_history_is_ones():
    dataset = tiny_dataset([[1, 3, 1, 2, 4]])
    batch = leave_last_out_by_hand(dataset).test.requests(np.array([1]))
    assert history_matrix(batch, 5).toarray().tolist() == [[0, 1, 1, 1, 0]]
