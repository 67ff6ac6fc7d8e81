"""OpenAPI's models and the types that read a body accept the same."""

import json
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, ValidationError

from dualtower.errors import DataError
from dualtower.serving import bodies, documents

NAMES = ["RecommendBody", "BatchBody", "EventBody", "EventsBody", "BundleBody"]
EVENT = {"event_id": "a", "query_id": 1, "item_id": "b", "timestamp": 1.5}


@pytest.mark.parametrize("name", NAMES)
def test_fields_and_defaults_agree(name: str) -> None:
    struct, model = getattr(bodies, name), getattr(documents, name)
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    assert list(fields) == list(model.model_fields)
    for key, field in fields.items():
        documented = model.model_fields[key]
        assert field.required == documented.is_required()
        if not field.required and field.default_factory is msgspec.NODEFAULT:
            assert field.default == documented.default


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("RecommendBody", {}),
        ("RecommendBody", {"query_id": 5, "n": 3, "exclude": [1, "b"], "category": ["a", 2]}),
        ("RecommendBody", {"query_id": "a", "history": ["x"], "quota": {"tea": 2}}),
        ("RecommendBody", {"features": {"a": None, "b": 1.5, "c": [1, "x"], "d": True}}),
        ("RecommendBody", {"n": "3"}),
        ("RecommendBody", {"n": 3.5}),
        ("RecommendBody", {"n": None}),
        ("RecommendBody", {"query_id": 1.5}),
        ("RecommendBody", {"query_id": True}),
        ("RecommendBody", {"exclude": [True]}),
        ("RecommendBody", {"category": True}),
        ("RecommendBody", {"category": ["a", False, 1]}),
        ("RecommendBody", {"category": None}),
        ("RecommendBody", {"query_id": 2**63 - 1, "exclude": [-(2**63)]}),
        ("RecommendBody", {"query_id": 2**64 - 1, "exclude": [2**64 - 1]}),
        ("RecommendBody", {"query_id": 2**64}),
        ("RecommendBody", {"query_id": -(2**63) - 1}),
        ("RecommendBody", {"history": [1, 2**64]}),
        ("RecommendBody", {"category": 2**64}),
        ("RecommendBody", {"category": ["a", 2**64]}),
        ("RecommendBody", {"exclude": [10**50]}),
        ("RecommendBody", {"category": ["x" * 1_000]}),
        ("RecommendBody", {"category": "x" * 1_001}),
        ("RecommendBody", {"exclude": "a"}),
        ("RecommendBody", {"exclude": None}),
        ("RecommendBody", {"exclude_seen": 1}),
        ("RecommendBody", {"category": {"a": 1}}),
        ("RecommendBody", {"quota": {"a": "1"}}),
        ("RecommendBody", {"quota": {"x" * 1_000: 1}}),
        ("RecommendBody", {"quota": {"x" * 1_001: 1}}),
        ("RecommendBody", {"features": {"a": {"b": 1}}}),
        ("RecommendBody", {"features": {"a": [[1]]}}),
        ("RecommendBody", {"user": 1}),
        ("BatchBody", {"queries": [{}, {"n": 1}]}),
        ("BatchBody", {"queries": {}}),
        ("BatchBody", {}),
        ("EventsBody", {"events": [EVENT]}),
        ("EventsBody", {"events": [{**EVENT, "value": 3, "kind": "order", "arm": None}]}),
        ("EventsBody", {"events": [{**EVENT, "query_id": 2**64 - 1, "item_id": 2**64 - 1}]}),
        ("EventsBody", {"events": [{**EVENT, "item_id": 2**64}]}),
        ("EventsBody", {"events": [{**EVENT, "query_id": 2**64}]}),
        ("EventsBody", {"events": [{**EVENT, "value": "3"}]}),
        ("EventsBody", {"events": [{**EVENT, "event_id": 3}]}),
        ("BundleBody", {"path": "x"}),
        ("BundleBody", {"path": 3}),
    ],
)
def test_both_accept_the_same(name: str, body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    struct, model = getattr(bodies, name), getattr(documents, name)
    assert accepted_by_msgspec(text, struct) == accepted_by_pydantic(text, model)


def test_too_large_an_id_is_refused_in_plain_words() -> None:
    decoder = msgspec.json.Decoder(bodies.EventsBody)
    text = json.dumps({"events": [EVENT, {**EVENT, "item_id": 2**64}]}).encode()
    with pytest.raises(DataError, match=r"body: Expected `int` <= 18446744073709551615 .*events.1"):
        bodies.read(text, decoder)


def accepted_by_msgspec(text: bytes, struct: type) -> bool:
    try:
        bodies.read(text, msgspec.json.Decoder(struct))
    except DataError:
        return False
    return True


def accepted_by_pydantic(text: bytes, model: type[BaseModel]) -> bool:
    try:
        model.model_validate_json(text)
    except ValidationError:
        return False
    return True
