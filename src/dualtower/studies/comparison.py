"""Several models on one test: who is better, by how much, and whether that could be chance."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dualtower.config import EvaluationConfig
from dualtower.data.dataset import Log
from dualtower.evaluation.evaluate import Evaluation, evaluate
from dualtower.evaluation.significance import Comparison, paired_bootstrap
from dualtower.models.base import Model


@dataclass(frozen=True)
class Difference:
    """What the model in question has over one baseline in one metric."""

    model: str
    baseline: str
    comparison: Comparison
    """The difference on the same queries, with its 95% interval."""

    @property
    def verdict(self) -> str:
        """In plain words: better, worse, or not to be told apart."""
        found = self.comparison
        interval = f"{found.difference:+.4f}, 95% interval {found.low:+.4f} to {found.high:+.4f}"
        if found.low > 0:
            words = f"{self.model} beats {self.baseline}"
        elif found.high < 0:
            words = f"{self.model} is worse than {self.baseline}"
        else:
            words = f"{self.model} does not beat {self.baseline}: they cannot be told apart"
        return f"{words} in {found.metric} ({interval})"

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, the verdict included."""
        return {
            "model": self.model,
            "baseline": self.baseline,
            **asdict(self.comparison),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Standing:
    """Evaluations by model name, the one in question first, and its distance to each other."""

    evaluations: dict[str, Evaluation]
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "models": {name: found.to_dict() for name, found in self.evaluations.items()},
            "differences": [difference.to_dict() for difference in self.differences],
        }


def standing(
    models: Mapping[str, Model],
    log: Log,
    *,
    config: EvaluationConfig | None = None,
    progress: bool = True,
) -> Standing:
    """Evaluate every model on the targets of `log` and compare the first with each other one.

    Args:
        models: fitted models by the name to show; the first is the one in question.
        log: a view that none of them was fitted on.
        config: cutoffs and whether seen items are left out.
        progress: show progress bars.

    Raises:
        DataError: the log has no target that could be recommended.
    """
    config = config or EvaluationConfig()
    evaluations = {
        name: evaluate(model, log, config=config, progress=progress)
        for name, model in models.items()
    }
    main, *others = evaluations
    metrics = ("mrr", f"hit_rate@{main_cutoff(config)}")
    differences = [
        Difference(main, other, paired_bootstrap(evaluations[main], evaluations[other], metric))
        for other in others
        for metric in metrics
    ]
    return Standing(evaluations, tuple(differences))


def main_cutoff(config: EvaluationConfig) -> int:
    """The cutoff at which hit rates are compared: the middle one."""
    cutoffs = sorted(set(config.cutoffs))
    return cutoffs[len(cutoffs) // 2]
