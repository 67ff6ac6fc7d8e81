"""One fit and evaluation of a study: what it needs to know, doing it, and what it leaves."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

import dualtower
from dualtower.config import RunConfig, Settings
from dualtower.data.dataset import Split
from dualtower.data.splits import split
from dualtower.errors import DualtowerError
from dualtower.evaluation.evaluate import Evaluation, evaluate
from dualtower.evaluation.results import Refusal, Run, Value, peak_memory_mb
from dualtower.files import replacing_file, write_json
from dualtower.models import SOLVED
from dualtower.models.base import Model
from dualtower.studies.floors import has_seed, tuned_settings
from dualtower.studies.run import fit_model, load_prepared, without_traces
from dualtower.studies.variants import base_of, configured

_FIGURE_ROOMS = ("data", "losses", "models", "training", "evaluation")
_FIGURE_FILES = (
    *("config.py", "schema.py", "fitting.py", "serving/live.py"),
    *(
        f"studies/{name}.py"
        for name in ("floors", "held_out", "live_order", "orders", "run", "tuning", "variants")
    ),
)


class Order(Settings):
    """One run of a study, so that a process of its own can do it."""

    config: RunConfig
    """The run as the study has it; its dataset is prepared."""
    prepared: str = ""
    """What `prepared_from` gives of that dataset; "" takes any."""
    model: str
    """A model's or variant's name."""
    variation: str = ""
    """What is varied, in words, where the study varies something."""
    settings: dict[str, Value] | None = None
    """Of a trained model: what is other than in `config`, as `model.FIELD` and `training.FIELD`. Of
    a solved one: its settings. None: as configured; a floor's are chosen from its grid."""
    seed: int = Field(ge=0)
    final: bool
    """Fit on training and validation, measure on the test; else on training, and on validation."""

    @property
    def label(self) -> str:
        """What the run is called in notes."""
        name = f"{self.model}, {self.variation}" if self.variation else self.model
        return f"{name}, seed {self.seed}"

    def key(self, files: Any) -> str:
        """Of all that the run's figures depend on, except the code and the number of threads.

        Two orders of one key give the same figures, whatever they are called.

        Args:
            files: the checksums of the dataset's tables, as its `source` has them.

        Raises:
            ConfigError: there is no such model or setting.
        """
        solved = base_of(self.model) in SOLVED
        facts: dict[str, Any] = {
            "files": files,
            "final": self.final,
            "seed": self.seed,
            "config": figure_settings(self.run_config()),
        }
        if solved:
            for part in ("model", "training"):
                del facts["config"][part]
            facts["model"], facts["settings"] = base_of(self.model), self.settings
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    def run_config(self) -> RunConfig:
        """The whole run's configuration.

        Raises:
            ConfigError: there is no such model or setting.
        """
        alone = without_traces(self.config)
        if base_of(self.model) in SOLVED:
            return alone
        return configured(alone, self.model, self.settings or {}, seed=self.seed)


class Outcome(Settings):
    """What a run left: its figures, or why there are none."""

    run: Run | None = None
    refusal: Refusal | None = None
    code: str
    """Which code it was (`code_fingerprint`)."""


def execute(order: Order, output: Path) -> None:
    """Do one run: its `Outcome` goes to `output`, the values per query beside it (`.npz`).

    A model that refuses the data or its settings leaves the reason.
    """
    try:
        run, found = _measured(order)
    except DualtowerError as error:
        refused = Refusal(
            model=order.model, variation=order.variation, seed=order.seed, reason=str(error)
        )
        outcome = Outcome(refusal=refused, code=code_fingerprint())
    else:
        with replacing_file(output.with_suffix(".npz")) as beside, open(beside, "wb") as file:
            np.savez(file, queries=found.ranking.queries, **found.per_query)  # type: ignore[arg-type]
        outcome = Outcome(run=run, code=code_fingerprint())
    write_json(output, outcome.model_dump(mode="json"))


def figure_settings(config: RunConfig) -> dict[str, Any]:
    """The settings that a run's figures depend on, as plain values."""
    settings = config.model_dump(mode="json", exclude={"data", "bundle", "index"})
    for field in ("threads", "checkpoint", "tensorboard"):
        del settings["training"][field]
    del settings["evaluation"]["baselines"]
    return settings


def read_values(output: Path) -> dict[str, npt.NDArray[Any]]:
    """The values per query that a run left: `queries` (rows) and every metric, `[queries]`."""
    with np.load(output.with_suffix(".npz"), allow_pickle=False) as values:
        return dict(values)


def code_fingerprint() -> str:
    """A checksum of the source that figures come from."""
    package = Path(dualtower.__file__).parent
    files = [package / name for name in _FIGURE_FILES]
    for room in _FIGURE_ROOMS:
        files += sorted((package / room).glob("*.py"))
    together = hashlib.sha256()
    for file in files:
        together.update(file.read_bytes())
    return together.hexdigest()[:12]


@dataclass(frozen=True)
class Fitted:
    """The model of an order, and what its fit took."""

    model: Model
    settings: dict[str, Any]
    """Its settings; of a floor those that were chosen."""
    seconds: float
    """Wall time, to a tenth."""
    peak_memory_mb: int
    """Of the process so far."""


def fit_order(order: Order, config: RunConfig, parts: Split) -> Fitted:
    """Fit the order's model on the training events, and on validation too where it is final.

    Args:
        order: the model and its settings; those of a floor without any are chosen on validation.
        config: the order's (`Order.run_config`).
        parts: what to fit on.
    """
    name = base_of(order.model)
    settings: dict[str, Any] = dict(order.settings or {})
    if name in SOLVED:
        if order.settings is None:
            settings = tuned_settings(name, parts, config=config.evaluation)
        if has_seed(name):
            settings["seed"] = order.seed
    start = time.monotonic()
    fitted_on = "train+validation" if order.final else "train"
    model = fit_model(name, config, parts, fitted_on, settings=settings)
    seconds = time.monotonic() - start
    return Fitted(model, settings, round(seconds, 1), round(peak_memory_mb()))


def _measured(order: Order) -> tuple[Run, Evaluation]:
    config = order.run_config()
    parts = split(load_prepared(config, order.prepared), config.split)
    fitted = fit_order(order, config, parts)
    found = evaluate(
        fitted.model, parts.test if order.final else parts.validation, config=config.evaluation
    )
    segments = {row.pop("segment"): row for row in found.segments.to_dicts()}
    run = Run(
        model=order.model,
        variation=order.variation,
        seed=order.seed,
        metrics=found.metrics,
        seconds=fitted.seconds,
        peak_memory_mb=fitted.peak_memory_mb,
        settings=fitted.settings,
        segments=segments,
    )
    return run, found
