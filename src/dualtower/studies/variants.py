"""The names that a study may compare: every model, and DAT with a part of it changed."""

from collections.abc import Mapping
from typing import Any

from dualtower.config import ModelConfig, RunConfig, TrainingConfig, validate
from dualtower.errors import ConfigError
from dualtower.models import MODELS, SOLVED
from dualtower.studies.floors import has_seed

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dat_with_cal": ("dat", {"model.lambda_ca": 1.0}),
    "dat_without_cal": ("dat", {"model.lambda_ca": 0.0}),
    "dat_without_amm": ("dat", {"model.augmented": "none"}),
    "dat_learned": ("dat", {"model.augmented": "learned"}),
}
"""By name: the model, and the settings that make the variant, whatever else is configured. The
weight of CAL is Eq. 5's λ3 as the paper sets it."""


def base_of(name: str) -> str:
    """The model behind a name.

    Raises:
        ConfigError: there is neither a model nor a variant of that name.
    """
    base = VARIANTS[name][0] if name in VARIANTS else name
    if base not in MODELS:
        known = ", ".join(sorted([*MODELS, *VARIANTS]))
        raise ConfigError(f"no model {name!r}; there are {known}")
    return base


def takes_seed(name: str) -> bool:
    """Whether another seed can give another result: a floor with a closed form has none."""
    base = base_of(name)
    return base not in SOLVED or has_seed(base)


def fixed_settings(name: str) -> frozenset[str]:
    """The settings, as `model.FIELD`, that a trained model or variant fixes by its nature."""
    of_variant = VARIANTS[name][1] if name in VARIANTS else {}
    of_model = ModelConfig.fixed_fields(base_of(name))
    return frozenset([*of_variant, *(f"model.{field}" for field in of_model)])


def configured(
    config: RunConfig, name: str, settings: Mapping[str, Any], *, seed: int
) -> RunConfig:
    """The run of a trained model or variant.

    Args:
        config: the run as the file has it, of any trained model.
        name: of a trained model or a variant of one.
        settings: what is other than there, as `model.FIELD` and `training.FIELD`; what makes the
            variant stands above them.
        seed: of the training.

    Raises:
        ConfigError: there is no such model or field, or a value is not valid.
    """
    base = base_of(name)
    training = config.training
    if base != config.model.name:
        training = training.for_model(base)
    changes = {**settings, **(VARIANTS[name][1] if name in VARIANTS else {})}
    parts: dict[str, dict[str, Any]] = {
        "model": config.model.for_model(base).model_dump(),
        "training": {**training.model_dump(), "seed": seed},
    }
    for setting, value in changes.items():
        part, _, field = setting.partition(".")
        if field not in parts.get(part, {}):
            raise ConfigError(
                f"{setting}: no such setting; name a field of model or training, as model.history"
            )
        parts[part][field] = value
    update = {
        "model": validate(ModelConfig, parts["model"], f"{name}: model"),
        "training": validate(TrainingConfig, parts["training"], f"{name}: training"),
    }
    return config.model_copy(update=update)
