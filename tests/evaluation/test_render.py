from pathlib import Path

import pytest

from dualtower.errors import DataError
from dualtower.evaluation.render import main, pages, rendered
from dualtower.evaluation.results import write_results
from tests.evaluation.test_results import MEASURED, results_of, run_of

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path):
    write_results(tmp_path / "results" / "beauty.json", results_of(run_of("dat", 0, 0.2)))
    write_results(tmp_path / "results" / "speed.json", MEASURED)
    return tmp_path


@pytest.mark.parametrize("page", pages([ROOT / "README.md", ROOT / "docs"]), ids=lambda p: p.name)
def test_committed_pages_are_as_the_results_have_it(page):
    assert rendered(page, ROOT / "results") == page.read_text(encoding="utf-8"), (
        "run: python -m dualtower.evaluation.render README.md docs"
    )


def test_tables_are_written_between_the_markers(folder):
    page = folder / "page.md"
    page.write_text(
        "# Before\n<!-- results:beauty mrr -->\nold\n<!-- /results -->\nbetween\n"
        "<!-- results:speed way rows -->\n<!-- /results -->\nafter\n",
        encoding="utf-8",
    )
    arguments = [str(folder), "--results", str(folder / "results")]
    assert main(arguments) == 0
    expected = (
        "# Before\n<!-- results:beauty mrr -->\n"
        "| model | mrr | seeds | fit, s | peak MB |\n| --- | ---: | ---: | ---: | ---: |\n"
        "| dat | 0.0500 | 1 | 100 | 1,200 |\n<!-- /results -->\nbetween\n"
        "<!-- results:speed way rows -->\n| way | rows |\n| --- | ---: |\n"
        "| ours | 20,000,000 |\n| b | 3 |\n<!-- /results -->\nafter\n"
    )
    assert page.read_text(encoding="utf-8") == expected
    assert main(arguments) == 0
    assert page.read_text(encoding="utf-8") == expected


@pytest.mark.parametrize(
    "text",
    [
        "<!-- results:beauty -->\n",
        "<!-- /results -->\n",
        "<!-- results:beauty -->\n<!-- results:beauty -->\n<!-- /results -->\n<!-- /results -->\n",
        "<!-- results: -->\n<!-- /results -->\n",
    ],
)
def test_a_marker_without_partner_is_refused(folder, text):
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"page\.md: a results marker has no partner"):
        rendered(page, folder / "results")


def test_a_table_of_some_models_leaves_the_others_out(folder):
    both = results_of(run_of("dat", 0, 0.2), run_of("ease", 0, 0.1))
    write_results(folder / "results" / "both.json", both)
    page = folder / "page.md"
    page.write_text("<!-- results:both models=ease mrr -->\n<!-- /results -->\n", encoding="utf-8")
    text = rendered(page, folder / "results")
    assert "| ease |" in text
    assert "| dat |" not in text


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        ("beauty models=dat,ease", "models= names ease, which these results do not have"),
        ("speed models=ease", "a benchmark's results have no models to choose"),
    ],
)
def test_models_that_the_results_lack_are_named(folder, marker, reason):
    page = folder / "page.md"
    page.write_text(f"<!-- results:{marker} -->\n<!-- /results -->\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"page\.md: results:\w+: {reason}"):
        rendered(page, folder / "results")


def test_errors_end_the_command_in_plain_words(folder, capsys):
    (folder / "page.md").write_text("<!-- results:gone -->\n<!-- /results -->", encoding="utf-8")
    assert main([str(folder / "page.md"), "--results", str(folder / "results")]) == 1
    assert "gone.json: no such results file" in capsys.readouterr().err
    assert main([str(folder / "nowhere")]) == 1
    assert "nowhere: no such file or folder" in capsys.readouterr().err
