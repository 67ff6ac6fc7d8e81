"""The one training loop of all models that learn by steps."""

import copy
import math
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualtower.config import TrainingConfig
from dualtower.data.dataset import Log
from dualtower.errors import ConfigError, DataError
from dualtower.models.network import Network
from dualtower.models.record import EpochRecord, TrainingRecord
from dualtower.models.trained import TrainedModel
from dualtower.progress import Bar, progress_bar, say
from dualtower.threads import torch_threads
from dualtower.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from dualtower.training.co_occurrence import co_occurrence_vectors
from dualtower.training.collapse import find_collapse, sample_rows, warn_of_collapse
from dualtower.training.objective import Objective, check
from dualtower.training.pairs import Pairs
from dualtower.training.seeds import (
    DROPOUT,
    FOLDS,
    INITIAL_WEIGHTS,
    ITEM_INIT,
    NEGATIVES,
    ORDER,
    seed_torch,
    sub_seed,
)
from dualtower.training.windows import Batch, Windows

Validate = Callable[[TrainedModel], float]
_COLLAPSE_SAMPLE = 1000
_OF_THE_PLACE = {"checkpoint", "tensorboard", "threads"}
"""Settings that say where a model is trained, and not how."""
_DRAWN_SHARE = 0.3
"""Of the random rows, in what the item table starts from by co-occurrence: without any, items that
share little with others would all start from the same place."""


