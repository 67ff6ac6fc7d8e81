"""The record of a training run."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch of training gave."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Mean training loss over the epoch's steps."""
    metric: float | None
    """The validation metric after it; None without validation."""
    seconds: float
    """Time spent on training steps, validation left out."""
    positives_per_second: float
    """Training positives by those seconds."""


@dataclass
class TrainingRecord:
    """How training went."""

    metric_name: str
    """Which validation metric was watched."""
    epochs: list[EpochRecord] = field(default_factory=list)
    best_epoch: int | None = None
    """The epoch whose weights were kept; None without validation (then the last)."""
    collapsed: bool = False
    """Whether the representations collapsed."""
    training: dict[str, Any] = field(default_factory=dict)
    """The loop's settings, but for paths, threads and device."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)
