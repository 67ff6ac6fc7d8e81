"""Negative items: drawing them from the corpus, and how likely each is to be in a batch."""

import math

import torch
from torch import Tensor

from dualtower.errors import ConfigError


def uniform_pool(corpus: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` items uniformly with replacement, as one pool for a whole batch.

    Positives of the batch may be among them; the objective leaves them out.

    Args:
        corpus: item rows that may be recommended, `[M]` int64.
        count: how many to draw.
        generator: source of randomness, on the corpus's device.

    Returns:
        Item rows, `[count]` int64.

    Raises:
        ConfigError: the corpus is empty.
    """
    if len(corpus) == 0:
        raise ConfigError("negatives: the corpus is empty; training needs at least one item")
    drawn = torch.randint(len(corpus), (count,), generator=generator, device=corpus.device)
    return corpus.index_select(0, drawn)


def uniform_per_positive(
    corpus: Tensor, positive: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Draw `count` items for each positive, uniform over the corpus without that positive.

    Drawn with replacement in one pass: a number below M - 1, moved up by one from the positive's
    own place on, so that nothing has to be drawn again.

    Args:
        corpus: item rows that may be recommended, `[M]` int64, ascending, each once.
        positive: item row of each positive, `[batch]` int64; need not be in the corpus.
        count: S, how many per positive.
        generator: source of randomness, on the corpus's device.

    Returns:
        Item rows, `[batch, count]` int64; row b never holds `positive[b]`.

    Raises:
        ConfigError: the corpus has fewer than two items.
    """
    size = len(corpus)
    if size < 2:
        raise ConfigError(
            f"negatives: the corpus has {size} item(s); drawing others than the positive needs two"
        )
    place = torch.searchsorted(corpus, positive).clamp_(max=size - 1)
    present = corpus.index_select(0, place) == positive
    shape, device = (len(positive), count), corpus.device
    # 62 random bits modulo M: no row is off its fair share by more than M / 2^62.
    drawn = torch.randint(1 << 62, shape, generator=generator, device=device)
    drawn %= (size - present.long()).unsqueeze(1)
    drawn += present.unsqueeze(1) & (drawn >= place.unsqueeze(1))
    return corpus.index_select(0, drawn.flatten()).view(shape)


def log_inclusion_in_batch(share: Tensor, batch_size: int) -> Tensor:
    """Log probability that an item is among a batch's positives: log(1 - (1 - f)^batch_size).

    Args:
        share: f, each item's share of the training events, `[items]` in `[0, 1]`. Where it is 0
            the result is minus infinity: such an item is never a positive.
        batch_size: number of positives in a batch.

    Returns:
        Like `share`, computed in float64 and given in its type.
    """
    return torch.log(-torch.expm1(_log_absent(share, batch_size))).to(share.dtype)


def log_inclusion_uniform(corpus_size: int, count: int) -> float:
    """Log probability that an item is in a uniform pool, log(1 - (1 - 1/M)^count).

    Args:
        corpus_size: M, at least 1.
        count: size of the pool, drawn with replacement; at least 1.
    """
    if corpus_size == 1:
        return 0.0
    return math.log(-math.expm1(count * math.log1p(-1 / corpus_size)))


def log_inclusion_mixed(share: Tensor, batch_size: int, corpus_size: int, count: int) -> Tensor:
    """Log probability that an item is among a batch's positives or in a uniform pool beside them.

    log(1 - (1 - f)^batch_size · (1 - 1/M)^count).

    Args:
        share: f, each item's share of the training events, `[items]` in `[0, 1]`.
        batch_size: number of positives in a batch.
        corpus_size: M, at least 1; every item of `share` is taken to be in the corpus.
        count: size of the pool, drawn with replacement.

    Returns:
        Like `share`, computed in float64 and given in its type.
    """
    if corpus_size == 1:
        return torch.zeros_like(share)
    absent = _log_absent(share, batch_size) + count * math.log1p(-1 / corpus_size)
    return torch.log(-torch.expm1(absent)).to(share.dtype)


def _log_absent(share: Tensor, batch_size: int) -> Tensor:
    return batch_size * torch.log1p(-share.to(torch.float64))
