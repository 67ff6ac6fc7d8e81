import numpy as np
import pytest

from dualtower.errors import ConfigError
from dualtower.models import item_knn
from dualtower.models.item_knn import ItemKNN
from tests.helpers import tiny_dataset

LOGS = [[1, 2, 3], [1, 2], [2, 3], [1, 4]]


def similarity(**settings) -> np.ndarray:
    model = ItemKNN(**settings)
    model.solve(tiny_dataset(LOGS, item_count=6).everything())
    state = model.state()
    dense = np.zeros((6, 6))
    for row in range(6):
        part = slice(state["offsets"][row], state["offsets"][row + 1])
        dense[row, state["neighbours"][part]] = state["values"][part]
    return dense


def test_cosines_by_hand():
    """Counts: item 1 three queries, 2 three, 3 two, 4 one; together 12: two, 23: two, 13 and 14."""
    dense = similarity(shrinkage=0)
    assert dense[1, 2] == pytest.approx(2 / 3)
    assert dense[2, 3] == pytest.approx(2 / np.sqrt(6))
    assert dense[1, 3] == pytest.approx(1 / np.sqrt(6))
    assert dense[1, 4] == pytest.approx(1 / np.sqrt(3))
    assert dense[2, 4] == 0
    assert np.array_equal(dense, dense.T)
    assert not dense.diagonal().any()
    assert not dense[5].any()
    assert not dense[0].any()


def test_shrinkage_is_added_to_the_denominator():
    dense = similarity(shrinkage=10)
    assert dense[1, 2] == pytest.approx(2 / 13)
    assert dense[1, 4] == pytest.approx(1 / (np.sqrt(3) + 10))


def test_only_the_nearest_neighbours_are_kept():
    dense = similarity(shrinkage=0, neighbours=1)
    assert dense[1].tolist() == pytest.approx([0, 0, 2 / 3, 0, 0, 0])
    assert dense[3].tolist() == pytest.approx([0, 0, 2 / np.sqrt(6), 0, 0, 0])


def test_blocks_of_items_do_not_change_the_result(monkeypatch):
    whole = similarity(shrinkage=1)
    monkeypatch.setattr(item_knn, "_BLOCK_SIMILARITIES", 12)
    assert np.array_equal(similarity(shrinkage=1), whole)


def test_the_score_is_the_sum_over_the_decayed_history():
    dataset = tiny_dataset([*LOGS, [1, 3, 5, 5]], item_count=6)
    log = dataset.everything()
    model = ItemKNN(shrinkage=0, decay=0.5)
    model.solve(log)
    after_two = type(log)(dataset, dataset.offsets[:-1] + 2, dataset.offsets[1:], log.corpus)
    scores = model.score(after_two.requests(np.array([5])))[0]
    # History 1, 3 with weights 1/2 and 1. Counts: 1 four, 2 three, 3 three; 12: two, 23: two.
    assert scores[2] == pytest.approx(0.5 * 2 / np.sqrt(12) + 2 / 3)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("neighbours", 0), ("shrinkage", -1), ("decay", 0), ("decay", 1.1)],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=rf"item_knn is not valid:\n  {setting}: "):
        ItemKNN(**{setting: value})
