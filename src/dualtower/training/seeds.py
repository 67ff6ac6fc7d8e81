"""One seed, split by purpose."""

import numpy as np

INITIAL_WEIGHTS, FOLDS, ORDER, NEGATIVES, DROPOUT, VALIDATION, ITEM_INIT = range(7)


def sub_seed(seed: int, purpose: int, epoch: int = 0) -> int:
    """A seed for one purpose and epoch: independent of the others, the same in every run."""
    return int(np.random.SeedSequence([seed, purpose, epoch]).generate_state(1, np.uint32)[0])
