"""One seed, split by purpose."""

import numpy as np
import torch

INITIAL_WEIGHTS, FOLDS, ORDER, NEGATIVES, DROPOUT, VALIDATION, ITEM_INIT = range(7)


def sub_seed(seed: int, purpose: int, epoch: int = 0) -> int:
    """A seed for one purpose and epoch: independent of the others, the same in every run."""
    return int(np.random.SeedSequence([seed, purpose, epoch]).generate_state(1, np.uint32)[0])


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed what PyTorch draws on the CPU and on one device; other devices are left alone."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
