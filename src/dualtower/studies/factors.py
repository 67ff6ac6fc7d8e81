"""What moves a model: one factor at a time, from a plain list of named variations."""

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from statistics import variance

from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.plots import check_plots
from dualtower.evaluation.results import Results, Run, Value, write_results
from dualtower.evaluation.tables import by_label, mean_and_deviation, refusals_list, value_of
from dualtower.files import write_text
from dualtower.studies.plots import differences_plot
from dualtower.studies.study import Entry, Study, listed, measure
from dualtower.studies.variants import takes_seed

Options = Mapping[str, Mapping[str, Value]]


def _each(setting: str, *values: Value) -> Options:
    return {str(value): {setting: value} for value in values}


def _augmented(form: str, *, query: bool, item: bool) -> Mapping[str, Value]:
    return {
        "model.augmented": form,
        "model.augmented_query": query,
        "model.augmented_item": item,
    }


def _negatives(kind: str, count: int) -> Mapping[str, Value]:
    return {"training.negatives": kind, "training.negative_count": count}


def _cross_entropy(kind: str, count: int, temperature: float) -> Mapping[str, Value]:
    return {
        "training.loss": "binary_cross_entropy",
        "training.temperature": temperature,
        **_negatives(kind, count),
    }


FACTORS: dict[str, Options] = {
    "augmented": {
        "none": {"model.augmented": "none"},
        "leave_out, both": _augmented("leave_out", query=True, item=True),
        "leave_out, a_u alone": _augmented("leave_out", query=True, item=False),
        "leave_out, a_v alone": _augmented("leave_out", query=False, item=True),
        "learned, both": _augmented("learned", query=True, item=True),
        "learned, a_u alone": _augmented("learned", query=True, item=False),
        "learned, a_v alone": _augmented("learned", query=False, item=True),
    },
    "mimic_weight": {
        str(weight): {
            **_augmented("learned", query=True, item=True),
            "model.lambda_u": weight,
            "model.lambda_v": weight,
        }
        for weight in (0.0, 0.1, 0.5, 1.0, 2.0)
    },
    "cal_weight": _each("model.lambda_ca", 0.0, 0.01, 0.03, 0.1, 0.3, 1.0),
    "ca_items": {
        f"{weight} on {items}": {"model.lambda_ca": weight, "model.ca_items": items}
        for weight in (0.1, 1.0)
        for items in ("candidates", "positives")
    },
    "ca_momentum": {
        f"{weight}, momentum {share}": {"model.lambda_ca": weight, "model.ca_momentum": share}
        for weight in (0.1, 1.0)
        for share in (0.0, 0.9, 0.99)
    },
    "augmented_fade": _each("model.augmented_fade", 0.0, 0.3, 0.6, 0.9, 1.0),
    "augmented_dim": _each("model.augmented_dim", 8, 16, 32, 64, 128),
    "loss": {
        "cross entropy, 4 a positive": _cross_entropy("per_positive", 4, 0.1),
        "cross entropy, 4 a positive, temperature 1": _cross_entropy("per_positive", 4, 1.0),
        "cross entropy, 512 shared": _cross_entropy("shared", 512, 0.1),
        "softmax, 4 a positive": _negatives("per_positive", 4),
    },
    "temperature": _each("training.temperature", 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.5, 1.0),
    "negatives": {
        "batch": _negatives("in_batch", 1),
        **{
            f"{count} uniform": _negatives("shared", count)
            for count in (128, 512, 1024, 2048, 4096)
        },
        **{
            f"batch and {count} uniform": _negatives("mixed", count)
            for count in (128, 512, 1024, 2048, 4096)
        },
        **{
            f"batch and 512 uniform, logQ {kind}": {
                **_negatives("mixed", 512),
                "training.logq_correction": kind,
            }
            for kind in ("none", "standard", "refined")
        },
        **{
            f"batch, logQ {kind}": {
                **_negatives("in_batch", 1),
                "training.logq_correction": kind,
            }
            for kind in ("none", "refined")
        },
    },
    "last_relu": _each("model.last_relu", False, True),
    "linear_path": _each("model.linear_path", True, False),
    "normalise": _each("model.normalise", True, False),
    "history": {
        "none": {"model.history": False},
        "none, query id": {"model.history": False, "model.query_id": True},
        **{
            f"length {length}": {"model.history": True, "model.history_length": length}
            for length in (10, 20, 50, 100, 200)
        },
    },
    "history_form": _each("model.history_form", "pools", "mean", "attention"),
    "history_pools": _each("model.history_pools", 1, 2, 4, 8),
    "query_id": _each("model.query_id", False, True),
    "item_init": _each("training.item_init", "random", "co_occurrence"),
    "item_id": _each("model.item_id", True, False),
    "combine": _each("model.combine", "sum", "concatenate"),
    "embedding_dropout": _each("model.embedding_dropout", 0.0, 0.1, 0.2, 0.3, 0.4),
    "history_dropout": _each("model.history_dropout", 0.0, 0.1, 0.2, 0.4),
    "layer_dropout": _each("model.layer_dropout", 0.0, 0.1, 0.3),
    "id_dropout": _each("model.id_dropout", 0.0, 0.01, 0.05, 0.1, 0.2),
    "table_weight_decay": _each("training.table_weight_decay", 0.0, 0.001, 0.01, 0.1),
    "weight_decay": _each("training.weight_decay", 0.0, 0.01, 0.1, 1.0),
    "embedding_dim": _each("model.embedding_dim", 16, 32, 64, 128),
    "output_dim": _each("model.output_dim", 16, 32, 64, 128),
    "hidden_layers": {
        "none": {"model.hidden_dims": ()},
        "128": {"model.hidden_dims": (128,)},
        "256, 128": {"model.hidden_dims": (256, 128)},
        "512, 256, 128": {"model.hidden_dims": (512, 256, 128)},
    },
    "batch_size": _each("training.batch_size", 256, 512, 1024, 2048, 4096),
    "learning_rate": _each("training.learning_rate", 0.001, 0.003, 0.006, 0.01, 0.02),
    "table_learning_rate": _each("training.table_learning_rate", 0.006, 0.02, 0.06, 0.2),
    "precision": _each("training.precision", "float32", "bfloat16"),
    "epochs": _each("training.epochs", 3, 5, 8, 12, 18, 25),
}
"""By factor and variation: the settings that it means, the others staying as configured."""


