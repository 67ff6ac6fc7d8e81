"""What the routes share: swaps by the watch, events of arms, and what is counted."""

import gc
import shutil
import weakref
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import SecretStr

from dualtower import models
from dualtower.errors import StoreError, StoreUnsureError
from dualtower.experiments.assignment import Arm, Experiment
from dualtower.retrieval.bundle import Bundle
from dualtower.serving import server as servers
from dualtower.serving.refusals import Refusals
from dualtower.serving.server import Server, open_deck
from dualtower.serving.settings import ServeConfig
from dualtower.serving.store import open_store
from tests.helpers import tiny_dataset
from tests.retrieval.vectors import SumOfHistory
from tests.serving.bundles import PLANE, save_plane
from tests.serving.clients import local_client, make_server

TOKEN = "a-token-of-sixteen-characters"


@pytest.fixture(autouse=True)
def known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "sum_of_history", SumOfHistory)


def experiment_of(tmp_path: Path) -> Experiment:
    arms = tuple(Arm(name=name, bundle=str(tmp_path / "bundle")) for name in "ab")
    return Experiment(name="test", salt="s", arms=arms)


def test_the_watch_loads_what_was_replaced(tmp_path: Path) -> None:
    notes: list[str] = []
    folder = save_plane(tmp_path / "bundle")
    store = open_store(tmp_path / "events.db")
    server = Server(open_deck(folder, store, None), store, ServeConfig(), notes.append)
    with local_client(server) as client:
        assert client.portal is not None
        refused = Refusals()
        client.portal.call(server.reload_changed, refused)
        assert notes == []
        save_plane(folder)
        client.portal.call(server.reload_changed, refused)
        assert notes == [f"{folder}: the new bundle serves"]
        client.portal.call(server.reload_changed, refused)
        assert len(notes) == 1
        shutil.copy(folder / "corpus.npy", folder / "manifest.json")
        for _ in range(2):  # said once, and not tried again
            client.portal.call(server.reload_changed, refused)
            assert "refused, the old bundle stays" in notes[1]
            assert len(notes) == 2
        assert client.post("/recommend", json={"query_id": "q1"}).status_code == 200


def test_the_watch_tries_again_after_a_fault_that_says_nothing_of_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, seconds, calls = list[str](), 0.0, 0
    load = servers.load_served
    faults: list[Exception] = [StoreError("the database restarts"), MemoryError("no more")]

    def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if faults:
            raise faults.pop(0)
        return load(*arguments)

    server = make_server(tmp_path)
    server._note = notes.append
    first = server.deck.of_arm(None)
    monkeypatch.setattr(servers, "load_served", failing)
    refusals = Refusals(lambda: seconds)
    with local_client(server) as client:
        assert client.portal is not None
        save_plane(tmp_path / "bundle")
        for now, wanted in ((0.0, 1), (9.9, 1), (10.0, 2), (29.9, 2), (30.0, 3)):
            assert server.deck.of_arm(None) is first
            seconds = now
            client.portal.call(server.reload_changed, refusals)
            assert calls == wanted
    assert server.deck.of_arm(None) is not first
    assert "tried again in 10 s (StoreError: the database restarts)" in notes[0]
    assert "tried again in 20 s (BundleError: the bundle cannot be loaded: no more)" in notes[1]
    assert notes[2:] == [f"{tmp_path / 'bundle'}: the new bundle serves"]


def test_the_watch_sees_what_was_replaced_before_it_began(tmp_path: Path) -> None:
    server = make_server(tmp_path)
    first = server.deck.of_arm(None)
    save_plane(tmp_path / "bundle")
    with local_client(server) as client:
        assert client.portal is not None
        client.portal.call(server.reload_changed, Refusals())
    assert server.deck.of_arm(None) is not first


def test_the_watch_leaves_alone_what_was_asked_for(tmp_path: Path) -> None:
    other = save_plane(tmp_path / "other")
    server = make_server(tmp_path, token=SecretStr(TOKEN))
    headers = {"authorization": f"Bearer {TOKEN}"}
    with local_client(server, headers=headers) as client:
        assert client.portal is not None
        save_plane(tmp_path / "bundle")  # what was served, replaced just before
        assert client.post("/bundle", json={"path": "other"}).status_code == 200
        asked_for = server.deck.of_arm(None)
        client.portal.call(server.reload_changed, Refusals())
        assert server.deck.of_arm(None) is asked_for
    assert asked_for.folder == other


