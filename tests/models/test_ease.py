import numpy as np
import pytest

from dualtower.errors import ConfigError
from dualtower.models.ease import EASE
from tests.helpers import leave_last_out_by_hand, tiny_dataset


def test_the_solution_is_the_constrained_ridge_regression():
    """Each column is the regression of one item on the others, solved by itself."""
    random = np.random.default_rng(0)
    logs = [random.integers(1, 8, 6).tolist() for _ in range(40)]
    model = EASE(regularization=3.0)
    model.solve(tiny_dataset(logs, item_count=9).everything())
    state = model.state()
    assert state["items"].tolist() == list(range(1, 8))

    matrix = np.zeros((40, 7))
    for row, log in enumerate(logs):
        matrix[row, np.array(log) - 1] = 1
    for item in range(7):
        others = [other for other in range(7) if other != item]
        gram = matrix[:, others].T @ matrix[:, others] + 3.0 * np.eye(6)
        expected = np.linalg.solve(gram, matrix[:, others].T @ matrix[:, item])
        assert state["weights"][others, item] == pytest.approx(expected, abs=1e-5)
        assert state["weights"][item, item] == 0


def test_scores_are_the_history_times_the_weights():
    split = leave_last_out_by_hand(tiny_dataset([[2, 4, 4, 2, 5], [2, 5, 4], [4, 2]], item_count=8))
    model = EASE(regularization=1.0)
    model.solve(split.train)
    weights, items = model.state()["weights"], model.state()["items"].tolist()
    scores = model.score(split.test.requests(np.array([1])))[0]
    assert items == [2, 4]
    assert scores[4] == pytest.approx(weights[0, 1])
    assert scores[2] == pytest.approx(weights[1, 0])
    assert scores[[0, 1, 3, 5, 6, 7]].tolist() == [0] * 6


def test_too_large_a_corpus_is_refused_with_the_memory_it_needs():
    model = EASE(max_items=3)
    log = tiny_dataset([[1, 2, 3, 4]]).everything()
    with pytest.raises(ConfigError, match=r"4 items have training events, max_items is 3\. EASE"):
        model.solve(log)
    assert not model.fitted


@pytest.mark.parametrize(("setting", "value"), [("regularization", 0), ("max_items", 0)])
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=rf"ease is not valid:\n  {setting}: "):
        EASE(**{setting: value})
