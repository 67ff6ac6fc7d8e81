"""One run of a configuration: tables → dataset → fitted model → bundle."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtower.config import RunConfig, check_apart
from dualtower.data.dataset import Dataset, Log, Split
from dualtower.data.prepare import prepare, stale_reason
from dualtower.data.splits import split
from dualtower.errors import ConfigError, DataError, NotFittedError
from dualtower.files import BUNDLE_FORMAT, check_replaceable
from dualtower.fitting import fit
from dualtower.models import SOLVED, TRAINED
from dualtower.models.base import Model
from dualtower.models.record import TrainingRecord
from dualtower.models.trained import TrainedModel
from dualtower.retrieval.bundle import Bundle
from dualtower.studies.floors import floor

FITTED_ON = ("train", "train+validation", "all")
"""What a model can be fitted on."""


@dataclass(frozen=True)
class Fitted:
    """A model that a run fitted, the bundle made of it, and what the fit cost."""

    bundle: Bundle
    record: TrainingRecord
    """The training, epoch by epoch."""
    fitted_on: str
    seconds: float
    """Wall time of the fit, the validation after each epoch included."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "model": self.bundle.model.name,
            "fitted_on": self.fitted_on,
            "seconds": self.seconds,
            **self.record.to_dict(),
            "bundle": self.bundle.describe(),
        }


def changed(
    config: RunConfig,
    *,
    model: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    bundle: Path | None = None,
) -> RunConfig:
    """The configuration with what the command line overrides; None leaves the file's value.

    Raises:
        ConfigError: there is no such model, or the bundle's folder and another that the run writes
            are in each other.
    """
    training = {
        name: value for name, value in (("epochs", epochs), ("seed", seed)) if value is not None
    }
    update: dict[str, Any] = {"training": config.training.model_copy(update=training)}
    if model is not None:
        update["model"] = config.model.for_model(model)
        if model != config.model.name:
            update["training"] = update["training"].for_model(model)
    if bundle is not None:
        update["bundle"] = config.bundle.model_copy(update={"path": str(bundle)})
    config = config.model_copy(update=update)
    check_apart(config)
    return config


def without_traces(config: RunConfig) -> RunConfig:
    """The same run without checkpoint and TensorBoard log, which are the main model's alone."""
    training = config.training.model_copy(update={"checkpoint": None, "tensorboard": None})
    return config.model_copy(update={"training": training})


def prepared_from(dataset: Dataset) -> str:
    """A checksum of the tables and settings that a dataset was prepared from."""
    source = {part: dataset.source[part] for part in ("files", "settings")}
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()


def load_prepared(config: RunConfig, prepared: str) -> Dataset:
    """The run's dataset as a study prepared it, for a process of its own.

    Args:
        config: the run.
        prepared: what `prepared_from` gave of the dataset; "" takes any.

    Raises:
        DataError: another one has taken its place meanwhile.
    """
    dataset = Dataset.load(config.data.dataset)
    if prepared and prepared_from(dataset) != prepared:
        raise DataError(
            f"{config.data.dataset}: was prepared anew from other tables, columns or filter while "
            "this study ran; give each study a folder of its own (--work)"
        )
    return dataset


def load_or_prepare(config: RunConfig, say: Callable[[str], None]) -> Dataset:
    """The run's dataset: from disk where it fits the configuration, else prepared now.

    Args:
        config: the run.
        say: is told in one line what was done and why.

    Raises:
        DataError: a table is not as it should be.
    """
    reason = stale_reason(config)
    if reason is None:
        return Dataset.load(config.data.dataset)
    say(f"Preparing the dataset: {reason}.")
    return prepare(config)


def check_validation(parts: Split, what: str) -> None:
    """Refuse a split without validation events for what is measured on them.

    Args:
        parts: the split.
        what: measures there.

    Raises:
        DataError: there are none.
    """
    if parts.validation.event_count == 0:
        raise DataError(
            f"{what}: the split has no validation events, and the test is not to be looked at; set "
            'split.validation_days (by = "time") or split.validation_share (by = "column"), or '
            "mark some in the split column"
        )


def training_log(dataset: Dataset, parts: Split, fitted_on: str) -> Log:
    """The view of a dataset that a model is fitted on; `fitted_on` is one of `FITTED_ON`."""
    if fitted_on == "all":
        return dataset.everything()
    return parts.train if fitted_on == "train" else parts.train_and_validation


def fit_model(
    name: str,
    config: RunConfig,
    parts: Split,
    fitted_on: str,
    *,
    settings: Mapping[str, Any] | None = None,
    after_epoch: Callable[[float], None] | None = None,
) -> Model:
    """Fit the model `name` on a part of the dataset.

    Training stops early on validation where `fitted_on` is "train", and otherwise takes all its
    epochs.

    Args:
        name: of a model in `dualtower.models.MODELS`.
        config: the run, with the settings of the trained models.
        parts: the split dataset.
        fitted_on: one of `FITTED_ON`.
        settings: of a floor; its defaults apply without them.
        after_epoch: of a trained model: is told the validation metric after each epoch.

    Raises:
        ConfigError: there is no such model.
    """
    log = training_log(parts.train.dataset, parts, fitted_on)
    if name in SOLVED:
        return fit(floor(name, settings or {}), log)
    towers, training = config.model.for_model(name), config.training
    if name != config.model.name:
        training = training.for_model(name)
    validation = parts.validation if fitted_on == "train" else None
    model = TRAINED[name](towers)
    return fit(
        model,
        log,
        validation=validation,
        training=training,
        evaluation=config.evaluation,
        after_epoch=after_epoch,
    )


def fit_bundle(config: RunConfig, fitted_on: str, say: Callable[[str], None]) -> Fitted:
    """Prepare if need be, fit the configured model, build its index and save the bundle.

    Raises:
        DataError: a table is not as it should be, or the split leaves nothing to train on.
        ConfigError: `fitted_on` is not valid, the bundle's folder holds other files, or the run
            would write folders in each other.
    """
    if fitted_on not in FITTED_ON:
        raise ConfigError(f"--on: {fitted_on!r} given; it must be one of {', '.join(FITTED_ON)}")
    check_apart(config)
    check_replaceable(config.bundle.path, BUNDLE_FORMAT)
    dataset = load_or_prepare(config, say)
    parts = split(dataset, config.split)
    log = training_log(dataset, parts, fitted_on)
    start = time.monotonic()
    model = fit_model(config.model.name, config, parts, fitted_on)
    seconds = time.monotonic() - start
    bundle = Bundle.build(model, log, index=config.index, fitted_on=fitted_on)
    return Fitted(bundle.save(config.bundle.path), training_record(model), fitted_on, seconds)


def training_record(model: Model) -> TrainingRecord:
    """How the training of a model that learns by steps went.

    Raises:
        NotFittedError: the model was not trained in this process.
    """
    record = model.record if isinstance(model, TrainedModel) else None
    if record is None:
        raise NotFittedError(f"{model.name} was not trained in this process: it has no record")
    return record
