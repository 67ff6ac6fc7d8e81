import numpy as np
import numpy.typing as npt

from dualtower.config import EvaluationConfig
from dualtower.evaluation.significance import Comparison
from dualtower.models.item_knn import ItemKNN
from dualtower.models.popularity import Popularity
from dualtower.studies.comparison import Difference, main_cutoff, standing
from tests.helpers import leave_last_out_by_hand, tiny_dataset


def difference(low: float, high: float) -> Difference:
    middle = (low + high) / 2
    return Difference("dat", "ease", Comparison("mrr", middle, low, high, 0.01))


def test_the_verdict_follows_the_interval() -> None:
    assert difference(0.01, 0.03).verdict == (
        "dat beats ease in mrr (+0.0200, 95% interval +0.0100 to +0.0300)"
    )
    assert difference(-0.03, -0.01).verdict == (
        "dat is worse than ease in mrr (-0.0200, 95% interval -0.0300 to -0.0100)"
    )
    assert difference(-0.01, 0.03).verdict.startswith(
        "dat does not beat ease: they cannot be told apart in mrr"
    )


def test_hit_rates_are_compared_at_the_middle_cutoff() -> None:
    assert main_cutoff(EvaluationConfig(cutoffs=(100, 10, 50))) == 50
    assert main_cutoff(EvaluationConfig(cutoffs=(10,))) == 10


def test_the_first_model_is_compared_with_each_other_one() -> None:
    # Items 1-5 go together and items 6-10; every query takes four of one group, in turn.
    logs = [list(np.roll(group, turn)[:4]) for turn in range(5) for group in _groups()]
    dataset = tiny_dataset(logs)
    parts = leave_last_out_by_hand(dataset)
    neighbours, popularity = ItemKNN(), Popularity()
    neighbours.solve(parts.train)
    popularity.solve(parts.train)
    found = standing(
        {"neighbours": neighbours, "popularity": popularity},
        parts.test,
        config=EvaluationConfig(cutoffs=(2, 4)),
        progress=False,
    )
    assert list(found.evaluations) == ["neighbours", "popularity"]
    assert [row.comparison.metric for row in found.differences] == ["mrr", "hit_rate@4"]
    means = {name: value.metrics["mrr"] for name, value in found.evaluations.items()}
    assert found.differences[0].comparison.difference == (means["neighbours"] - means["popularity"])
    assert found.differences[0].verdict.startswith("neighbours beats popularity in mrr")
    plain = found.to_dict()
    assert plain["differences"][0]["verdict"] == found.differences[0].verdict
    assert plain["models"]["popularity"]["metrics"]["mrr"] == means["popularity"]


def _groups() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return np.arange(1, 6), np.arange(6, 11)
