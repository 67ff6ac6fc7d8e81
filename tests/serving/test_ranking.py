import asyncio
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

from dualtower import models
from dualtower.data.vocabulary import Vocabulary
from dualtower.errors import ConfigError, DataError
from dualtower.experiments.assignment import Arm, Experiment
from dualtower.retrieval.bundle import Bundle
from dualtower.serving.ranking import (
    Ranker,
    Ranking,
    RankingTask,
    first_within,
    load_ranker,
    places_of,
)
from dualtower.serving.run import ranking_of
from dualtower.serving.server import Server, open_deck
from dualtower.serving.settings import ServeConfig
from tests.helpers import tiny_dataset
from tests.retrieval.vectors import SumOfHistory
from tests.serving.bundles import PLANE, save_plane
from tests.serving.clients import local_client

ITEMS = ("a", "b", 7)
NEVER = 600.0


@pytest.fixture(autouse=True)
def known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "sum_of_history", SumOfHistory)


def task(items: tuple[Any, ...] = ITEMS) -> RankingTask:
    scores = np.arange(len(items), 0, -1, dtype=np.float32)
    return RankingTask("q", items, scores, (None,) * len(items), 2, None, None, None)


@pytest.mark.parametrize(
    ("returned", "places"),
    [
        (np.array([0.1, 0.3, 0.2]), [1, 2, 0]),
        (np.array([1, 1, 2], dtype=np.float16), [2, 0, 1]),  # a tie stays as retrieved
        ([7, "a", "b"], [2, 0, 1]),
        (("b", 7, "a"), [1, 2, 0]),
        (np.array(["b", 7, "a"], dtype=object), [1, 2, 0]),
    ],
)
def test_scores_or_ids_are_an_order(returned: Any, places: list[int]) -> None:
    assert places_of(returned, ITEMS).tolist() == places


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.array([0.1, np.nan, 0.2]), "NaN or infinite"),
        (np.array([0.1, np.inf, 0.2]), "NaN or infinite"),
        (np.array([0.1, 0.2]), r"scores of shape \[2\] for 3 candidates"),
        (np.zeros((3, 1)), r"scores of shape \[3, 1\]"),
        (["a", "b", "b"], "a candidate twice"),
        (["a", "b", 7, 7], "a candidate twice"),
        (["a", "b"], "returned 2 of 3 candidates"),
        ([], "returned 0 of 3 candidates"),
        (["a", "b", "c"], "returned 'c', which is no candidate"),
        ([0.3, 0.2, 0.1], "returned 0.3, which is no candidate; it should return one score"),
        (["a", "b", "7"], "returned '7', which is no candidate"),
        (None, "returned a NoneType; it should return one score"),
        ([["a"], "b", 7], "returned a list; it should"),
        ("ab", "returned 2 of 3"),
    ],
)
def test_anything_else_is_refused(returned: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        places_of(returned, ITEMS)


def test_a_quota_is_filled_in_the_rankers_order() -> None:
    places = np.array([3, 0, 2, 1, 4])
    categories = ("tea", "cake", "tea", None, "tea")
    assert first_within(places, 2, None, categories).tolist() == [3, 0]
    assert first_within(places, 9, {"tea": 2, "cake": 5}, categories).tolist() == [0, 2, 1]


def asked(ranker: Ranker, seconds: float = NEVER, notes: list[str] | None = None) -> Any:
    """What `Ranking.order` says."""
    told = [] if notes is None else notes
    ranking = Ranking(ranker, seconds, told.append)
    places, outcome = asyncio.run(ranking.order(task()))
    ranking.stop()
    return places.tolist(), outcome


def test_a_failure_leaves_the_order_of_retrieval_and_is_told_once() -> None:
    def broken(task: RankingTask) -> Any:
        raise ZeroDivisionError("by nothing")

    def leaving(task: RankingTask) -> Any:
        sys.exit(3)

    assert asked(lambda task: np.arange(3.0)) == ([2, 1, 0], "ranked")
    for ranker in (broken, leaving, lambda task: ["a"]):
        assert asked(ranker) == ([0, 1, 2], "failed")
    notes: list[str] = []
    ranking = Ranking(broken, NEVER, notes.append)
    for _ in range(3):
        asyncio.run(ranking.order(task()))
    assert notes == [
        "the ranker raised ZeroDivisionError: by nothing; answers are in the order of retrieval"
    ]
    assert asyncio.run(ranking.order(task(())))[1] == "ranked"


def test_nothing_waits_for_a_late_ranker_and_it_may_come_back() -> None:
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def slow(task: RankingTask) -> Any:
        calls.append(task)
        begun.set()
        go_on.wait()
        return np.arange(3.0)

    async def run() -> list[str]:
        outcomes = [(await ranking.order(task()))[1]]
        assert begun.is_set()
        ranking._seconds = NEVER  # nobody waits so long: the call under way is known to be late
        outcomes += [(await ranking.order(task()))[1] for _ in range(2)]
        assert len(calls) == 1
        go_on.set()
        while ranking._overdue:
            await asyncio.sleep(0)
        return [*outcomes, (await ranking.order(task()))[1]]

    notes: list[str] = []
    ranking = Ranking(slow, 0.05, notes.append)
    assert asyncio.run(run()) == ["late", "late", "late", "ranked"]
    assert notes == ["the ranker took longer than 0.05 s; answers are in the order of retrieval"]


def test_an_answer_that_waited_for_its_turn_too_long_never_reaches_the_ranker() -> None:
    go_on, calls = threading.Event(), []

    def slow(task: RankingTask) -> Any:
        calls.append(task)
        go_on.wait()
        return np.arange(3.0)

    async def run() -> list[Any]:
        return await asyncio.gather(*(ranking.order(task()) for _ in range(3)))

    ranking = Ranking(slow, 0.05)
    assert [outcome for _, outcome in asyncio.run(run())] == ["late"] * 3
    go_on.set()
    assert len(calls) == 1


def test_a_ranker_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_ranker.py").write_text(
        "class Mine:\n    def rank(self, task):\n        return task.items\n"
        "mine = Mine()\nnumber = 3\n"
    )
    (tmp_path / "broken_ranker.py").write_text("1 / 0\n")
    assert load_ranker("my_ranker:mine.rank")(task()) == ITEMS
    for name, message in {
        "my_ranker": "it should be package.module:function",
        ":rank": "it should be package.module:function",
        "no_such_ranker:rank": "no_such_ranker cannot be imported .*folder of PYTHONPATH",
        "broken_ranker:rank": "cannot be imported .ZeroDivisionError",
        "my_ranker:number": "my_ranker has no function number",
        "my_ranker:mine.other": "has no function mine.other",
    }.items():
        with pytest.raises(ConfigError, match=message):
            load_ranker(name)


