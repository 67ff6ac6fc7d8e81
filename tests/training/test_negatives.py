import math

import pytest
import torch

from dualtower.errors import ConfigError
from dualtower.training.negatives import (
    log_inclusion_in_batch,
    log_inclusion_mixed,
    log_inclusion_uniform,
    uniform_per_positive,
    uniform_pool,
)

CORPUS = torch.tensor([2, 3, 5, 7, 11])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_pool_is_uniform_over_the_corpus() -> None:
    drawn = uniform_pool(CORPUS, 50_000, seeded())
    counts = torch.bincount(drawn, minlength=12)[CORPUS]
    assert counts.sum() == 50_000
    # Standard deviation of a count: sqrt(50,000 · .2 · .8) = 89.
    assert (counts - 10_000).abs().max() < 4 * 89


@pytest.mark.parametrize("positive", [2, 5, 11])
def test_negatives_of_a_positive_are_uniform_over_the_others(positive: int) -> None:
    drawn = uniform_per_positive(CORPUS, torch.tensor([positive]), 40_000, seeded())
    assert drawn.shape == (1, 40_000)
    counts = torch.bincount(drawn[0], minlength=12)
    assert counts[positive] == 0
    others = CORPUS[positive != CORPUS]
    # Standard deviation of a count: sqrt(40,000 · .25 · .75) = 87.
    assert (counts[others] - 10_000).abs().max() < 4 * 87
    assert counts[others].sum() == 40_000


@pytest.mark.parametrize("positive", [0, 4, 99])
def test_a_positive_outside_the_corpus_leaves_all_of_it(positive: int) -> None:
    drawn = uniform_per_positive(CORPUS, torch.tensor([positive]), 50_000, seeded())
    counts = torch.bincount(drawn[0], minlength=12)[CORPUS]
    assert counts.sum() == 50_000
    assert (counts - 10_000).abs().max() < 4 * 89


def test_no_row_of_a_batch_holds_its_positive() -> None:
    positive = CORPUS.repeat(40)
    drawn = uniform_per_positive(CORPUS, positive, 7, seeded())
    assert drawn.shape == (200, 7)
    assert torch.isin(drawn, CORPUS).all()
    assert not (drawn == positive.unsqueeze(1)).any()


def test_the_seed_decides() -> None:
    positive = torch.tensor([2, 7, 7])
    first = uniform_per_positive(CORPUS, positive, 20, seeded(3))
    assert torch.equal(first, uniform_per_positive(CORPUS, positive, 20, seeded(3)))
    assert not torch.equal(first, uniform_per_positive(CORPUS, positive, 20, seeded(4)))
    pool = uniform_pool(CORPUS, 20, seeded(3))
    assert torch.equal(pool, uniform_pool(CORPUS, 20, seeded(3)))


def test_a_corpus_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="corpus is empty"):
        uniform_pool(CORPUS[:0], 3, seeded())
    with pytest.raises(ConfigError, match=r"1 item\(s\)"):
        uniform_per_positive(CORPUS[:1], torch.tensor([2]), 3, seeded())


def test_inclusion_by_hand() -> None:
    half = torch.tensor([0.5], dtype=torch.float64)
    assert log_inclusion_in_batch(half, 2).item() == pytest.approx(math.log(3 / 4))
    assert log_inclusion_mixed(half, 2, 2, 3).item() == pytest.approx(math.log(1 - 1 / 32))
    assert log_inclusion_uniform(4, 2) == pytest.approx(math.log(7 / 16))
    assert log_inclusion_uniform(1, 2) == 0
    assert log_inclusion_uniform(10**9, 3) == pytest.approx(math.log(3e-9))


def test_inclusion_is_exact_for_small_shares() -> None:
    # 1 - (1 - p)^n for tiny p is n · p - n (n - 1) / 2 · p²; the plain formula loses digits.
    expected = math.log(1000 * 1e-12 - 1000 * 999 / 2 * 1e-24)
    share = torch.tensor([1e-12], dtype=torch.float64)
    assert log_inclusion_in_batch(share, 1000).item() == pytest.approx(expected, rel=1e-12)


def test_inclusion_at_the_edges() -> None:
    shares = torch.tensor([0.0, 1.0])
    assert log_inclusion_in_batch(shares, 8).tolist() == [-math.inf, 0.0]
    assert log_inclusion_mixed(shares, 8, 1, 5).tolist() == [0.0, 0.0]
    uniform_only = log_inclusion_mixed(shares, 8, 100, 5)
    assert uniform_only.dtype == torch.float32
    assert uniform_only[0].item() == pytest.approx(math.log(1 - 0.99**5), rel=1e-6)


def test_inclusion_by_simulation() -> None:
    share = torch.tensor([0.6, 0.2, 0.1, 0.07, 0.03], dtype=torch.float64)
    batch, pool, trials = 6, 4, 40_000
    generator = seeded()
    targets = torch.multinomial(share, trials * batch, replacement=True, generator=generator)
    uniform = uniform_pool(torch.arange(5), trials * pool, generator).view(trials, pool)
    in_batch = _share_of_rows_with_each(targets.view(trials, batch))
    mixed = _share_of_rows_with_each(torch.cat([targets.view(trials, batch), uniform], dim=1))
    # Standard deviation of a share: at most sqrt(.25 / 40,000) = .0025.
    assert (in_batch - log_inclusion_in_batch(share, batch).exp()).abs().max() < 0.01
    assert (mixed - log_inclusion_mixed(share, batch, 5, pool).exp()).abs().max() < 0.01


def _share_of_rows_with_each(drawn: torch.Tensor) -> torch.Tensor:
    return torch.stack([(drawn == item).any(dim=1).double().mean() for item in range(5)])
