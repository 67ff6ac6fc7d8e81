"""`fit`: the one verb that trains any model."""

from collections.abc import Callable
from typing import TypeVar

from dualtower.config import EvaluationConfig, TrainingConfig
from dualtower.data.dataset import Log
from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.evaluate import validation_metric
from dualtower.evaluation.metrics import parse_metric
from dualtower.models.base import Model, SolvedModel
from dualtower.models.trained import TrainedModel
from dualtower.training.loop import train, view_fingerprint
from dualtower.training.seeds import VALIDATION, sub_seed

M = TypeVar("M", bound=Model)

_RANKING_FIELDS = {"exclude_seen", "same_time_history"}


def fit(
    model: M,
    log: Log,
    *,
    validation: Log | None = None,
    training: TrainingConfig | None = None,
    evaluation: EvaluationConfig | None = None,
    after_epoch: Callable[[float], None] | None = None,
    progress: bool = True,
) -> M:
    """Fit `model` on the target events of `log` and return it.

    Models with a closed form are solved; the others are trained step by step and, with
    `validation`, stopped early on `training.validation_metric` with the best weights kept.

    Args:
        model: any model of `dualtower.models`.
        log: the training view of a dataset.
        validation: a view of the same dataset whose targets are ranked after each epoch.
        training: the loop's settings; None takes those of the model's preset.
        evaluation: how the validation's targets are ranked, as they will be in `evaluate`; without
            it the defaults, with the training's `same_time_history`.
        after_epoch: is told the validation metric after each epoch; what it raises ends the fit.
        progress: show bars.

    Raises:
        ConfigError: settings contradict each other or the validation metric does not exist.
        DataError: the log has no events.
    """
    if isinstance(model, SolvedModel):
        if log.event_count == 0:
            raise DataError("fit: the training log has no events; check filter and split")
        model.solve(log, progress=progress)
        return model
    if not isinstance(model, TrainedModel):
        raise ConfigError(f"fit: {type(model).__name__} has neither a solve nor a training loss")
    config = training or TrainingConfig.of(model.config.preset).for_model(model.name)
    validate, validated_as = None, None
    if validation is not None and validation.event_count > 0:
        validate = validator(validation, config, evaluation)
        ranked = _ranked_as(config, evaluation)
        validated_as = {
            **view_fingerprint(validation),
            **ranked.model_dump(include=_RANKING_FIELDS),
        }
        if after_epoch is not None:
            validate = _telling(validate, after_epoch)
    train(
        model,
        log,
        config,
        validate=validate,
        validated_as=validated_as,
        progress=progress,
    )
    return model


def validator(
    validation: Log, config: TrainingConfig, evaluation: EvaluationConfig | None = None
) -> Callable[[Model], float]:
    """What `fit` watches: the metric of a model on a fixed random choice of validation queries.

    Args:
        validation: the view whose targets are ranked.
        config: names the metric, the number of queries and the seed of their choice.
        evaluation: how they are ranked; without it the defaults, with the training's
            `same_time_history`.

    Raises:
        ConfigError: there is no such metric.
    """
    evaluation = _ranked_as(config, evaluation)
    name = config.validation_metric
    parse_metric(name)
    seed = sub_seed(config.seed, VALIDATION)

    def validate(model: Model) -> float:
        queries = config.validation_queries
        return validation_metric(
            model, validation, name, config=evaluation, queries=queries, seed=seed
        )

    return validate


def _ranked_as(config: TrainingConfig, evaluation: EvaluationConfig | None) -> EvaluationConfig:
    return evaluation or EvaluationConfig(same_time_history=config.same_time_history)


def _telling(
    validate: Callable[[Model], float], tell: Callable[[float], None]
) -> Callable[[Model], float]:
    def validate_and_tell(model: Model) -> float:
        metric = validate(model)
        tell(metric)
        return metric

    return validate_and_tell
