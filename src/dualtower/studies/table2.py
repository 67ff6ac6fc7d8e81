"""Table 2: every model on one protocol, and whether DAT is better than each by more than chance."""

from collections.abc import Callable, Sequence

from dualtower.evaluation.plots import check_plots
from dualtower.evaluation.results import PairedTest, Results, write_results
from dualtower.evaluation.tables import (
    by_label,
    mean_and_deviation,
    paired_tests_table,
    refusals_list,
    results_table,
    segments_table,
)
from dualtower.files import write_text
from dualtower.studies.plots import models_plot
from dualtower.studies.study import Entry, Measured, Study, listed, measure, paired_test
from dualtower.studies.variants import base_of

MAIN = "dat"
"""The model in question, where the study has it; else its first one."""


def table2(study: Study, models: Sequence[str], say: Callable[[str], None]) -> Results:
    """Fit and measure every model with every seed, and write JSON, Markdown and a plot.

    A model that cannot run stands in `refusals` with its reason. The paired tests average each
    query's values over the seeds and draw queries, so they say how sure the difference of these
    fits is on other queries of the kind; the spread over seeds stands beside the means.

    Args:
        study: the data, the seeds and where the files go.
        models: names of models and variants, in the order of the table.
        say: is told what is being done, line by line.

    Raises:
        ConfigError: no model or an unknown one, or matplotlib is not installed.
        DataError: a table is not as it should be, or not one model could run.
    """
    check_plots()
    measured = measure(study, [Entry(name) for name in dict.fromkeys(models)], say)
    command = study.command(
        "study table2",
        f"--models {','.join(models)}",
        f"--seeds {listed(study.seeds)}",
        *([] if study.final else ["--validation"]),
    )
    results = measured.results(study, command)
    main = MAIN if MAIN in by_label(results) else results.runs[0].label
    shown = columns(results)
    tests = paired_tests(measured, results, main, [name for name in shown if name != "mrr_x10"])
    results = results.model_copy(update={"tests": tests})
    write_results(study.results, results)
    write_text(study.results.with_suffix(".md"), markdown(results))
    panels = ["mrr", *(name for name in shown if not name.startswith("mrr"))]
    write_text(study.results.with_suffix(".svg"), models_plot(results, panels, main))
    return results


def columns(results: Results) -> list[str]:
    """The table's figures: hit rates, MRR and ten times it, as the paper prints it; with several
    targets a query also recall and NDCG at the smallest cutoff.
    """
    metrics = results.runs[0].metrics
    hit_rates = [name for name in metrics if name.startswith("hit_rate@")]
    cutoff = min(int(name.partition("@")[2]) for name in hit_rates)
    several = any(
        run.metrics[f"recall@{cutoff}"] != run.metrics[f"hit_rate@{cutoff}"] for run in results.runs
    )
    more = [f"recall@{cutoff}", f"ndcg@{cutoff}"] if several else []
    return [*hit_rates, "mrr", "mrr_x10", *more]


def paired_tests(
    measured: Measured, results: Results, main: str, metrics: Sequence[str]
) -> tuple[PairedTest, ...]:
    """The model in question against every other, in each metric.

    The best other is sought among what is not a variant of the same model, if there is any.
    """
    rows = by_label(results)
    others = [label for label in rows if label != main]
    rivals = [
        label for label in others if base_of(rows[label][0].model) != base_of(rows[main][0].model)
    ]
    tests = []
    for metric in metrics:
        means = {
            label: mean_and_deviation([run.metrics[metric] for run in rows[label]])[0]
            for label in others
        }
        best = max(rivals or others, key=means.__getitem__, default=None)
        for label in others:
            ours, theirs = (measured.values[name][metric] for name in (main, label))
            test = paired_test(main, label, metric, ours, theirs)
            tests.append(test.model_copy(update={"best_other": label == best}))
    return tuple(tests)


def markdown(results: Results) -> str:
    """All tables of the study as one Markdown text."""
    parts = [
        f"`{results.command}`",
        results.protocol[0].upper() + results.protocol[1:] + ".",
        results_table(results, columns(results)),
    ]
    if results.tests:
        parts.append(paired_tests_table(results))
    if results.runs[0].segments:
        hit_rate = [name for name in results.runs[0].metrics if name.startswith("hit_rate@")][-1]
        parts += [segments_table(results), segments_table(results, hit_rate)]
    if results.refusals:
        parts += ["Could not run:", refusals_list(results)]
    return "\n\n".join(parts) + "\n"
