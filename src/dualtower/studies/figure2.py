"""Figure 2: DAT over the length of its augmented vectors, with the two-tower model to beat."""

from collections.abc import Callable, Sequence

from dualtower.errors import ConfigError
from dualtower.evaluation.plots import check_plots
from dualtower.evaluation.results import Results, Run, write_results
from dualtower.evaluation.tables import refusals_list, results_table
from dualtower.files import write_text
from dualtower.studies.plots import curves_plot
from dualtower.studies.study import Entry, Study, listed, measure

FORMS = ("leave_out", "learned")
LEVEL = "two_tower"


def figure2(
    study: Study,
    dims: Sequence[int],
    say: Callable[[str], None],
    *,
    forms: Sequence[str] = FORMS,
) -> Results:
    """Fit and measure DAT with every length and form, and write JSON, Markdown and the plot.

    Args:
        study: the data, the seeds and where the files go.
        dims: lengths of a_u and a_v.
        say: is told what is being done, line by line.
        forms: `leave_out`, `learned` or both.

    Raises:
        ConfigError: no or an unknown form, no length or one that is out of range, or matplotlib is
            not installed.
        DataError: a table is not as it should be, or nothing could run.
    """
    check_plots()
    unknown = [form for form in forms if form not in FORMS]
    if unknown or not forms or not dims or min(dims) < 1:
        raise ConfigError(
            f"figure2: forms {', '.join(forms) or 'none'} and dims "
            f"{', '.join(str(dim) for dim in dims) or 'none'} given; name forms of "
            f"{', '.join(FORMS)} and dims from 1"
        )
    entries = [Entry(LEVEL)]
    entries += [
        Entry(
            "dat",
            f"{form}, {dim}",
            {
                "model.augmented": form,
                "model.augmented_query": True,
                "model.augmented_item": True,
                "model.augmented_dim": dim,
            },
        )
        for form in forms
        for dim in dims
    ]
    measured = measure(study, entries, say)
    command = study.command(
        "study figure2",
        f"--dims {listed(dims)}",
        f"--seeds {listed(study.seeds)}",
        *([f"--forms {','.join(forms)}"] if tuple(forms) != FORMS else []),
        *([] if study.final else ["--validation"]),
    )
    results = measured.results(study, command)
    write_results(study.results, results)
    metrics = [largest_hit_rate(results.runs[0]), "mrr"]
    text = [results_table(results), *([refusals_list(results)] if results.refusals else [])]
    write_text(study.results.with_suffix(".md"), "\n\n".join(text) + "\n")
    curves: dict[str, dict[int, list[Run]]] = {}
    for run in results.runs:
        if run.variation:
            form, dim = run.variation.split(", ")
            curves.setdefault(f"dat, {form}", {}).setdefault(int(dim), []).append(run)
    level = [run for run in results.runs if run.model == LEVEL]
    plot = curves_plot(curves, level, LEVEL, metrics, "length of the augmented vectors")
    write_text(study.results.with_suffix(".svg"), plot)
    return results


def largest_hit_rate(run: Run) -> str:
    """The hit rate of a run at its largest cutoff."""
    hit_rates = [name for name in run.metrics if name.startswith("hit_rate@")]
    return max(hit_rates, key=lambda name: int(name.partition("@")[2]))
