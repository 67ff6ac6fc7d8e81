from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualtower.data.readers.ratings import Ratings
from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.results import Results, read_results
from dualtower.studies.leak import HONEST, LEAKED, leaked_and_honest, measure_leak

ROOT = Path(__file__).parent.parent.parent


def by_chance(*, taste: float) -> Ratings:
    """Each of 12,000 ratings is 1, 3 or 5; with `taste`, a user's liking moves their chances."""
    random = np.random.default_rng(11)
    users, items = random.integers(0, 600, 12_000), random.integers(0, 300, 12_000)
    liking = taste * np.where(np.arange(600) % 2, 1, -1)
    high = random.random(12_000) < 0.5 + liking[users]
    values = np.where(random.random(12_000) < 0.2, 3.0, np.where(high, 5.0, 1.0))
    return Ratings("made up", "00", users, items, values)


def test_labels_by_chance_are_predicted_by_means_that_hold_them_and_by_no_others() -> None:
    found = leaked_and_honest(by_chance(taste=0.0), 0)
    assert found[LEAKED] > 0.65
    assert 0.45 < found[HONEST] < 0.55


def test_what_users_like_is_predicted_honestly_too() -> None:
    found = leaked_and_honest(by_chance(taste=0.3), 0)
    assert found[HONEST] > 0.7
    assert found[LEAKED] > found[HONEST]


def test_threes_are_left_out_and_a_fifth_is_the_test() -> None:
    """The same by plain loops over the same permutation."""
    ratings = by_chance(taste=0.3)
    kept = [row for row in range(12_000) if ratings.values[row] != 3]
    order = np.random.default_rng(4).permutation(kept)
    test, train = order[: round(len(kept) / 5)], order[round(len(kept) / 5) :]
    assert len(test) == pytest.approx(0.8 * 12_000 / 5, rel=0.05)
    label = {row: float(ratings.values[row] > 3) for row in kept}
    everyone = np.mean([label[row] for row in train])

    def mean(ids: np.ndarray, number: int, rows: np.ndarray) -> float:
        own = [label[row] for row in rows if ids[row] == number]
        return float(np.mean(own)) if own else float(everyone)

    user = {n: mean(ratings.users, n, train) for n in range(600)}
    # A regression on the user's mean alone ranks as the mean does: near what two means give.
    scores = np.array([user[ratings.users[row]] for row in test])
    truth = np.array([label[row] for row in test])
    gaps = scores[truth == 1][:, None] - scores[truth == 0][None, :]
    area = float(((gaps > 0) + 0.5 * (gaps == 0)).mean())
    assert leaked_and_honest(ratings, 4)[HONEST] == pytest.approx(area, abs=0.02)


def test_results_have_a_run_for_each_split(tmp_path: Path) -> None:
    ratings = by_chance(taste=0.3)
    table = pl.DataFrame(
        {"user_id": ratings.users, "item_id": ratings.items, "rating": ratings.values}
    )
    table.write_parquet(tmp_path / "interactions.parquet")
    said: list[str] = []
    found = measure_leak(tmp_path, (0, 1), said.append)
    assert [(run.model, run.seed) for run in found.runs] == [
        (LEAKED, 0),
        (LEAKED, 1),
        (HONEST, 0),
        (HONEST, 1),
    ]
    assert found.runs[0].metrics["auc"] == leaked_and_honest(ratings, 0)[LEAKED]
    assert found.data.name == tmp_path.name
    assert len(said) == 4


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no seed"):
        measure_leak(tmp_path, (), str)
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating\n" + "1,2,5\n" * 9)
    with pytest.raises(DataError, match=r"ratings: the training pairs .* one side of 3 only"):
        measure_leak(path, (0,), str)


def test_the_published_page_says_what_was_measured() -> None:
    """That the leaked means stand between the printed AUCs of DAT and of COLD, and the honest ones
    below that of the two-tower model."""
    results = read_results(ROOT / "results" / "leak.json")
    assert isinstance(results, Results)
    for run in results.runs:
        if run.model == LEAKED:
            assert 0.8712 < run.metrics["auc"] < 0.8836
        else:
            assert run.metrics["auc"] < 0.8697
