"""Tables of Markdown pages, written from results files between markers.

A page says `<!-- results:NAME -->`, or `<!-- results:NAME hit_rate@10 mrr -->` for columns of its
own, and `<!-- /results -->`; what stands between the two is replaced. With `segments` as the first
column it is the table by segment (of the MRR, or of the metric named next), with `tests` that of
the paired tests (of all metrics, or of those named next). `models=dat,ease` before the columns
leaves only these models' rows.

    python -m dualtower.evaluation.render README.md docs
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from dualtower.errors import DataError, DualtowerError
from dualtower.evaluation.results import Measurements, Results, read_results
from dualtower.evaluation.tables import paired_tests_table, results_table, segments_table
from dualtower.files import write_text

_MARKED = re.compile(
    r"(?P<opening><!-- results:(?P<name>[\w.-]+)"
    r"(?P<models> models=[\w,]+)?(?P<columns>(?: [\w@.]+)*) -->\n)"
    r"(?P<table>.*?)(?P<closing><!-- /results -->)",
    re.DOTALL,
)
_ANY_MARKER = re.compile(r"<!-- /?results\b")


def rendered(page: Path, folder: Path) -> str:
    """The page's text with every table as the results files in `folder` have it.

    Raises:
        DataError: a marker without its partner, or a results file that is missing or damaged.
    """
    text = page.read_text(encoding="utf-8")

    def table(match: re.Match[str]) -> str:
        results = read_results(folder / f"{match['name']}.json")
        if match["models"] is not None:
            names = match["models"].partition("=")[2].split(",")
            results = _of_models(results, names, f"{page}: results:{match['name']}")
        columns = match["columns"].split()
        return f"{match['opening']}{_table(results, columns)}\n{match['closing']}"

    pairs = list(_MARKED.finditer(text))
    whole = all(len(_ANY_MARKER.findall(pair.group())) == 2 for pair in pairs)
    if not whole or len(_ANY_MARKER.findall(text)) != 2 * len(pairs):
        raise DataError(
            f"{page}: a results marker has no partner; a table stands between "
            "'<!-- results:NAME -->' and '<!-- /results -->', each on a line of its own"
        )
    return _MARKED.sub(table, text)


def _of_models(results: Results | Measurements, names: Sequence[str], where: str) -> Results:
    if not isinstance(results, Results):
        raise DataError(f"{where}: a benchmark's results have no models to choose; drop models=")
    runs = tuple(run for run in results.runs if run.model in names)
    if absent := set(names) - {run.model for run in runs}:
        raise DataError(
            f"{where}: models= names {', '.join(sorted(absent))}, which these results do not have"
        )
    labels = {run.label for run in runs}
    tests = tuple(test for test in results.tests if test.other in labels)
    return results.model_copy(update={"runs": runs, "tests": tests})


def _table(results: Results | Measurements, columns: list[str]) -> str:
    if columns and isinstance(results, Results):
        if columns[0] == "segments":
            return segments_table(results, *columns[1:2])
        if columns[0] == "tests":
            return paired_tests_table(results, columns[1:])
    return results_table(results, columns)


def pages(paths: Iterable[Path]) -> list[Path]:
    """The Markdown files among `paths` and in the folders among them, in order.

    Raises:
        DataError: one of them does not exist.
    """
    found = []
    for path in paths:
        if path.is_dir():
            found += sorted(path.rglob("*.md"))
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the pages named on the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dualtower.evaluation.render")
    parser.add_argument("pages", nargs="+", type=Path, help="Markdown files and folders of them")
    parser.add_argument("--results", type=Path, default=Path("results"), help="their folder")
    options = parser.parse_args(arguments)
    try:
        for page in pages(options.pages):
            text = rendered(page, options.results)
            if text != page.read_text(encoding="utf-8"):
                write_text(page, text)
                print(f"{page}: tables rewritten")
    except DualtowerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
