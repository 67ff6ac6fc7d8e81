"""One seed, split by purpose and epoch."""

from dualtower.training.seeds import (
    DROPOUT,
    FOLDS,
    INITIAL_WEIGHTS,
    NEGATIVES,
    ORDER,
    VALIDATION,
    sub_seed,
)

PURPOSES = (INITIAL_WEIGHTS, FOLDS, ORDER, NEGATIVES, DROPOUT, VALIDATION)


def test_every_purpose_epoch_and_seed_has_its_own():
    seeds = {
        sub_seed(seed, purpose, epoch)
        for seed in range(3)
        for purpose in PURPOSES
        for epoch in range(4)
    }
    assert len(seeds) == 3 * len(PURPOSES) * 4


def test_it_is_the_same_in_every_run():
    assert sub_seed(0, ORDER, 1) == sub_seed(0, ORDER, 1)
    assert 0 <= sub_seed(2**40, DROPOUT) < 2**32
