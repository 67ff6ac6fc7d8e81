import numpy as np

from dualtower.models.popularity import Popularity
from tests.helpers import leave_last_out_by_hand, tiny_dataset


def test_scores_are_training_events_repeats_included():
    split = leave_last_out_by_hand(tiny_dataset([[1, 1, 2, 3, 3], [2, 1, 1, 3]], item_count=5))
    model = Popularity()
    model.solve(split.train)
    assert model.score(split.test.requests(np.array([2, 1]))).tolist() == [[0, 3, 2, 0, 0]] * 2