def test_what_the_watch_replaces_is_let_go_of_beside_the_answers(tmp_path: Path) -> None:
    server, threads = make_server(tmp_path), list[int]()
    weakref.finalize(server.deck.of_arm(None).engine, lambda: threads.append(get_ident()))
    with local_client(server) as client:
        assert client.portal is not None
        save_plane(tmp_path / "bundle")
        client.portal.call(server.reload_changed, Refusals())
        gc.collect()
        assert len(threads) == 1
        assert threads[0] not in (client.portal.call(get_ident), get_ident())


def test_events_of_no_arm_of_the_experiment(tmp_path: Path) -> None:
    event = {"event_id": "e", "query_id": "q", "item_id": "i1", "timestamp": 1}
    wrong = {**event, "event_id": "f", "experiment": "test", "arm": "c"}
    with local_client(make_server(tmp_path, experiment_of(tmp_path))) as client:
        reply = client.post("/events", json={"events": [event, wrong]})
        assert reply.status_code == 422
        assert reply.json()["error"] == (
            "events[1].arm: 'c' is no arm of experiment 'test'; they are a, b"
        )
        for number, name in enumerate(("test", "last year's", "another")):
            sent = {**event, "event_id": str(number), "experiment": name, "arm": "a"}
            assert client.post("/events", json={"events": [sent]}).status_code == 200
        text = client.get("/metrics").text
    assert 'dualtower_events_total{kind="click",experiment="test",arm="a"} 1' in text
    assert 'dualtower_events_total{kind="click",experiment="other",arm=""} 2' in text
    assert "another" not in text


def test_an_event_id_that_an_index_cannot_hold(tmp_path: Path) -> None:
    event = {"query_id": "q", "item_id": "i1", "timestamp": 1}
    with local_client(make_server(tmp_path)) as client:
        for name, status in (("\u00e9" * 1_000, 200), ("\u20ac" * 867, 422), ("x" * 1_000, 200)):
            sent = {"events": [{**event, "event_id": name}]}
            reply = client.post("/events", json=sent)
            assert reply.status_code == status
            if status == 422:
                assert "events[0].event_id: 2,601 bytes; at most 2,600" in reply.json()["error"]


def test_lost_exposures_are_said_once_and_all_counted(tmp_path: Path) -> None:
    notes: list[str] = []
    server = make_server(tmp_path, experiment_of(tmp_path))
    server._note = notes.append
    with local_client(server) as client:
        assert server.store is not None
        server.store.close()
        for _ in range(5):
            assert client.post("/recommend", json={"query_id": "q1"}).status_code == 200
        event = {"event_id": "e", "query_id": "q", "item_id": "i1", "timestamp": 1}
        assert client.post("/events", json={"events": [event]}).status_code == 503
    assert server.metrics.lost_exposures == 5
    (said,) = notes
    assert said.startswith("exposures are not stored: ")


def test_an_answer_is_counted_once(tmp_path: Path) -> None:
    asked = {"query_id": "q1", "category": "x"}
    with local_client(make_server(tmp_path, experiment_of(tmp_path))) as client:
        assert client.post("/recommend", json=asked).status_code == 422
        text = client.get("/metrics").text
    assert "dualtower_recommend_seconds_count 0" in text
    assert "dualtower_answers_total{" not in text
    assert "dualtower_failed_answers_total{" in text


@pytest.mark.parametrize(
    ("ids", "logged"),
    [
        (pl.Series([2**64 - 1 - row for row in range(5)], dtype=pl.UInt64), 2**64 - 1),
        (pl.Series(["", "x" * 1_001, "a\x00b", "i4", "i5"]), "i4"),
        (pl.Series(["", "x" * 1_001, "a\x00b", "a\x00c", "a\x00d"]), None),
    ],
)
def test_ids_that_events_can_hardly_name(tmp_path: Path, ids: pl.Series, logged: Any) -> None:
    data = tiny_dataset([[1]], item_count=6, item_ids=ids)
    model = SumOfHistory.of(data.space(), PLANE)
    Bundle.build(model, data, progress=False).save(tmp_path / "bundle")
    server = make_server(tmp_path, experiment_of(tmp_path))
    with local_client(server) as client:
        reply = client.post("/recommend", json={"query_id": "nobody", "n": 5})
        assert reply.status_code == 200
        assert reply.json()["items"] == ids.to_list()
        assert server.metrics.lost_exposures == (logged is None)
        event = {"event_id": "e", "query_id": 2**64 - 1, "item_id": logged, "timestamp": 1}
        if logged is not None:
            assert client.post("/events", json={"events": [event]}).json() == {"new": [True]}
            asked = {"query_id": 2**64 - 1, "n": 5, "exclude": [ids[4]]}
            assert logged not in client.post("/recommend", json=asked).json()["items"]
            assert ids[4] not in client.post("/recommend", json=asked).json()["items"]
    stored = [
        event for block in open_store(tmp_path / "events.db").replay() for event in block.events
    ]
    assert [event.item_id for event in stored[:1]] == ([] if logged is None else [logged])


