"""A bundle measured on events that its model never saw, beside the configured baselines."""

from collections.abc import Callable
from pathlib import Path

from dualtower.config import RunConfig
from dualtower.data.dataset import Dataset, Log
from dualtower.data.splits import split
from dualtower.errors import BundleError, ConfigError
from dualtower.evaluation.plots import check_plots
from dualtower.evaluation.report import write_report
from dualtower.models.base import Model
from dualtower.retrieval.bundle import Bundle
from dualtower.retrieval.manifest import dataset_fingerprint
from dualtower.retrieval.requests import RequestEncoder
from dualtower.studies.comparison import Standing, standing
from dualtower.studies.floors import tuned_settings
from dualtower.studies.run import changed, fit_model, load_or_prepare, without_traces

_UNSEEN = {"train": ("validation", "test"), "train+validation": ("test",)}
"""What a model has not seen, by what it was fitted on."""


def measure_bundle(
    config: RunConfig,
    on: str,
    say: Callable[[str], None],
    *,
    report: Path | None = None,
) -> Standing:
    """Evaluate the run's bundle and its baselines, each fitted on what the bundle's model was.

    Floors are first tuned on validation, where there is any; the two-tower baseline has the
    settings of the run, with as many epochs and the seed that the bundle's model had.

    Args:
        config: the run, whose bundle exists.
        on: test or validation.
        say: is told what is being done, line by line.
        report: folder for report.html and report.json, if wanted.

    Raises:
        BundleError: there is no bundle, it is damaged, or it was built from other events than the
            configuration now gives.
        ConfigError: `on` is not valid, the bundle's model was fitted on those very events, or
            a report is wanted and matplotlib is not installed.
    """
    if on not in ("test", "validation"):
        raise ConfigError(f"--on: {on!r} given; it must be test or validation")
    if report is not None:
        check_plots()
    folder = Path(config.bundle.path)
    if not folder.is_dir():
        raise BundleError(f"{folder}: no bundle there yet; `dualtower fit` writes it")
    bundle = Bundle.load(folder)
    fitted_on = bundle.manifest.fitted_on
    if on not in _UNSEEN.get(fitted_on, ()):
        raise ConfigError(
            f"{folder}: its model was fitted on {fitted_on} events, the {on} events among them, so "
            f"a metric on them would say nothing about new ones; "
            f"fit with --on {'train' if on == 'validation' else 'train+validation'} first"
        )
    parts = split(load_or_prepare(config, say), config.split)
    log = parts.test if on == "test" else parts.validation
    _check_origin(bundle, log, folder)
    models: dict[str, Model] = {bundle.model.name: bundle.model}
    had = bundle.manifest.training  # `fit` may have been given others than the file's
    alone = changed(without_traces(config), epochs=had.get("epochs"), seed=had.get("seed"))
    for name in config.evaluation.baselines:
        if name not in models:
            settings = tuned_settings(name, parts, config=config.evaluation)
            shown = ", ".join(f"{key} = {value:g}" for key, value in settings.items())
            say(f"Fitting {name}" + (f" ({shown}; best on validation)" if shown else ""))
            models[name] = fit_model(name, alone, parts, fitted_on, settings=settings)
    found = standing(models, log, config=config.evaluation)
    if report is not None:
        write_report(
            report / "report.html",
            title=f"{bundle.model.name} on the {on} events",
            log=log,
            evaluations=found.evaluations,
            main=bundle.model.name,
            facts={"bundle": folder.name, "fitted on": fitted_on},
        )
    return found


def _check_origin(bundle: Bundle, log: Log, folder: Path) -> None:
    """The bundle must come from this dataset, and know none of the events to be predicted."""
    if bundle.manifest.dataset.fingerprint != dataset_fingerprint(log.dataset):
        raise BundleError(
            f"{folder}: was built from another dataset than the configuration names now; "
            "fit again, or name the right configuration"
        )
    if changed := _changed_features(bundle.encoder, log.dataset):
        raise BundleError(
            f"{folder}: its model was fitted on other features than the configuration now gives "
            f"({', '.join(changed)}); fit again, or name the right configuration"
        )
    known = bundle.encoder.history.lengths()
    if (known > log.start - log.dataset.offsets[:-1]).any():
        raise BundleError(
            f"{folder}: knows some of the events that it would be measured on: it was built with "
            "them, or the split was changed since; fit again"
        )


def _changed_features(encoder: RequestEncoder, dataset: Dataset) -> list[str]:
    """What the model would read otherwise than it was fitted on, as `side/name`."""
    ours, theirs = encoder.space, dataset.space()
    changed = []
    for side in ("query", "item", "context"):
        one, other = getattr(ours, f"{side}_features"), getattr(theirs, f"{side}_features")
        changed += [f"{side}/{spec.name}" for spec in set(one) ^ set(other)]
        if set(one) == set(other) and one != other:
            changed.append(f"the order of the {side} features")
    if ours.category_count != theirs.category_count:
        changed.append("category")
    for name in encoder.feature_vocabularies.keys() & dataset.feature_vocabularies.keys():
        before, now = encoder.feature_vocabularies[name], dataset.feature_vocabularies[name]
        if not before.values.equals(now.values):
            changed.append(name)
    for name in encoder.numeric_scales.keys() & dataset.numeric_scales.keys():
        if tuple(encoder.numeric_scales[name]) != tuple(dataset.numeric_scales[name]):
            changed.append(name)
    return sorted(set(changed))