def test_the_ranker_is_named_in_one_place() -> None:
    arms = tuple(Arm(name=name, bundle="b") for name in "ab")
    plain = Experiment(name="e", salt="s", arms=arms)
    planned = plain.model_copy(update={"ranker": "builtins:sorted"})
    notes: list[str] = []
    assert ranking_of(ServeConfig(), plain, notes.append) is None
    assert ranking_of(ServeConfig(), None, notes.append) is None
    assert notes == []
    for settings, experiment in (
        (ServeConfig(), planned),
        (ServeConfig(ranker="builtins:sorted"), plain),
        (ServeConfig(ranker="builtins:sorted"), planned),
    ):
        assert isinstance(ranking_of(settings, experiment, notes.append), Ranking)
    assert notes == ["ranking by builtins:sorted"] * 3
    with pytest.raises(ConfigError, match="builtins:len is asked for and the experiment names"):
        ranking_of(ServeConfig(ranker="builtins:len"), planned, notes.append)


@pytest.fixture
def tasks() -> list[RankingTask]:
    return []


@pytest.fixture
def client(tmp_path: Path, tasks: list[RankingTask]) -> Iterator[TestClient]:
    """Ranks the worst candidates first; for the query "broken" it fails."""

    def backwards(task: RankingTask) -> Any:
        tasks.append(task)
        if task.query_id == "broken":
            task.scores[:] = 0  # not allowed
        return task.items[::-1]

    deck = open_deck(save_plane(tmp_path / "bundle"), None, None)
    settings = ServeConfig(candidates=2)
    server = Server(deck, None, settings, ranking=Ranking(backwards, NEVER))
    with local_client(server) as client:
        yield client


