import pytest

from dualtower.config import EvaluationConfig
from dualtower.data.dataset import Log, Split
from dualtower.errors import DataError
from dualtower.evaluation.evaluate import evaluate
from dualtower.models.ease import EASE
from dualtower.studies import floors
from tests.helpers import leave_last_out_by_hand, tiny_dataset


def parts() -> Split:
    logs = [[1 + (start + step * (1 + start % 3)) % 12 for step in range(6)] for start in range(24)]
    return leave_last_out_by_hand(tiny_dataset(logs))


def test_a_floor_without_settings_needs_no_tuning() -> None:
    assert floors.tuned_settings("popularity", parts()) == {}


def test_without_validation_the_defaults_apply() -> None:
    data = parts()
    nothing = Log(data.train.dataset, data.test.end, data.test.end, data.test.corpus)
    assert floors.tuned_settings("ease", Split(data.train, nothing, data.test)) == {}


def test_seen_items_are_kept_where_the_evaluation_keeps_them() -> None:
    data = leave_last_out_by_hand(tiny_dataset([[1, 1, 1, 1], [2, 2, 2, 2]]))
    assert floors.tuned_settings("ease", data, config=EvaluationConfig(exclude_seen=False))
    with pytest.raises(DataError, match="set exclude_seen = false"):
        floors.tuned_settings("ease", data)


def test_the_best_setting_on_validation_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = [{"regularization": value} for value in (1.0, 30.0, 1000.0)]
    monkeypatch.setitem(floors._GRIDS, "ease", grid)
    data = parts()
    quality = {}
    for settings in grid:
        model = EASE(**settings)
        model.solve(data.train)
        found = evaluate(model, data.validation, progress=False)
        quality[settings["regularization"]] = found.metrics["mrr"]
    best = floors.tuned_settings("ease", data)
    assert quality[best["regularization"]] == max(quality.values())


def test_every_setting_of_the_grids_is_valid() -> None:
    for name, grid in floors._GRIDS.items():
        for settings in grid:
            values = floors.floor(name, settings).config.model_dump()
            assert {key: values[key] for key in settings} == settings


def test_a_setting_that_is_refused_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    solve = EASE.solve

    def refusing(self: EASE, log: Log, *, progress: bool = True) -> None:
        if self.config.regularization < 100:
            raise DataError(f"raise regularization (now {self.config.regularization:g})")
        solve(self, log, progress=progress)

    monkeypatch.setattr(EASE, "solve", refusing)
    assert floors.tuned_settings("ease", parts())["regularization"] in (100.0, 300.0, 1000.0)
    monkeypatch.setitem(floors._GRIDS, "ease", [{"regularization": 30.0}])
    with pytest.raises(DataError, match="raise regularization"):
        floors.tuned_settings("ease", parts())