def factors(
    study: Study,
    say: Callable[[str], None],
    *,
    model: str = "dat",
    names: Sequence[str] = (),
    noise_seeds: Sequence[int] = (),
) -> Results:
    """Vary one factor at a time, and write JSON, Markdown and the plot of the differences.

    Args:
        study: the data, the seeds and where the files go.
        say: is told what is being done, line by line.
        model: what is varied.
        names: of factors; all without.
        noise_seeds: more seeds of the model as configured alone: what they differ by is noise.

    Raises:
        ConfigError: there is no such model or factor, more seeds of a model that has none, or
            matplotlib is not installed.
        DataError: a table is not as it should be, or nothing could run.
    """
    check_plots()
    if unknown := [name for name in names if name not in FACTORS]:
        raise ConfigError(f"--factors: no factor {unknown[0]!r}; there are {', '.join(FACTORS)}")
    if noise_seeds and not takes_seed(model):
        raise ConfigError(f"--noise-seeds: {model} has no seed, so nothing differs by chance")
    entries = [Entry(model, seeds=(*study.seeds, *noise_seeds))]
    entries += [
        Entry(model, f"{name}: {option}", settings)
        for name in (names or FACTORS)
        for option, settings in FACTORS[name].items()
    ]
    measured = measure(study, entries, say)
    if not any(run.label == model for run in measured.runs):
        raise DataError(
            f"factors: {model} as configured could not run, so there is nothing to compare with: "
            f"{measured.refusals[0].reason}"
        )
    command = study.command(
        "study factors",
        f"--model {model}",
        f"--seeds {listed(study.seeds)}",
        *([f"--noise-seeds {listed(noise_seeds)}"] if noise_seeds else []),
        *([f"--factors {','.join(names)}"] if names else []),
        *(["--final"] if study.final else []),
    )
    results = measured.results(study, command)
    write_results(study.results, results)
    metrics = shown_metrics(results)
    rows, noise = differences(results, model, metrics), noise_of(results, model, metrics)
    write_text(study.results.with_suffix(".md"), markdown(results, model))
    write_text(study.results.with_suffix(".svg"), differences_plot(rows, noise, metrics))
    return results


Differences = dict[str, dict[str, tuple[float, list[float]]]]


