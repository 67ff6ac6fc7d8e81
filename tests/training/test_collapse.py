"""Collapsed vectors are found and named; healthy ones are not."""

import pytest
import torch

from dualtower.config import ModelConfig
from dualtower.errors import CollapseWarning
from dualtower.training.collapse import find_collapse, sample_rows, warn_of_collapse

EYE = torch.eye(4)


def test_healthy_vectors():
    assert find_collapse(EYE, EYE) is None


def test_zero_vectors_are_named_by_side():
    dead = torch.zeros(4, 4)
    assert find_collapse(dead, EYE) == "100% of the query vectors are zero"
    three = torch.cat([torch.zeros(3, 4), EYE[:1]])
    assert find_collapse(EYE, three) == "75% of the item vectors are zero"


def test_half_of_them_zero_is_not_yet_a_collapse():
    assert find_collapse(EYE, torch.cat([EYE, torch.zeros(4, 4)])) is None


def test_constant_scores():
    same = torch.ones(5, 4) / 2
    assert find_collapse(EYE, same) == (
        "a query's scores are the same for all items (standard deviation 0)"
    )


def test_numbers_that_are_none_are_a_collapse():
    assert "the same for all items" in str(find_collapse(EYE, EYE * float("nan")))


def test_a_corpus_of_one_item_is_not():
    assert find_collapse(EYE, EYE[:1]) is None


@pytest.mark.parametrize("last_relu", [True, False])
def test_the_warning_says_what_is_wrong_why_and_what_to_set(last_relu: bool):
    config = ModelConfig(last_relu=last_relu)
    with pytest.warns(CollapseWarning) as caught:
        warn_of_collapse("all of it", config, 3)
    text = str(caught[0].message)
    assert text.startswith("After epoch 3 the representations have collapsed: all of it.")
    assert 'preset = "recommended"' in text
    assert ("Eq. 1 to the letter" in text) == last_relu


def test_sampled_rows_leave_the_unknown_out():
    assert sample_rows(5, 100, torch.device("cpu")).tolist() == [1, 2, 3, 4]
    assert sample_rows(101, 3, torch.device("cpu")).tolist() == [1, 50, 100]


def test_sampled_rows_of_a_huge_table_are_in_it():
    """Where float32 no longer tells whole numbers apart."""
    count = 2**24 + 4
    assert sample_rows(count, 1000, torch.device("cpu"))[[0, -1]].tolist() == [1, count - 1]
