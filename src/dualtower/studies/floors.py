"""Floors tuned on validation before they are compared: a baseline left untuned proves nothing."""

from collections.abc import Mapping
from typing import Any

from dualtower.config import EvaluationConfig
from dualtower.data.dataset import Split
from dualtower.errors import DataError
from dualtower.evaluation.evaluate import validation_metric
from dualtower.models import SOLVED
from dualtower.models.base import SolvedModel
from dualtower.progress import progress_bar

_GRIDS: dict[str, list[dict[str, Any]]] = {
    "item_knn": [
        {"neighbours": neighbours, "shrinkage": shrinkage, "decay": decay}
        for neighbours in (200, 800)
        for shrinkage in (0.0, 10.0)
        for decay in (1.0, 0.95, 0.8, 0.6, 0.4)
    ],
    "ease": [{"regularization": weight} for weight in (30.0, 100.0, 300.0, 1000.0)],
    "wals": [
        {"regularization": weight, "alpha": alpha, "iterations": iterations}
        for weight in (1.0, 10.0)
        for alpha in (1.0, 3.0, 10.0, 30.0, 100.0)
        for iterations in (5, 15)
    ],
}


def tuned_settings(
    name: str, split: Split, *, config: EvaluationConfig | None = None, queries: int = 2_000
) -> dict[str, Any]:
    """The settings of a floor with the best MRR on validation, from a small grid.

    Args:
        name: of a floor; one without settings gives an empty dict, and so does a split without
            validation: then the floor's defaults apply.
        split: fitted on `train`, measured on `validation`; the test is never looked at.
        config: whether seen items are left out of the ranking.
        queries: how many validation queries are ranked (a fixed random choice).

    Raises:
        DataError: validation has no target to rank, or the floor refuses the corpus with every
            setting of the grid.
    """
    grid = _GRIDS.get(name, [])
    if not grid or split.validation.event_count == 0:
        return {}
    best: tuple[float, dict[str, Any]] | None = None
    refused: DataError | None = None
    solved: SolvedModel | None = None
    with progress_bar(f"Tuning {name}", len(grid), "settings") as bar:
        for settings in grid:
            model = floor(name, settings)
            if solved and solved.space and _same_solution(solved, model):
                model = model.from_state(model.config.model_dump(), solved.space, solved.state())
            else:
                try:
                    model.solve(split.train)
                except DataError as error:
                    refused = error
                    bar.advance()
                    continue
                solved = model
            quality = validation_metric(
                model, split.validation, "mrr", config=config, queries=queries
            )
            if best is None or quality > best[0]:
                best = quality, settings
            bar.advance(note=f"best mrr {best[0]:.4f}")
    if best is None:
        assert refused is not None
        raise refused
    return best[1]


def floor(name: str, settings: Mapping[str, Any]) -> SolvedModel:
    """The floor `name` with these settings, not yet solved.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    return SOLVED[name](**settings)


def has_seed(name: str) -> bool:
    """Whether the floor `name` starts from random values, as a solver that alternates does."""
    return "seed" in type(floor(name, {}).config).model_fields


def _same_solution(first: SolvedModel, second: SolvedModel) -> bool:
    """Whether the two differ at most in what only scoring reads."""
    ours, theirs = (model.config.model_dump(exclude={"decay"}) for model in (first, second))
    return ours == theirs
