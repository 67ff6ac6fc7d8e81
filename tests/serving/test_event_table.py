"""A store's events as a table, whatever the ids' types."""

from pathlib import Path

import polars as pl
import pytest

from dualtower.errors import DataError
from dualtower.experiments.observations import read_observations
from dualtower.serving.event import Event
from dualtower.serving.event_table import event_table, is_store
from dualtower.serving.store import open_store


def test_a_stores_events_are_what_the_report_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    store = open_store(path)
    in_arm = {"experiment": "e", "arm": "a"}
    day = 86_400 * 20_000
    store.append(
        [
            Event("1", 12, "i1", day, "exposure", 0.0, **in_arm),
            Event("2", "12", "i1", day + 1.5, "click", 0.0, **in_arm),
            Event("3", 12, "i1", day + 2, "order", 7.5, **in_arm),
            Event("4", "u", "i1", day, "click"),
            Event("5", "u", "i1", day, "exposure", 0.0, experiment="e", arm="b"),
        ]
    )
    store.append([Event("3", 12, "i1", day + 9, "order", 7.5, **in_arm)])
    store.close()
    assert is_store(path)
    table = event_table(path)
    assert table["query_id"].to_list() == ["12", "12", "12", "u", "u"]
    assert table["experiment"].to_list() == ["e", "e", "e", None, "e"]
    assert table["value"].to_list() == [0, 0, 7.5, 0, 0]
    found = read_observations(table, "e", ("a", "b"))
    assert found.arm.tolist() == [0, 1]
    assert (found.clicks.tolist(), found.gmv.tolist()) == ([[1], [0]], [[7.5], [0]])
    assert found.left_out.elsewhere == 1


def test_tables_are_no_stores_and_an_empty_store_says_so(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "t.parquet")
    assert not is_store(tmp_path / "t.parquet")
    assert not is_store(tmp_path / "none.csv")
    assert is_store("postgresql://someone@somewhere/events")
    open_store(tmp_path / "empty.db").close()
    with pytest.raises(DataError, match="holds no events"):
        event_table(tmp_path / "empty.db")