def train(
    model: TrainedModel,
    log: Log,
    config: TrainingConfig,
    *,
    validate: Validate | None = None,
    validated_as: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> None:
    """Train `model` on the target events of `log`; `model.record` tells how it went.

    One epoch reads every event once. A step costs what its batch names: no pass over a table, no
    dense gradient. With `validate`, the metric is taken after each epoch, training stops after
    `patience` epochs without a better one, and the best epoch's weights are kept.

    Args:
        model: fresh towers are built for the log's sizes.
        log: the training view.
        config: the loop's settings.
        validate: gives the validation metric (higher is better) of the model as it stands.
        validated_as: what tells this validation from another; a checkpoint keeps it.
        progress: show a bar.

    Raises:
        ConfigError: settings contradict each other, or the checkpoint is of another run.
        DataError: the log is empty.
    """
    if log.event_count == 0:
        raise DataError("training: the training log has no events; check filter and split")
    if not log.has_weight():
        raise DataError(
            f"training: column {log.dataset.schema.weight!r} weighs every training event 0, so "
            "that there is nothing to learn; give weights above 0, or leave columns.weight out"
        )
    device = _device(config.device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch_threads(config.threads):
        seed_torch(sub_seed(config.seed, INITIAL_WEIGHTS), device)
        network = model.build(log.dataset.space(), log.dataset.item_features, device)
        try:
            check(config, network, len(log.corpus))
            _warn_without_categories(model, log)
            _Run(model, network, log, config, validate, validated_as, progress).go()
        except BaseException:
            model.network = None  # half trained is not fitted
            raise
    network.eval()


class _Run:
    def __init__(
        self,
        model: TrainedModel,
        network: Network,
        log: Log,
        config: TrainingConfig,
        validate: Validate | None,
        validated_as: Mapping[str, Any] | None,
        progress: bool,
    ) -> None:
        self.model, self.network, self.log, self.config = model, network, log, config
        self.validate, self.validated_as, self.progress = validate, validated_as, progress
        network.set_product_type(getattr(torch, config.precision))
        self.examples = _examples(model, log, config)
        self.objective = Objective(network, config, log, sub_seed(config.seed, NEGATIVES))
        self.optimizer = torch.optim.AdamW(
            # A network of tables alone has none, and the optimizer wants one.
            list(network.parameters()) or [torch.zeros(0, device=network.device)],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.total_steps = self.examples.step_count() * config.epochs
        self.tables = network.tables()
        self.record = TrainingRecord(
            metric_name=config.validation_metric,
            training=config.model_dump(mode="json", exclude=_OF_THE_PLACE | {"device"}),
        )
        self.standing = Progress(0, 0, {}, None, 0)
        self.best: dict[str, Tensor] | None = None

    def go(self) -> None:
        """Take up a checkpoint if there is one, train epoch by epoch, finish."""
        self._resume()
        if self.standing.epoch == 0:
            self._start_items()
        writer = _tensorboard(self.config.tensorboard)
        epochs, per_epoch = self.config.epochs, self.examples.event_count
        title = f"Training {self.model.name}"
        total, done = epochs * per_epoch, self.standing.epoch * per_epoch
        with progress_bar(title, total, "positives", done=done, shown=self.progress) as bar:
            while self.standing.epoch < epochs and not self._out_of_patience():
                self._epoch(bar)
                if writer is not None:
                    _log(writer, self.record.epochs[-1], self.record.metric_name)
        if writer is not None:
            writer.close()
        if self.best is not None:
            self.network.load_state_dict(self.best)
        self._settle()
        self.model.record = self.record

    def _start_items(self) -> None:
        """The item table's first values: what the items share, and a little of what was drawn."""
        table = self.network.item_table
        if table is None or self.config.item_init == "random":
            return
        seed = sub_seed(self.config.seed, ITEM_INIT)
        vectors = co_occurrence_vectors(self.log, table.dim, seed, progress=self.progress)
        table.weight.mul_(_DRAWN_SHARE).add_(torch.from_numpy(vectors).to(table.weight.device))

    def _epoch(self, bar: Bar) -> None:
        seed, epoch = self.config.seed, self.standing.epoch
        seed_torch(sub_seed(seed, DROPOUT, epoch), self.network.device)
        self.objective.start_epoch(sub_seed(seed, NEGATIVES, epoch))
        if self.network.augmented is not None and epoch > 0:
            self.network.augmented.fade()
        self.network.train()
        started, positives, loss_sum, steps = time.perf_counter(), 0, 0.0, 0
        sample = torch.empty(0)
        for batch in self.examples.epoch(sub_seed(seed, ORDER, epoch)):
            loss, sample = self._step(batch)
            loss_sum, steps = loss_sum + loss, steps + 1
            positives += len(batch.targets)
            bar.advance(len(batch.targets), note=f"epoch {epoch + 1}, loss {loss:.4f}")
        for table in self.tables:
            table.share_unknown()
        seconds = time.perf_counter() - started
        self._look_for_collapse(sample, epoch + 1)
        metric = self._validated()
        self.standing.epoch += 1
        done = EpochRecord(epoch + 1, loss_sum / steps, metric, seconds, positives / seconds)
        self.record.epochs.append(done)
        self._keep_best(metric)
        if self.config.checkpoint is not None:
            self.standing.record = self.record.to_dict()
            folder = Path(self.config.checkpoint)
            save_checkpoint(
                folder, self._identity(), self.standing, self.network, self.optimizer, self.best
            )

    def _step(self, batch: Batch) -> tuple[float, Tensor]:
        share = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * share
        loss, query_vectors = self.objective(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise DataError(
                f"training: the loss is {value} at step {self.standing.step + 1}; lower "
                "learning_rate and table_learning_rate, and look for extreme numeric features"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        for table in self.tables:
            table.update(
                self.config.table_learning_rate * share,
                weight_decay=self.config.table_weight_decay,
            )
        self.objective.observe(batch, query_vectors)
        self.standing.step += 1
        return value, query_vectors

    def _rate(self) -> float:
        if self.config.schedule == "constant":
            return 1.0
        done = min(1.0, self.standing.step / self.total_steps)
        return 0.5 * (1 + math.cos(math.pi * done))

    def _validated(self) -> float | None:
        if self.validate is None:
            return None
        self.network.settle()
        self.network.eval()
        return self.validate(self.model)

    def _keep_best(self, metric: float | None) -> None:
        if metric is None:
            return
        best = self.standing.best_metric
        if best is None or metric > best:
            self.standing.best_metric, self.standing.since_best = metric, 0
            self.record.best_epoch = self.standing.epoch
            self.best = copy.deepcopy(self.network.state_dict())
        else:
            self.standing.since_best += 1

    def _out_of_patience(self) -> bool:
        return self.standing.since_best >= self.config.patience

    @torch.no_grad()
    def _look_for_collapse(self, queries: Tensor, epoch: int) -> None:
        network = self.network
        network.eval()
        rows = sample_rows(network.item_count, _COLLAPSE_SAMPLE, network.device)
        items = network.encode_item(rows, network.item_inputs(rows)).vectors
        fault = find_collapse(queries[:_COLLAPSE_SAMPLE], items)
        if fault is not None and not self.record.collapsed:
            self.record.collapsed = True
            warn_of_collapse(fault, self.model.config, epoch)

    @torch.no_grad()
    def _settle(self) -> None:
        """Fill the cached items; closed-form sums are first made exact for the final weights."""
        self.network.eval()
        self.network.settle()
        augmented = self.network.augmented
        if augmented is None or not augmented.exact:
            return
        total = self.examples.event_count
        with progress_bar("Augmented vectors", total, "positives", shown=self.progress) as bar:
            augmented.clear()
            for batch in self.examples.epoch(0):
                self.objective.observe(batch, self.objective.query_vectors(batch))
                bar.advance(len(batch.targets))
        self.network.settle()

    def _resume(self) -> None:
        if self.config.checkpoint is None:
            return
        found = load_checkpoint(
            Path(self.config.checkpoint), self._identity(), self.network, self.optimizer
        )
        if found is not None:
            self.standing, self.best = found
            record = {**self.standing.record, "training": self.record.training}
            record["epochs"] = [EpochRecord(**epoch) for epoch in record["epochs"]]
            self.record = TrainingRecord(**record)
            if self.progress:
                say(
                    f"Going on after epoch {self.standing.epoch} of {self.config.epochs}, from "
                    f"{self.config.checkpoint}"
                )

    def _identity(self) -> dict[str, Any]:
        loop = self.config.model_dump(exclude=_OF_THE_PLACE)
        return {
            "model": self.model.config.model_dump(),
            "training": loop,
            "data": _fingerprint(self.log),
            "validation": None if self.validated_as is None else dict(self.validated_as),
        }


def _warn_without_categories(model: TrainedModel, log: Log) -> None:
    known = log.dataset.space().category_count - 1
    if model.config.lambda_ca and known < 2:
        warnings.warn(
            f"lambda_ca is {model.config.lambda_ca:g}, but there is nothing to align: the items "
            f"have {known or 'no'} categor{'y' if known == 1 else 'ies'}. Name columns.category, "
            "or set lambda_ca = 0.",
            UserWarning,
            stacklevel=2,
        )


def view_fingerprint(log: Log) -> dict[str, Any]:
    """What tells a view of a dataset from another of the same."""
    return {"events": log.event_count, "checksum": _checksum([log.start, log.end, log.corpus])}


def _fingerprint(log: Log) -> dict[str, Any]:
    """What tells this training view from another: its sizes, and a checksum of all that is read."""
    dataset = log.dataset
    arrays: list[npt.NDArray[Any]] = [log.start, log.end, log.corpus]
    arrays += [dataset.items, dataset.item_categories]
    arrays += [array for array in (dataset.times, dataset.weights) if array is not None]
    for columns in (dataset.query_features, dataset.item_features, dataset.context_features):
        for column in columns.values():
            arrays.append(column.values)
            if column.offsets is not None:
                arrays.append(column.offsets)
    found = {
        "space": dataset.space().to_dict(),
        "events": log.event_count,
        "checksum": _checksum(arrays),
    }
    if dataset.schema.unordered:
        found["order"] = "new each epoch, all others before"
    return found


def _checksum(arrays: Iterable[npt.NDArray[Any]]) -> int:
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum


def _examples(model: TrainedModel, log: Log, config: TrainingConfig) -> Windows | Pairs:
    if config.examples == "pairs":
        return Pairs(log, batch_size=config.batch_size)
    assert model.network is not None
    augmented = model.network.augmented
    return Windows(
        log,
        history_length=model.config.history_length if model.network.reads_events else 0,
        target_length=min(model.config.history_length, config.batch_size),
        batch_size=config.batch_size,
        folds=1 if augmented is None else augmented.folds,
        seed=sub_seed(config.seed, FOLDS),
        same_time_history=config.same_time_history,
        read_earlier=model.network.reads_past,
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device: torch.device | None = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"training.device: {name!r} is no device; use cpu, cuda or auto")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device: cuda is not available here; use cpu or auto")
    return device


def _tensorboard(folder: str | None) -> Any:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "training.tensorboard: the tensorboard package is not installed; "
            "pip install tensorboard, or leave the setting out"
        ) from None
    return SummaryWriter(folder)


def _log(writer: Any, epoch: EpochRecord, metric_name: str) -> None:
    writer.add_scalar("training/loss", epoch.loss, epoch.epoch)
    writer.add_scalar("training/positives_per_second", epoch.positives_per_second, epoch.epoch)
    if epoch.metric is not None:
        writer.add_scalar(
            f"validation/{metric_name.replace('@', '_at_')}", epoch.metric, epoch.epoch
        )
