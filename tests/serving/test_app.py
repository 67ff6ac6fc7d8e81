import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from dualtower import models
from dualtower.experiments.assignment import Arm, Experiment
from dualtower.serving import deck as decks
from dualtower.serving.engine import Engine
from dualtower.serving.http import MISTAKE
from dualtower.serving.server import Server, open_deck
from dualtower.serving.settings import ServeConfig
from dualtower.serving.store import open_store
from tests.retrieval.vectors import SumOfHistory
from tests.serving.bundles import save_plane
from tests.serving.clients import local_client, make_server

TOKEN = "a-token-of-sixteen-characters"


@pytest.fixture(autouse=True)
def known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "sum_of_history", SumOfHistory)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with local_client(make_server(tmp_path)) as client:
        yield client


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[TestClient]:
    server = make_server(tmp_path, token=SecretStr(TOKEN))
    headers = {"authorization": f"Bearer {TOKEN}"}
    with local_client(server, headers=headers) as client:
        yield client


def test_recommends(client: TestClient) -> None:
    reply = client.post("/recommend", json={"query_id": "q1", "n": 3})
    assert reply.status_code == 200
    assert reply.json()["items"] == ["i2", "i3", "i4"]
    np.testing.assert_allclose(reply.json()["scores"], [0.8, 0.6, 0], atol=1e-6)
    filtered = {"query_id": "q1", "category": "cake", "exclude": ["i3"]}
    assert client.post("/recommend", json=filtered).json()["items"] == ["i4"]
    quota = {"query_id": "q1", "quota": {"cake": 1, "tea": 1}}
    assert client.post("/recommend", json=quota).json()["items"] == ["i2", "i3"]
    given = {"history": ["i4"], "n": 2}
    assert client.post("/recommend", json=given).json()["items"] == ["i3", "i5"]


def test_recommends_in_batches(client: TestClient) -> None:
    queries = [{"query_id": "q1", "n": 1}, {"query_id": "q2", "n": 1, "exclude_seen": False}]
    reply = client.post("/recommend/batch", json={"queries": queries})
    assert [answer["items"] for answer in reply.json()["answers"]] == [["i2"], ["i2"]]


def test_an_event_shows_in_the_next_answer_and_after_a_restart(tmp_path: Path) -> None:
    event = {"event_id": "e", "query_id": "new", "item_id": "i4", "timestamp": 1}
    asked = {"query_id": "new", "n": 2}
    with local_client(make_server(tmp_path)) as client:
        assert client.post("/recommend", json=asked).json()["items"] == ["i1", "i2"]
        assert client.post("/events", json={"events": [event]}).json() == {"new": [True]}
        assert client.post("/recommend", json=asked).json()["items"] == ["i3", "i5"]
        again = client.post("/events", json={"events": [event, {**event, "event_id": "f"}]})
        assert again.json() == {"new": [False, True]}
    with local_client(make_server(tmp_path)) as client:
        assert client.post("/recommend", json=asked).json()["items"] == ["i3", "i5"]


def test_similar_items(client: TestClient) -> None:
    assert client.get("/similar/i1?n=2").json()["items"] == ["i2", "i3"]
    assert client.get("/similar/what").status_code == 404
    assert "in no corpus and no event" in client.get("/similar/a/b").json()["error"]
    for n in ("0", "101", "x", "²", "9" * 500):
        assert client.get(f"/similar/i1?n={n}").status_code == 422


def test_similar_items_are_those_of_the_querys_arm(tmp_path: Path) -> None:
    turned = np.array([[0, 0], [1, 0], [0, 1], [0, 1], [0.6, 0.8], [1, 0]])
    arms = (
        Arm(name="a", bundle=str(save_plane(tmp_path / "bundle"))),
        Arm(name="b", bundle=str(save_plane(tmp_path / "other", turned))),
    )
    experiment = Experiment(name="test", salt="s", arms=arms)
    nearest = {"a": "i2", "b": "i5"}
    with local_client(make_server(tmp_path, experiment)) as client:
        found = [client.get(f"/similar/i1?n=1&query_id=u{row}").json() for row in range(20)]
        control = client.get("/similar/i1?n=1").json()
        assert client.get("/similar/i1?query_id=").status_code == 422
    assert {answer["arm"] for answer in found} == {"a", "b"}
    for row, answer in enumerate(found):
        assert answer["arm"] == experiment.arm_of(f"u{row}").name
        assert answer["items"] == [nearest[answer["arm"]]]
        assert answer["experiment"] == "test"
    assert (control["arm"], control["items"]) == ("a", ["i2"])