def test_the_server_answers_with_the_rankers_best(
    client: TestClient, tasks: list[RankingTask]
) -> None:
    # By retrieval q1 has i2, i3, i4, i5 with the scores .8, .6, 0, -.6.
    answer = client.post("/recommend", json={"query_id": "q1", "n": 1}).json()
    assert (answer["items"], answer["ranking"]) == (["i3"], "ranked")
    np.testing.assert_allclose(answer["scores"], [0.6], atol=1e-6)
    (given,) = tasks
    assert (given.query_id, given.items, given.n) == ("q1", ("i2", "i3"), 1)
    assert given.categories == ("tea", "cake")
    np.testing.assert_allclose(given.scores, [0.8, 0.6], atol=1e-6)
    answer = client.post("/recommend", json={"query_id": "q1", "n": 9, "exclude": ["i5"]}).json()
    assert answer["items"] == ["i4", "i3", "i2"]
    quota = {"query_id": "q1", "quota": {"tea": 1, "cake": 1}}
    assert client.post("/recommend", json=quota).json()["items"] == ["i4", "i2"]
    assert (tasks[-1].items, tasks[-1].n) == (("i2", "i3", "i4"), 2)
    given_history = {"history": ["i4"], "n": 1, "context": None}
    assert client.post("/recommend", json=given_history).json()["items"] == ["i5"]
    assert tasks[-1].history == ["i4"]


def test_a_quota_may_name_a_number_as_it_likes(tmp_path: Path) -> None:
    data = tiny_dataset([[1], [2]], item_count=6, categories=["7", "7", "7", "8", "8"])
    numbers = replace(data, category_vocabulary=Vocabulary(pl.Series([7, 8])))
    model = SumOfHistory.of(data.space(), PLANE)
    Bundle.build(model, numbers, progress=False).save(tmp_path / "bundle")
    deck = open_deck(tmp_path / "bundle", None, None)
    ranking = Ranking(lambda task: task.items[::-1], NEVER)
    with local_client(Server(deck, None, ServeConfig(candidates=2), ranking=ranking)) as client:
        asked = {"query_id": "q1", "quota": {"07": 1, "7": 1, "08": 1}}
        assert client.post("/recommend", json=asked).json()["items"] == ["i5", "i3", "i2"]


def test_a_failing_ranker_fails_no_request(client: TestClient) -> None:
    queries = [{"query_id": "broken", "history": ["i1"], "n": 2}, {"query_id": "q1", "n": 1}]
    reply = client.post("/recommend/batch", json={"queries": queries})
    assert [(answer["items"], answer["ranking"]) for answer in reply.json()["answers"]] == [
        (["i2", "i3"], "failed"),
        (["i3"], "ranked"),
    ]
    text = client.get("/metrics").text
    assert 'dualtower_rankings_total{outcome="failed",arm=""} 1' in text
    assert 'dualtower_rankings_total{outcome="ranked",arm=""} 1' in text
    assert client.post("/recommend", json={"n": 1, "category": "x"}).status_code == 422


def test_the_pages_example_ranks() -> None:
    page = Path(__file__).parents[2] / "docs" / "experiments.md"
    (block,) = re.findall(r"```python\n(# my_ranker.*?)```", page.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    given = task(("i1", "i3", "i9"))
    found = places_of(names["rank"](given), given.items)
    # 3, 2 + .1 ln 121, 1 + .1 ln 81
    assert found.tolist() == [0, 1, 2]
    given.scores[:] = 1
    assert places_of(names["rank"](given), given.items).tolist() == [1, 2, 0]
