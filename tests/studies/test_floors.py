import pytest

from dualtower.data.dataset import Split
from dualtower.evaluation.evaluate import evaluate
from dualtower.models.ease import EASE
from dualtower.studies import floors
from tests.helpers import leave_last_out_by_hand, tiny_dataset


def parts() -> Split:
    logs = [[1 + (start + step * (1 + start % 3)) % 12 for step in range(6)] for start in range(24)]
    return leave_last_out_by_hand(tiny_dataset(logs))


def test_a_floor_without_settings_needs_no_tuning() -> None:
    assert floors.tuned_settings("popularity", parts()) == {}


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