def test_health_readiness_and_metrics(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json() == {"status": "ready"}
    client.post("/recommend", json={"query_id": "q4", "n": 3})
    client.post("/recommend", json={"n": 0})
    event = {"event_id": "e", "query_id": "q1", "item_id": "i2", "timestamp": 1, "kind": "order"}
    client.post("/events", json={"events": [event, event]})
    text = client.get("/metrics").text
    for line in (
        'dualtower_recommend_seconds_bucket{le="+Inf"} 1',
        "dualtower_recommend_seconds_count 1",
        'dualtower_requests_total{route="/recommend",status="200"} 1',
        'dualtower_requests_total{route="/recommend",status="422"} 1',
        'dualtower_index_recall_mean{arm=""} 1.0',
        'dualtower_index_recall_first_percentile{arm=""} 1.0',
        'dualtower_events_total{kind="order",experiment="",arm=""} 1',
        "dualtower_repeated_events_total 1",
        "dualtower_short_answers_total 1",
        'dualtower_live_queries{arm=""} 1',
        'dualtower_new_items{arm=""} 0',
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/recommend", b"{", 422, "not valid JSON"),
        ("/recommend", b"\xff", 422, "not valid JSON"),
        ("/recommend", b"[" * 100_000, 422, "Expected `object`, got `array`"),
        ("/recommend", b'{"exclude":' + b"[" * 100_000, 422, r"got `array` - at `$.exclude"),
        ("/recommend", b'{"features":{"a":' + b"[" * 100_000, 422, r"got `array` - at `$.feat"),
        ("/recommend", b'{"user": 1}', 422, "unknown field `user`"),
        ("/recommend", b'{"n": 101}', 422, "n: 101 items asked for; it should be 1 to 100"),
        ("/recommend", b'{"quota": {"tea": 101}}', 422, "quota: 101 items asked for"),
        ("/recommend", b'{"quota": {"x": 999, "tea": -998}}', 422, "quota: -998 items of 'tea'"),
        ("/recommend", b'{"exclude": [1,2,3,4,5]}', 422, "exclude: 5 ids; at most 4"),
        ("/recommend", b'{"category": "x"}', 422, "category: 'x' is not one of the 2"),
        ("/recommend/batch", b'{"queries": []}', 422, "queries: 0 in one request"),
        ("/recommend/batch", b'{"queries": [{},{},{},{}]}', 422, "it should be 1 to 3"),
        ("/recommend/batch", b'{"queries": [{},{"n":0}]}', 422, "queries[1].n: 0"),
        ("/recommend/batch", b'{"queries": [{"category":"x"}]}', 422, "queries[0].category"),
        ("/events", b'{"events": [{"event_id": "a"}]}', 422, "missing required field `query_id`"),
        (
            "/events",
            b'{"events":[{"event_id":"","query_id":1,"item_id":2,"timestamp":3}]}',
            422,
            "events[0].event_id: 0 characters",
        ),
        ("/bundle", b"{}", 401, "needs a server that was started with a token"),
        ("/nowhere", b"{}", 404, "no such address"),
        ("/recommend", b'{"exclude": ["' + b"x" * 1_000_000 + b'"]}', 413, "at most 1000000"),
    ],
)
def test_refusals_in_plain_words(
    client: TestClient, path: str, body: bytes, status: int, message: str
) -> None:
    reply = client.post(path, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status
    assert message in reply.json()["error"]


def test_other_refusals(client: TestClient) -> None:
    reply = client.get("/recommend")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert client.post("/recommend", content=b"{}").status_code == 415
    chunks = (b"x" * 300_000 for _ in range(4))
    sent = client.post("/recommend", content=chunks, headers={"content-type": "application/json"})
    assert sent.status_code == 413


def test_no_events_without_a_store(tmp_path: Path) -> None:
    save_plane(tmp_path / "bundle")
    server = Server(open_deck(tmp_path / "bundle", None, None), None, ServeConfig())
    event = {"event_id": "e", "query_id": "q1", "item_id": "i2", "timestamp": 1}
    with local_client(server) as client:
        reply = client.post("/events", json={"events": [event]})
        assert reply.status_code == 422
        assert "start it with --events" in reply.json()["error"]


def test_the_token(guarded: TestClient) -> None:
    assert guarded.post("/recommend", json={"n": 1}).status_code == 200
    for given in ("", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ä"):
        headers = {"authorization": given.encode("latin-1")}
        reply = guarded.post("/recommend", json={"n": 1}, headers=headers)
        assert reply.status_code == 401
        assert "Authorization: Bearer" in reply.json()["error"]
        assert guarded.get("/metrics", headers=headers).status_code == 401
        assert guarded.get("/health", headers=headers).status_code == 200


def test_the_documentation_asks_for_the_token_where_there_is_one(
    guarded: TestClient, client: TestClient
) -> None:
    api = guarded.get("/openapi.json").json()
    assert api["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert api["paths"]["/recommend"]["post"]["security"] == [{"token": []}]
    assert "security" not in api["paths"]["/health"]["get"]
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


def test_another_bundle_takes_over(guarded: TestClient, tmp_path: Path) -> None:
    event = {"event_id": "e", "query_id": "q3", "item_id": "i1", "timestamp": 1}
    guarded.post("/events", json={"events": [event]})
    asked = {"query_id": "q3", "n": 2}
    assert guarded.post("/recommend", json=asked).json()["items"] == ["i2", "i3"]
    # In the other bundle i1 and i5 point the same way, so the event means something else there.
    save_plane(tmp_path / "other", np.array([[0, 0], [1, 0], [0, 1], [0, 1], [0.6, 0.8], [1, 0]]))
    reply = guarded.post("/bundle", json={"path": "other"})
    assert reply.json() == {"model": "sum_of_history", "corpus": 5}
    assert guarded.post("/recommend", json=asked).json()["items"] == ["i5", "i4"]
    assert 'dualtower_swaps_total{result="loaded"} 1' in guarded.get("/metrics").text


def test_a_damaged_bundle_is_refused_and_the_old_one_stays(
    guarded: TestClient, tmp_path: Path
) -> None:
    other = save_plane(tmp_path / "other")
    with open(other / "items.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    reply = guarded.post("/bundle", json={"path": "other"})
    assert reply.status_code == 422
    assert "the old bundle stays" in reply.json()["error"]
    assert "SHA-256 differs" in reply.json()["error"]
    for path in ("missing", "../bundle", "/etc", ".", "a\0b"):
        assert guarded.post("/bundle", json={"path": path}).status_code == 422
    assert guarded.post("/bundle", json={"path": "bundle", "arm": "b"}).status_code == 422
    asked = {"query_id": "q1", "n": 1}
    assert guarded.post("/recommend", json=asked).json()["items"] == ["i2"]
    assert 'dualtower_swaps_total{result="refused"} 2' in guarded.get("/metrics").text


def test_a_bundle_that_fails_its_test_is_refused(
    guarded: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_plane(tmp_path / "other")
    monkeypatch.setattr(decks, "_RECALL_SLACK", -0.5)
    reply = guarded.post("/bundle", json={"path": "other"})
    assert "the index finds 1.000 of the exact answer" in reply.json()["error"]


def test_arms(tmp_path: Path) -> None:
    turned = np.array([[0, 0], [1, 0], [0, 1], [0, 1], [0.6, 0.8], [1, 0]])
    arms = (
        Arm(name="a", bundle=str(save_plane(tmp_path / "bundle"))),
        Arm(name="b", bundle=str(save_plane(tmp_path / "other", turned))),
    )
    experiment = Experiment(name="test", salt="s", arms=arms)
    best = {"a": ["i2"], "b": ["i5"]}
    with local_client(make_server(tmp_path, experiment)) as client:
        names = set()
        for place in range(20):
            asked = {"query_id": f"user {place}", "history": ["i1"], "n": 1}
            answer = client.post("/recommend", json=asked).json()
            assert answer["arm"] == experiment.arm_of(f"user {place}").name
            assert answer["items"] == best[answer["arm"]]
            assert answer["experiment"] == "test"
            names.add(answer["arm"])
        assert names == {"a", "b"}
        event = {"event_id": "e", "query_id": "q", "item_id": "i1", "timestamp": 1}
        client.post("/events", json={"events": [event]})
        text = client.get("/metrics").text
    assert 'dualtower_answers_total{arm="a"}' in text
    stored = [
        event for block in open_store(tmp_path / "events.db").replay() for event in block.events
    ]
    shown = {event.query_id: event for event in stored if event.kind == "exposure"}
    assert len(shown) == 20
    for query, event in shown.items():
        assert event.arm == experiment.arm_of(query).name
        assert (event.experiment, event.value, event.item_id) == ("test", 1, best[event.arm][0])


def test_the_documentation_has_examples(client: TestClient) -> None:
    api = client.get("/openapi.json").json()
    body = api["paths"]["/recommend"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["properties"]["query_id"]["examples"] == ["u1"]
    assert json.dumps(api).count('"examples"') > 10
    assert client.get("/docs").status_code == 200


def test_bundles_stay_below_the_folder_of_the_first(guarded: TestClient, tmp_path: Path) -> None:
    save_plane(tmp_path / "old" / "other")
    assert guarded.post("/bundle", json={"path": "old/other"}).status_code == 200
    assert guarded.post("/bundle", json={"path": "bundle"}).status_code == 200


def test_a_mistake_of_ours_is_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Engine, "similar", fail)
    with local_client(make_server(tmp_path), raise_server_exceptions=False) as client:
        reply = client.get("/similar/i1")
        text = client.get("/metrics").text
    assert (reply.status_code, reply.json()) == (500, {"error": MISTAKE})
    assert 'dualtower_requests_total{route="/similar/{item:path}",status="500"} 1' in text