def shown_metrics(results: Results) -> list[str]:
    """MRR, the middle hit rate, and the MRR of minor categories where there are any."""
    run = results.runs[0]
    hit_rates = [name for name in run.metrics if name.startswith("hit_rate@")]
    minor = ["minor_categories.mrr"] if "minor categories" in run.segments else []
    return ["mrr", hit_rates[len(hit_rates) // 2], *minor]


def differences(results: Results, model: str, metrics: Sequence[str]) -> Differences:
    """By variation and metric: the mean's distance to the model as configured, and every seed's.

    A seed is compared with the same seed of the model as configured.
    """
    rows = by_label(results)
    base = {run.seed: run for run in rows.get(model, [])}
    found: Differences = {}
    for label, runs in rows.items():
        if label == model:
            continue
        of_metric: dict[str, tuple[float, list[float]]] = {}
        for metric in metrics:
            seeds = [
                value - before
                for run in runs
                if run.seed in base
                and (value := value_of(run, metric)) is not None
                and (before := value_of(base[run.seed], metric)) is not None
            ]
            if seeds:
                of_metric[metric] = (sum(seeds) / len(seeds), seeds)
        found[runs[0].variation] = of_metric
    return found


def noise_of(results: Results, model: str, metrics: Sequence[str]) -> dict[str, float]:
    """How large a difference may be by the seeds alone: half its 95% interval, by Student's t.

    The deviation of a run is pooled over all settings that have several seeds, each once, as if
    it were the same for all, and two runs of one seed are taken to be as far apart as any. Where
    no setting has several, there is nothing to say it by, and 0 stands.

    Args:
        results: of the study.
        model: what was varied; it may have more seeds than its variations, of which the one with
            the fewest counts.
        metrics: which.
    """
    from scipy.stats import t

    labels = by_label(results)
    seeds = min((len(runs) for label, runs in labels.items() if label != model), default=1)
    noise: dict[str, float] = {}
    for metric in metrics:
        found: set[frozenset[tuple[int, float]]] = set()
        for runs in labels.values():
            values = [(run.seed, value_of(run, metric)) for run in runs]
            found.add(frozenset((seed, value) for seed, value in values if value is not None))
        once = [group for group in found if not any(group < other for other in found)]
        several = [[value for _, value in group] for group in once if len(group) > 1]
        freedom = sum(len(values) - 1 for values in several)
        squares = sum((len(values) - 1) * variance(values) for values in several)
        half = t.ppf(0.975, freedom) * sqrt(squares / freedom * 2 / seeds) if freedom else 0.0
        noise[metric] = float(half)
    return noise


def markdown(results: Results, model: str) -> str:
    """The differences as a Markdown table; a star marks those beyond the noise."""
    metrics = shown_metrics(results)
    rows, noise = differences(results, model, metrics), noise_of(results, model, metrics)
    configured = _compared(results, model)
    means = [
        mean_and_deviation([value_of(run, metric) or 0.0 for run in configured])[0]
        for metric in metrics
    ]
    lines = [
        f"`{results.command}`",
        "",
        "| variation | " + " | ".join(metrics) + " | fit, s |",
        "| --- |" + " ---: |" * (len(metrics) + 1),
        "| as configured | "
        + " | ".join(f"{mean:.4f}" for mean in means)
        + f" | {_seconds(configured)} |",
        "| noise, ± | " + " | ".join(f"{noise[metric]:.4f}" for metric in metrics) + " | |",
    ]
    labels = {runs[0].variation: runs for runs in by_label(results).values()}
    for variation, of_metric in rows.items():
        cells = []
        for metric in metrics:
            found = of_metric.get(metric)
            star = " *" if found and abs(found[0]) > noise[metric] > 0 else ""
            cells.append(f"{found[0]:+.4f}{star}" if found else "–")
        lines.append(
            f"| {variation} | " + " | ".join(cells) + f" | {_seconds(labels[variation])} |"
        )
    if results.refusals:
        lines += ["", "Could not run:", "", refusals_list(results)]
    return "\n".join(lines) + "\n"


def _compared(results: Results, model: str) -> list[Run]:
    """The runs of the model as configured that some variation is compared with."""
    seeds = {run.seed for run in results.runs if run.label != model}
    runs = by_label(results)[model]
    return [run for run in runs if run.seed in seeds] or runs


def _seconds(runs: Sequence[Run]) -> str:
    return f"{sum(run.seconds for run in runs) / len(runs):.0f}"
