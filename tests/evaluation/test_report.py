import datetime
import html.parser
import json
import re

import numpy as np
import polars as pl
import pytest

from dualtower.data.dataset import Log
from dualtower.errors import DataError
from dualtower.evaluation.evaluate import Evaluation, evaluate
from dualtower.evaluation.plots import TrainingCurve
from dualtower.evaluation.report import write_report
from dualtower.evaluation.significance import paired_bootstrap
from tests.evaluation.slow import GivenScores
from tests.helpers import leave_last_out_by_hand, tiny_dataset


@pytest.fixture(scope="module")
def log() -> Log:
    logs = [[1, 2, 3 + row % 4] for row in range(20)]
    categories = ["food", "drink", "food", "drink", "paper", "<b>"]
    return leave_last_out_by_hand(tiny_dataset(logs, categories=categories)).test


@pytest.fixture(scope="module")
def evaluations(log: Log) -> dict[str, Evaluation]:
    result = {}
    for seed, name in enumerate(("dat", "popularity & co")):
        scores = np.random.default_rng(seed).standard_normal((21, 7)).astype(np.float32)
        result[name] = evaluate(GivenScores(scores), log, progress=False)
    return result


@pytest.fixture(scope="module")
def page(log, evaluations, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path,
        title="Baskets <1>",
        log=log,
        evaluations=evaluations,
        main="dat",
        curves=[TrainingCurve("dat", range(1, 4), [3.0, 2.0, 1.5], [0.1, 0.2, 0.25])],
        recommendations=pl.DataFrame(
            {"name": ["Soap & <i>water</i>"], "day": [datetime.date(2024, 1, 2)], "score": [0.5]}
        ),
        facts={"data": "made up", "seconds": 12.34567, "households": 2461},
    )
    return path


class _Outline(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.addresses += [values[name] for name in ("src", "srcset", "href") if name in values]
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    outline = _Outline()
    outline.feed(text)
    assert outline.open == []
    # Three plots, each for a light and a dark page.
    assert len(outline.addresses) == 6
    assert all(address.startswith("data:image/svg+xml;base64,") for address in outline.addresses)
    assert not re.search(r"url\(|@import|<script", text)


def test_what_users_named_is_escaped(page):
    text = page.read_text(encoding="utf-8")
    assert "Baskets &lt;1&gt;" in text
    assert "popularity &amp; co" in text
    assert "Soap &amp; &lt;i&gt;water" in text


def test_the_figures_are_in_the_page_and_the_json(page, evaluations, log):
    content = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    for name, evaluation in evaluations.items():
        mean = evaluation.metrics["mrr"]
        assert content["comparison"][name]["mrr"]["mean"] == pytest.approx(mean)
        assert content["evaluations"][name]["metrics"] == evaluation.metrics
        assert f"{mean:.4f}" in text
    test = content["comparison"]["popularity & co"]["mrr"]["main_less_this"]
    difference = evaluations["dat"].metrics["mrr"] - evaluations["popularity & co"].metrics["mrr"]
    assert test["difference"] == pytest.approx(difference)
    # The command line's verdicts are by the same call, so both give one interval.
    verdict = paired_bootstrap(evaluations["dat"], evaluations["popularity & co"], "mrr")
    assert (test["low"], test["high"], test["p_value"]) == pytest.approx(
        (verdict.low, verdict.high, verdict.p_value)
    )
    assert content["training"][0]["loss"] == [3.0, 2.0, 1.5]
    assert content["facts"] == {"data": "made up", "seconds": 12.34567, "households": 2461}
    assert all(f"<td>{shown}</td>" in text for shown in ("12.35", "2,461"))
    assert content["recommendations"][0]["day"] == "2024-01-02"
    # Items 1 and 2 have twenty training events each and were seen; the targets have none.
    assert content["target_popularity"]["mean"] == 0


def test_only_what_is_given_is_shown(log, evaluations, tmp_path):
    path = tmp_path / "bare.html"
    write_report(path, title="Bare", log=log, evaluations=evaluations, main="dat")
    text = path.read_text(encoding="utf-8")
    assert "<h2>Comparison</h2>" in text
    for heading in ("Training", "Sample recommendations", "The run"):
        assert f"<h2>{heading}</h2>" not in text


def test_an_unknown_main_model_is_refused(log, evaluations, tmp_path):
    with pytest.raises(DataError, match=r"no evaluation of 'ease'; there are dat, popularity & co"):
        write_report(
            tmp_path / "no.html", title="No", log=log, evaluations=evaluations, main="ease"
        )
    assert list(tmp_path.iterdir()) == []
