"""Settings of the floors, chosen on validation: an untuned baseline proves nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import polars as pl

from dualtower.config import EvaluationConfig
from dualtower.data.dataset import Log
from dualtower.errors import ConfigError
from dualtower.evaluation.evaluate import evaluate
from dualtower.models import MODELS
from dualtower.models.base import SolvedModel
from dualtower.progress import progress_bar

GRIDS: dict[str, dict[str, Sequence[Any]]] = {
    "item_knn": {
        "neighbours": (50, 200, 800),
        "shrinkage": (0.0, 10.0, 50.0),
        "decay": (1.0, 0.95, 0.9, 0.8, 0.6),
    },
    "ease": {"regularization": (30.0, 100.0, 300.0, 1000.0)},
}
"""The values tried, by model and setting."""


@dataclass(frozen=True)
class Tuning:
    """What was tried and what was best."""

    settings: dict[str, Any]
    """The best settings, for the model's constructor."""
    tried: pl.DataFrame
    """One row per combination with its value of the metric, the best first."""


def tune_floor(
    name: str,
    train: Log,
    validation: Log,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    metric: str = "mrr",
    config: EvaluationConfig | None = None,
    queries: int | None = 10_000,
    progress: bool = True,
) -> Tuning:
    """Fit a floor with every combination of a grid, and keep what does best on validation.

    Args:
        name: item_knn or ease, or another solved model with a `grid`.
        train: what to fit on.
        validation: what to choose by; its corpus competes.
        grid: values to try by setting; `GRIDS[name]` without it.
        metric: a name in `Evaluation.metrics`.
        config: how to evaluate.
        queries: at most so many validation queries are ranked, a fixed random choice.
        progress: show a progress bar.

    Raises:
        ConfigError: no such model or metric, no grid for the model, or a value out of range.
    """
    kind = MODELS.get(name)
    grid = grid or GRIDS.get(name)
    if kind is None or not issubclass(kind, SolvedModel) or not grid:
        raise ConfigError(f"tune_floor: {name!r} has no grid; there are {', '.join(GRIDS)}")
    rows = []
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    with progress_bar(f"Tuning {name}", len(combinations), "fits", shown=progress) as bar:
        for settings in combinations:
            model = kind(**settings)
            model.solve(train)
            result = evaluate(model, validation, config=config, queries=queries, progress=False)
            if metric not in result.metrics:
                known = ", ".join(result.metrics)
                raise ConfigError(f"tune_floor: no metric {metric!r}; there are {known}")
            rows.append({**settings, metric: result.metrics[metric]})
            bar.advance()
    tried = pl.DataFrame(rows).sort(metric, descending=True, maintain_order=True)
    best = tried.row(0, named=True)
    return Tuning({name: best[name] for name in grid}, tried)
