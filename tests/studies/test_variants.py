from pathlib import Path

import pytest

from dualtower.errors import ConfigError
from dualtower.models import MODELS, SOLVED
from dualtower.studies.variants import VARIANTS, base_of, configured, fixed_settings, takes_seed
from tests.studies.runs import small_study


def test_a_variant_stands_above_what_is_configured_and_tuned(tmp_path: Path) -> None:
    config = small_study(tmp_path).config()
    settings = {"model.augmented": "leave_out", "training.temperature": 0.3}
    found = configured(config, "dat_learned", settings, seed=4)
    assert found.model.name == "dat"
    assert found.model.augmented == "learned"
    assert found.model.embedding_dim == config.model.embedding_dim
    assert (found.training.temperature, found.training.seed) == (0.3, 4)


def test_every_name_leads_to_a_model() -> None:
    for name in [*MODELS, *VARIANTS]:
        assert base_of(name) in MODELS
    with pytest.raises(ConfigError, match="no model 'dat_with_wings'; there are dat, "):
        base_of("dat_with_wings")


def test_every_trained_model_and_variant_can_be_configured(tmp_path: Path) -> None:
    config = small_study(tmp_path).config()
    for name in {*MODELS, *VARIANTS} - set(SOLVED):
        assert configured(config, name, {}, seed=1).model.name == base_of(name)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.histories", "model.histories: no such setting"),
        ("neighbours", "neighbours: no such setting"),
        ("data.items", "data.items: no such setting"),
    ],
)
def test_an_unknown_setting_is_named(tmp_path: Path, setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configured(small_study(tmp_path).config(), "dat", {setting: 1}, seed=0)


def test_a_value_out_of_range_is_named(tmp_path: Path) -> None:
    config = small_study(tmp_path).config()
    with pytest.raises(ConfigError, match="dat: training is not valid"):
        configured(config, "dat", {"training.temperature": -1.0}, seed=0)


def test_what_a_name_fixes() -> None:
    assert "model.augmented" in fixed_settings("two_tower")
    assert fixed_settings("dat_learned") == {"model.augmented"}
    assert fixed_settings("ease") == frozenset()


def test_closed_forms_have_no_seed() -> None:
    assert takes_seed("dat_learned")
    assert takes_seed("wals")
    assert not takes_seed("ease")
