import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from dualtower import models
from dualtower.retrieval.bundle import Bundle
from dualtower.serving.ranking import Ranking
from dualtower.serving.store import open_store
from tests.helpers import tiny_dataset
from tests.retrieval.vectors import SumOfHistory
from tests.serving.bundles import dat_bundle
from tests.serving.clients import local_client
from tests.serving.page.served import TOKEN, make, two_arms

READS = ("/about", "/queries", "/history?query_id=q1", "/candidates?query_id=q1")


@pytest.fixture(autouse=True)
def known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "sum_of_history", SumOfHistory)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with local_client(make(tmp_path)) as client:
        yield client


def click(client: TestClient, query: str, item: str, **fields: Any) -> None:
    event = {"event_id": f"{query}/{item}", "query_id": query, "item_id": item, "timestamp": 1}
    assert client.post("/events", json={"events": [{**event, **fields}]}).json() == {"new": [True]}


def test_what_is_served(client: TestClient) -> None:
    assert client.get("/about").json() == {
        "arms": [{"arm": None, "model": "sum_of_history", "corpus": 5}],
        "experiment": None,
        "days": None,
        "ranker": False,
        "events": True,
        "max_n": 50,
    }


def test_whether_a_ranker_is_behind_it(tmp_path: Path) -> None:
    server = make(tmp_path)
    server.ranking = Ranking(lambda task: -task.scores, 1.0)
    with local_client(server) as client:
        assert client.get("/about").json()["ranker"] is True


def test_some_queries_with_a_history(client: TestClient) -> None:
    assert client.get("/queries").json() == {"queries": ["q1", "q2", "q4"]}
    assert client.get("/queries?limit=1").json() == {"queries": ["q1"]}


def test_the_history_is_the_latest_first_with_the_events_since(client: TestClient) -> None:
    click(client, "q2", "i2")
    answer = client.get("/history?query_id=q2").json()
    assert (answer["query_id"], answer["stored"], answer["live"]) == ("q2", 2, 1)
    assert answer["events"] == [
        {"item": "i2", "category": "tea", "live": True},
        {"item": "i1", "category": "tea", "live": False},
        {"item": "i4", "category": "cake", "live": False},
    ]
    cut = client.get("/history?query_id=q2&limit=2").json()["events"]
    assert [event["item"] for event in cut] == ["i2", "i1"]
    assert client.get("/history?query_id=q2&limit=1").json()["events"] == answer["events"][:1]


def test_the_history_of_a_new_query(client: TestClient) -> None:
    assert client.get("/history?query_id=a/b").json()["events"] == []
    click(client, "a/b", "i5")
    answer = client.get("/history?query_id=a/b").json()
    assert answer["events"] == [{"item": "i5", "category": None, "live": True}]
    assert (answer["stored"], answer["live"]) == (0, 1)


def test_the_candidates_react_to_an_event(client: TestClient) -> None:
    asked = "/candidates?query_id=q1&n=3"
    (arm,) = client.get(asked).json()["arms"]
    assert arm["items"] == ["i2", "i3", "i4"]
    assert arm["categories"] == ["tea", "cake", "cake"]
    np.testing.assert_allclose(arm["scores"], [0.8, 0.6, 0], atol=1e-6)
    assert (arm["arm"], arm["model"], arm["answers"]) == (None, "sum_of_history", True)
    click(client, "q1", "i4")
    # i1 + i4 point to 45 degrees, as far from i2 (37) as from i3 (53); i5 is at 127.
    (arm,) = client.get(asked).json()["arms"]
    assert arm["items"] == ["i2", "i3", "i5"]
    assert arm["categories"] == ["tea", "cake", None]


def test_the_candidates_of_every_arm_without_an_exposure(tmp_path: Path) -> None:
    experiment = two_arms(tmp_path)
    with local_client(make(tmp_path, experiment)) as client:
        for query in ("q1", "q2", "q4", "new"):
            arms = client.get(f"/candidates?query_id={query}&n=2").json()["arms"]
            assert [arm["arm"] for arm in arms] == ["plane", "turned"]
            answers = [arm["arm"] for arm in arms if arm["answers"]]
            assert answers == [experiment.arm_of(query).name]
        first, second = client.get("/candidates?query_id=q1&n=2").json()["arms"]
        assert (first["items"], second["items"]) == (["i2", "i3"], ["i5", "i4"])
        about = client.get("/about").json()
        assert (about["experiment"], about["days"], len(about["arms"])) == ("test", 7, 2)
    assert list(open_store(tmp_path / "events.db").replay()) == []