def test_an_event_whose_commit_was_not_heard_of_shows_when_it_is_sent_again(
    tmp_path: Path,
) -> None:
    event = {"event_id": "e", "query_id": "new", "item_id": "i4", "timestamp": 1}
    asked = {"query_id": "new", "n": 2}
    server = make_server(tmp_path, experiment_of(tmp_path))
    store = server.store
    assert store is not None
    commit = store.append

    def lost(events: Any) -> list[bool]:
        commit(events)
        store.append = commit  # type: ignore[method-assign]
        raise StoreUnsureError("the connection was lost")

    with local_client(server) as client:
        store.append = lost  # type: ignore[method-assign]
        assert client.post("/events", json={"events": [event]}).status_code == 503
        assert client.post("/events", json={"events": [event]}).json() == {"new": [False]}
        assert client.post("/recommend", json=asked).json()["items"] == ["i3", "i5"]
        assert client.post("/events", json={"events": [{**event, "event_id": "f"}]}).json() == {
            "new": [True]
        }
        text = client.get("/metrics").text
    assert 'dualtower_live_queries{arm="a"} 1' in text
    assert 'dualtower_live_queries{arm="b"} 1' in text


def test_the_setting_of_new_items_holds_after_a_swap_and_anew_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        SumOfHistory, "encode_new_item", lambda model, row, total, count: np.ones(2)
    )
    events = [
        {"event_id": name, "query_id": "q1", "item_id": name, "timestamp": 1} for name in "abc"
    ]
    server = make_server(tmp_path, max_new_items=2)
    with local_client(server) as client:
        assert client.portal is not None
        assert client.post("/events", json={"events": events}).status_code == 200
        client.portal.call(server._renew)
        for _ in range(2):
            assert server.deck.of_arm(None).live.new_items().ids.tolist() == ["b", "c"]
            assert 'dualtower_new_items{arm=""} 2' in client.get("/metrics").text
            client.portal.call(server.swap, tmp_path / "bundle", None)


def test_what_became_of_an_arms_requests_is_logged(tmp_path: Path) -> None:
    arms = tuple(Arm(name=name, bundle=str(tmp_path / "bundle")) for name in "ab")
    experiment = Experiment(name="test", salt="s", arms=arms)
    bodies = [
        {"query_id": "q1", "n": 2},
        {"query_id": "q1", "n": 9},
        {"query_id": "q1", "quota": {"tea": 1, "cake": 3}},
        {"query_id": "q4", "n": 3},  # has seen all
        {"query_id": "q1", "n": 3, "category": "x"},
        {"query_id": "", "n": 3},
        {"n": 3, "category": "x"},
    ]
    with local_client(make_server(tmp_path, experiment)) as client:
        statuses = [client.post("/recommend", json=body).status_code for body in bodies]
        event = {"event_id": "e", "query_id": "q", "item_id": "i1", "timestamp": 1, "kind": "error"}
        reply = client.post("/events", json={"events": [event]})
        text = client.get("/metrics").text
    assert statuses == [200, 200, 200, 200, 422, 200, 422]
    assert "dualtower_lost_exposures_total 1" in text  # of the query without a name
    assert "events[0].kind: 'error' is what the server logs itself" in reply.json()["error"]
    control = experiment.control.name
    assert f'dualtower_failed_answers_total{{arm="{control}"}}' in text
    stored = [
        event for block in open_store(tmp_path / "events.db").replay() for event in block.events
    ]
    found = [(event.kind, event.item_id, event.value, event.asked) for event in stored]
    assert found == [
        ("exposure", "i2", 2, 2),
        ("exposure", "i2", 4, 9),
        ("exposure", "i2", 3, 4),
        ("empty", None, 0, 3),
        ("error", None, 0, 3),
    ]
    for event in stored:
        assert (event.experiment, event.arm) == ("test", experiment.arm_of(event.query_id).name)
        assert event.latency is not None
        assert 0 < event.latency < 60
