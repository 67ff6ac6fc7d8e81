"""Short forms of the benchmarks that load a server of a process of its own."""

import json
import socket
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.books_bundle import described, made_here, ready_bundle
from benchmarks.serving import measure as compare
from benchmarks.soak import measure as soak
from benchmarks.soak import mixed_requests
from benchmarks.swaps import measure as swap
from dualtower.retrieval.bundle import Bundle


def free_ports(count: int) -> list[int]:
    ears = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(ear.getsockname()[1]) for ear in ears]
    for ear in ears:
        ear.close()
    return ports


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("fastapi", "uvicorn", "uvloop", "msgspec", "orjson", "psutil"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("books") / "bundle"
    made = ready_bundle(folder, short=True)
    assert ready_bundle(folder, short=True) == made  # kept, not made again
    return made


def test_the_bundle_is_trained_and_says_what_it_is(bundle: Path) -> None:
    facts = Bundle.load(bundle).manifest
    assert made_here(facts)
    text = "2,000 items × 32 of dat trained on one epoch on a made log of 1,000 queries and 20,000"
    assert described(facts).startswith(text)
    assert facts.counts.categories == 20


def test_both_servers_answer_in_full(bundle: Path) -> None:
    ports = dict(zip(("dualtower", "plain"), free_ports(2), strict=True))
    own, plain = compare(bundle, 1_000, rounds=1, seconds=0.3, rate=20.0, ports=ports)
    for row in (own, plain):
        assert row["failures"] == row["short_answers"] == 0
        assert float(row["requests_per_second"]) > 0
        assert float(row["p99_ms"]) >= float(row["p50_ms"]) > 0
    assert plain["times_the_plain_server"] == 1


def test_swaps_fail_no_request_and_refuse_what_is_damaged(bundle: Path) -> None:
    row = swap(bundle, swaps=10, rate=20.0, seconds=0.3, port=free_ports(1)[0])
    assert row["failed_requests"] == row["wrongly_answered_swaps"] == 0
    assert int(row["requests_meanwhile"]) > 0
    assert list(bundle.parent.iterdir()) == [bundle]  # the copies are gone


def test_mixed_traffic_meets_no_error(bundle: Path) -> None:
    row = soak(bundle, minutes=0.03, rate=100.0, port=free_ports(1)[0])
    assert row["errors"] == 0
    assert row["requests"] == 180
    assert float(row["memory_mb_last"]) > 50


def test_the_traffic_is_of_every_kind(bundle: Path) -> None:
    requests = list(islice(mixed_requests(8000, Bundle.load(bundle).manifest, seed=0), 1_000))
    starts = {request.split(b" HTTP")[0].split(b"?")[0] for request in requests}
    posted = {start for start in starts if start.startswith(b"POST")}
    assert posted == {b"POST /recommend", b"POST /recommend/batch", b"POST /events"}
    assert {b"GET /metrics", b"GET /history", b"GET /queries"} < starts
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2] or b"{}") for request in requests]
    fields = {field for body in bodies for field in body}
    assert {"exclude", "category", "quota", "history", "events", "queries"} < fields