def test_ids_that_numbers_of_a_browser_cannot_hold(tmp_path: Path) -> None:
    large = 2**60 + 1
    dataset = tiny_dataset(
        [[1], [2]],
        query_ids=pl.Series([large, large + 1]),
        item_ids=pl.Series([large + 2, large + 3]),
    )
    vectors = np.array([[0, 0], [1, 0], [0, 1]])
    bundle = Bundle.build(SumOfHistory.of(dataset.space(), vectors), dataset, progress=False)
    bundle.save(tmp_path / "bundle")
    with local_client(make(tmp_path)) as client:
        assert client.get("/queries").json() == {"queries": [str(large), str(large + 1)]}
        path = f"query_id={large}"
        (arm,) = client.get(f"/candidates?{path}").json()["arms"]
        assert arm["items"] == [str(large + 3)]
        click(client, str(large), arm["items"][0])
        events = client.get(f"/history?{path}").json()["events"]
        assert [event["item"] for event in events] == [str(large + 3), str(large + 2)]
        assert client.get(f"/candidates?{path}").json()["arms"][0]["items"] == []


def test_a_new_item_is_in_the_history_and_among_the_candidates(tmp_path: Path) -> None:
    dat_bundle().save(tmp_path / "bundle")
    with local_client(make(tmp_path)) as client:
        click(client, "q1", "brand new")
        answer = client.get("/history?query_id=q1&limit=1").json()
        assert answer["events"] == [{"item": "brand new", "category": None, "live": True}]
        assert (answer["stored"], answer["live"]) == (6, 1)
        (arm,) = client.get("/candidates?query_id=q2&n=50").json()["arms"]
        assert arm["model"] == "dat"
        assert "brand new" in arm["items"]
        (arm,) = client.get("/candidates?query_id=q1&n=50").json()["arms"]
        assert "brand new" not in arm["items"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/queries?limit=0", "limit: '0' given; it should be 1 to 1000"),
        ("/queries?limit=x", "limit: 'x' given"),
        ("/history", "query_id: missing"),
        ("/history?query_id=", "query_id: 0 characters"),
        ("/history?query_id=a%00b", "without the character 0"),
        ("/history?query_id=a&limit=51", "limit: '51' given; it should be 1 to 50"),
        ("/candidates?n=3", "query_id: missing"),
        ("/candidates?query_id=q1&n=51", "n: '51' given; it should be 1 to 50"),
        ("/candidates?query_id=" + "x" * 1001, "query_id: 1001 characters"),
        ("/experiment/chart", "chart: no experiment runs"),
    ],
)
def test_refusals_in_plain_words(client: TestClient, path: str, message: str) -> None:
    reply = client.get(path)
    assert reply.status_code == 422
    assert message in reply.json()["error"]


def test_the_token_guards_the_reads_and_the_page_is_open(tmp_path: Path) -> None:
    with local_client(make(tmp_path, token=SecretStr(TOKEN))) as client:
        for path in (*READS, "/experiment/chart"):
            assert client.get(path).status_code == 401
        headers = {"authorization": f"Bearer {TOKEN}"}
        for path in READS:
            assert client.get(path, headers=headers).status_code == 200
        assert client.get("/").status_code == 200


def test_the_chart(tmp_path: Path) -> None:
    experiment = two_arms(tmp_path)
    with local_client(make(tmp_path, experiment)) as client:
        assert "the store holds none yet" in client.get("/experiment/chart").json()["error"]
        for number in range(24):
            query = f"user {number}"
            shown = client.post("/recommend", json={"query_id": query, "n": 2}).json()
            if number % 3 == 2:  # the last too: what is acknowledged was written behind all others
                named = {"experiment": "test", "arm": shown["arm"]}
                click(client, query, shown["items"][0], timestamp=time.time(), **named)
        answer = client.get("/experiment/chart").json()
    (chart,) = answer["charts"]
    assert chart["arm"] == "turned"
    assert chart["svg"].lstrip().startswith(("<?xml", "<svg"))
    assert any("turned against plane" in line for line in answer["verdicts"])
    assert any("queries" in note for note in answer["notes"])
    titles, *rows = answer["guardrails"]
    assert titles[:3] == ["arm", "queries", "requests"]
    assert [row[0] for row in rows] == ["plane", "turned"]
    assert sum(int(row[2]) for row in rows) == 24


def test_no_chart_without_events(tmp_path: Path) -> None:
    with local_client(make(tmp_path, two_arms(tmp_path), events=False)) as client:
        assert "keeps no events" in client.get("/experiment/chart").json()["error"]
        assert client.get("/about").json()["events"] is False
        assert len(client.get("/candidates?query_id=q1").json()["arms"]) == 2
