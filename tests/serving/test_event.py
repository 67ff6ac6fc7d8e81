import math
from typing import Any

import numpy as np
import pytest

from dualtower.errors import DataError
from dualtower.serving.event import Event, first_named


def made(**changes: Any) -> Event:
    return Event(**{"event_id": "e1", "query_id": "u1", "item_id": 7, "timestamp": 5, **changes})


def test_clicks_and_orders_extend_the_history_and_exposures_do_not() -> None:
    kinds = {kind: made(kind=kind).extends_history for kind in ("click", "order", "exposure")}
    assert kinds == {"click": True, "order": True, "exposure": False}


def test_fields_stay_as_they_were_given() -> None:
    event = made(kind="order", value=2.5, experiment="april", arm="new")
    assert (event.event_id, event.query_id, event.item_id) == ("e1", "u1", 7)
    assert (event.timestamp, event.value, event.experiment, event.arm) == (5, 2.5, "april", "new")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"event_id": ""}, "event_id: 0 characters; it should have 1 to 1000"),
        ({"event_id": 7}, "event_id: 7; it should be a text"),
        ({"query_id": "x" * 1001}, "query_id: 1001 characters"),
        ({"query_id": True}, "query_id: True; it should be a text or a whole number"),
        ({"query_id": None}, "query_id: None"),
        ({"item_id": 2**64}, "item_id: 18446744073709551616; a whole number should fit in 64"),
        ({"query_id": -(2**63) - 1}, "query_id: -9223372036854775809; a whole number should fit"),
        ({"item_id": 10**5000}, "item_id: a whole number of hundreds of digits"),
        ({"item_id": 1.5}, "item_id: 1.5; it should be a text or a whole number"),
        ({"item_id": "a\x00b"}, "item_id: .* without the character 0"),
        ({"item_id": "\ud800"}, r"item_id: .* \(surrogates\)"),
        ({"timestamp": math.nan}, "timestamp: nan; it should be finite"),
        ({"timestamp": "today"}, "timestamp: 'today'; it should be a number"),
        ({"timestamp": 2**63}, "timestamp: .* 64 bits"),
        ({"value": math.inf}, "value: inf; it should be finite"),
        ({"value": -0.5}, "value: -0.5; it should be 0 or more"),
        ({"kind": "view"}, "kind: 'view'; it should be one of click, exposure, order"),
        ({"kind": []}, "kind: "),
        ({"experiment": "april"}, "experiment: 'april' with arm None; both"),
        ({"experiment": 1, "arm": "new"}, "experiment: 1; it should be a text"),
        ({"experiment": "april", "arm": ""}, "arm: 0 characters"),
        ({"item_id": None}, "item_id: None; it should be a text or a whole number"),
        ({"kind": "empty"}, "item_id: 7 in an event of no item"),
        ({"latency": -0.1}, "latency: -0.1; it should be 0 or more"),
        ({"latency": math.nan}, "latency: nan; it should be finite"),
        ({"asked": 0}, "asked: 0; it should be a whole number, 1 or more"),
        ({"asked": 1.5}, "asked: 1.5; it should be a whole number"),
    ],
)
def test_each_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        made(**changes)


def test_the_first_item_that_an_event_can_name() -> None:
    assert first_named(np.array([2**64 - 1, 3], dtype=np.uint64)) == 2**64 - 1
    assert first_named(np.array(["", "x" * 1001, "a\x00", "i1", "i2"], dtype=object)) == "i1"
    assert first_named([""]) is None
    assert first_named([]) is None
