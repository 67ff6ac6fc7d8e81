from pathlib import Path

import pytest

from dualtower.errors import ConfigError
from dualtower.models import MODELS, SOLVED, TRAINED
from dualtower.studies.factors import FACTORS
from dualtower.studies.floors import floor
from dualtower.studies.spaces import (
    AS_CONFIGURED,
    NOT_READ,
    OWN_SPACE,
    TRAINED_SPACE,
    Choice,
    Range,
    Space,
    holds,
    one_of,
    place_with,
    settings_at,
    space_of,
    widened,
)
from dualtower.studies.tuning import current_settings
from dualtower.studies.variants import VARIANTS, base_of, configured, fixed_settings
from tests.studies.runs import small_study

NAMES = sorted([*MODELS, *VARIANTS])


@pytest.mark.parametrize("name", NAMES)
def test_every_model_has_a_space_and_every_place_in_it_is_valid(name: str, tmp_path: Path) -> None:
    config = small_study(tmp_path).config()
    space = space_of(name)
    assert bool(space) == (name != "popularity")
    wide, start = widened(space, current_settings(config, name))
    for part, dimension in wide.items():
        ends = (
            (dimension.low, dimension.high)
            if isinstance(dimension, Range)
            else tuple(dimension.options)
        )
        for end in ends:
            settings = settings_at(wide, {**start, part: end})
            if base_of(name) in SOLVED:
                floor(name, settings)
            else:
                model = configured(config, name, settings, seed=0).model
                TRAINED[base_of(name)](model)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_place_is_the_configuration_as_it_stands(name: str, tmp_path: Path) -> None:
    config = small_study(tmp_path).config()
    current = current_settings(config, name)
    wide, start = widened(space_of(name), current)
    for setting, value in settings_at(wide, start).items():
        assert current[setting] == value, setting


@pytest.mark.parametrize("name", NAMES)
def test_no_dimension_sets_what_a_model_fixes(name: str) -> None:
    for dimension in space_of(name).values():
        assert not fixed_settings(name).intersection(dimension.settings())


def test_what_lifts_dat_is_in_the_space_of_the_two_tower_model() -> None:
    assert set(space_of("dat")) - set(space_of("two_tower")) == {"augmented", "lambda_ca"}
    assert set(TRAINED_SPACE) - set(space_of("dat")) == {"history_length"}


def test_dimensions_are_named_for_models_that_exist_or_are_not_read() -> None:
    dimensions = {*TRAINED_SPACE, *(part for space in OWN_SPACE.values() for part in space)}
    assert {part for parts in NOT_READ.values() for part in parts} <= dimensions


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_temperature_is_tuned_where_scores_are_cosines(name: str, tmp_path: Path) -> None:
    config = configured(small_study(tmp_path).config(), name, {}, seed=0)
    assert ("temperature" in space_of(name)) == config.model.normalise


def test_every_served_vector_has_the_length_of_the_others() -> None:
    assert "factors" not in space_of("wals")
    assert not any(
        setting == "model.output_dim"
        for name in TRAINED
        for dimension in space_of(name).values()
        for setting in dimension.settings()
    )


def test_dimensions_can_stay_as_configured() -> None:
    kept = space_of("dat", keep=("history", "loss"))
    assert set(space_of("dat")) - set(kept) == {"history", "loss"}
    with pytest.raises(ConfigError, match="--keep: no dimension 'colour'; there are"):
        space_of("dat", keep=("colour",))


def test_a_configured_value_outside_of_the_space_widens_it() -> None:
    space = {
        "rate": Range("training.rate", 0.1, 1.0),
        "size": one_of("model.size", 8, 16),
        "kind": Choice({"a": {"model.kind": "a", "model.count": 1}}),
    }
    current = {"training.rate": 0.01, "model.size": 16, "model.kind": "a", "model.count": 2}
    wide, start = widened(space, current)
    assert wide["rate"] == Range("training.rate", 0.01, 1.0)
    assert start == {"rate": 0.01, "size": "16", "kind": AS_CONFIGURED}
    assert settings_at(wide, start) == current
    assert settings_at(wide, {"rate": 0.5, "size": "8", "kind": "a"}) == {
        "training.rate": 0.5,
        "model.size": 8,
        "model.kind": "a",
        "model.count": 1,
    }


def test_every_variation_of_every_factor_is_valid(tmp_path: Path) -> None:
    config = small_study(tmp_path).config()
    for options in FACTORS.values():
        for settings in options.values():
            configured(config, "dat", settings, seed=0)


def test_a_place_is_changed_as_a_user_writes_it(tmp_path: Path) -> None:
    config = small_study(tmp_path).config()
    space, start = widened(space_of("dat"), current_settings(config, "dat"))
    asked = {"table_learning_rate": "0.06", "history_form": "attention"}
    found = place_with(space, start, asked)
    assert found == {**start, "table_learning_rate": 0.06, "history_form": "attention"}
    assert settings_at(space, found)["training.table_learning_rate"] == 0.06
    floor, at = widened(space_of("ease"), {"regularization": 100.0})
    assert place_with(floor, at, asked) is None
    assert place_with(floor, at, {"regularization": "10"}) == {"regularization": 10.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"table_learning_rate": "3"},
        {"table_learning_rate": "high"},
        {"table_learning_rate": "nan"},
        {"history_form": "mean"},
        {"neighbours": "100"},
    ],
)
def test_there_is_no_place_outside_of_the_space(tmp_path: Path, changes: dict[str, str]) -> None:
    config = small_study(tmp_path).config()
    space, start = widened(space_of("dat"), current_settings(config, "dat"))
    assert place_with(space, start, changes) is None


def test_a_place_of_a_space_has_a_value_in_reach_for_each_dimension() -> None:
    space: Space = {"rate": Range("training.learning_rate", 0.1, 1.0), "size": one_of("size", 1, 2)}
    assert holds(space, {"rate": 0.1, "size": "2"})
    assert not holds(space, {"rate": 0.05, "size": "2"})
    assert not holds(space, {"rate": 0.5, "size": "3"})
    assert not holds(space, {"rate": 0.5})
    assert not holds(space, {"rate": 0.5, "size": "1", "more": "1"})
