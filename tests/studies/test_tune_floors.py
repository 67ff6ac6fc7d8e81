import pytest

from dualtower.config import EvaluationConfig
from dualtower.data.dataset import Split
from dualtower.errors import ConfigError
from dualtower.evaluation.evaluate import evaluate
from dualtower.models.item_knn import ItemKNN
from dualtower.studies.tune_floors import tune_floor
from tests.helpers import leave_last_out_by_hand, tiny_dataset


@pytest.fixture
def split() -> Split:
    """The next item is always the neighbour of the last one: old history misleads."""
    logs = [[(query + step) % 12 + 1 for step in range(5)] for query in range(36)]
    return leave_last_out_by_hand(tiny_dataset(logs))


def test_every_combination_is_tried_and_the_best_on_validation_wins(split: Split):
    grid = {"neighbours": (2, 12), "decay": (1.0, 0.3), "shrinkage": (0.0,)}
    tuning = tune_floor("item_knn", split.train, split.validation, grid=grid, progress=False)
    assert tuning.tried.columns == ["neighbours", "decay", "shrinkage", "mrr"]
    assert tuning.tried.height == 4
    for row in tuning.tried.iter_rows(named=True):
        model = ItemKNN(**{name: row[name] for name in grid})
        model.solve(split.train)
        value = evaluate(model, split.validation, progress=False).metrics["mrr"]
        assert row["mrr"] == pytest.approx(value)
        assert row["mrr"] <= tuning.tried["mrr"][0]
    assert tuning.settings == {name: tuning.tried[name][0] for name in grid}
    assert tuning.settings["decay"] == 0.3


def test_ease_has_a_grid_of_its_own(split: Split):
    tuning = tune_floor(
        "ease",
        split.train,
        split.validation,
        metric="hit_rate@3",
        config=EvaluationConfig(cutoffs=(3,)),
        progress=False,
    )
    assert tuning.tried.height == 4
    assert set(tuning.settings) == {"regularization"}


@pytest.mark.parametrize("name", ["popularity", "no_such_model"])
def test_a_model_without_a_grid_is_refused(split: Split, name: str):
    with pytest.raises(ConfigError, match=f"'{name}' has no grid; there are item_knn, ease"):
        tune_floor(name, split.train, split.validation, progress=False)


def test_an_unknown_metric_is_refused(split: Split):
    with pytest.raises(ConfigError, match="no metric 'auc'; there are hit_rate@10"):
        tune_floor("ease", split.train, split.validation, metric="auc", progress=False)
