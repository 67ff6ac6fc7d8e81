"""Checkpoints after each epoch, from which a killed run goes on to the same result."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dualtower.errors import ConfigError
from dualtower.files import (
    MANIFEST,
    check_replaceable,
    read_manifest,
    recover_folder,
    replacing_folder,
    write_manifest,
)
from dualtower.models.network import Network

FORMAT, VERSION = "dualtower-checkpoint", 1
_TENSORS = "state.safetensors"


@dataclass
class Progress:
    """Where a run stands after an epoch."""

    epoch: int
    """Epochs done."""
    step: int
    """Steps done."""
    record: dict[str, Any]
    """The training record so far."""
    best_metric: float | None
    """The best validation metric so far."""
    since_best: int
    """Epochs without a better one."""


def save_checkpoint(
    folder: Path,
    run: dict[str, Any],
    progress: Progress,
    network: Network,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor] | None,
) -> None:
    """Write all that the next epoch depends on, beside and renamed into place."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for number, table in enumerate(network.tables()):
        for name, tensor in table.optimizer_state().items():
            tensors[f"table.{number}.{name}"] = tensor
    for number, state in optimizer.state_dict()["state"].items():
        for name, tensor in state.items():
            tensors[f"optimizer.{number}.{name}"] = tensor
    for name, tensor in (best or {}).items():
        tensors[f"best.{name}"] = tensor
    with replacing_folder(folder, FORMAT) as beside:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, beside / _TENSORS
        )
        content = {"format": FORMAT, "format_version": VERSION, "run": run, **vars(progress)}
        write_manifest(beside, content)


def load_checkpoint(
    folder: Path, run: dict[str, Any], network: Network, optimizer: torch.optim.Optimizer
) -> tuple[Progress, dict[str, Tensor] | None] | None:
    """Take up the state that `save_checkpoint` wrote; None where there is none.

    Raises:
        BundleError: the checkpoint is damaged.
        ConfigError: it is of another run (settings or data differ), or the folder could not be
            replaced after the first epoch: it holds other files or is a mount point.
    """
    recover_folder(folder)  # a run has its folder to itself: nobody replaces it meanwhile
    if not (folder / MANIFEST).exists():
        check_replaceable(folder, FORMAT)
        return None
    content = read_manifest(folder, FORMAT, VERSION)
    check_replaceable(folder, FORMAT)
    run = json.loads(json.dumps(run))
    saved = {"validation": None, **content["run"]}  # older ones do not say
    if saved != run:
        raise ConfigError(
            f"{folder}: holds the checkpoint of another run: {_differences(saved, run)}; "
            "delete the folder or name another in training.checkpoint"
        )
    tensors = load_file(folder / _TENSORS, device=str(network.device))
    network.load_state_dict(_under("network.", tensors))
    for number, table in enumerate(network.tables()):
        table.load_optimizer_state(_under(f"table.{number}.", tensors))
    state = optimizer.state_dict()
    for number in state["param_groups"][0]["params"]:
        moments = _under(f"optimizer.{number}.", tensors)
        if moments:
            state["state"][number] = moments
    optimizer.load_state_dict(state)
    names = ("epoch", "step", "record", "best_metric", "since_best")
    return Progress(**{name: content[name] for name in names}), _under("best.", tensors) or None


def _differences(saved: dict[str, Any], run: dict[str, Any]) -> str:
    """What is different, setting by setting; of the data only that it is."""
    found = []
    for section in ("model", "training"):
        old, new = saved.get(section, {}), run[section]
        found += [
            f"{section}.{name} was {old.get(name)} and is {new.get(name)}"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
    if saved.get("data") != run["data"]:
        found.append("its events, features or categories were others")
    if saved.get("validation") != run["validation"]:
        found.append("it was validated on other events or in another way, or not at all")
    return ", ".join(found)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}
