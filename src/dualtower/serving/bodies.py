"""The requests' bodies, read by msgspec: the types bound what is accepted, its depth included.

No value of any type here nests deeper than a feature's list, so a body of endless brackets is
refused at the first one that has no place. `documents.py` describes the same for OpenAPI.
"""

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

import msgspec

from dualtower.errors import DataError
from dualtower.serving.event import LARGEST_ID, LONGEST_ID
from dualtower.serving.settings import ServeConfig

BodyId = (
    Annotated[int, msgspec.Meta(ge=-(2**63))] | Annotated[str, msgspec.Meta(max_length=LONGEST_ID)]
)
"""An id that columns can hold; msgspec knows no bound as large as theirs (`_check_size`)."""
Value = None | bool | int | float | str | list[int | float | str]
"""A feature's value."""
T = TypeVar("T")


class RecommendBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST /recommend."""

    query_id: BodyId | None = None
    n: int = 100
    exclude_seen: bool = True
    exclude: list[BodyId] = []
    category: bool | BodyId | list[bool | BodyId] | None = None
    quota: dict[Annotated[str, msgspec.Meta(max_length=LONGEST_ID)], int] | None = None
    history: list[BodyId] | None = None
    features: dict[str, Value] | None = None
    context: dict[str, Value] | None = None

    def __post_init__(self) -> None:
        _check_size((self.query_id,))
        for values in (self.exclude, self.category, self.history):
            _check_size(values if isinstance(values, list) else (values,))

    @property
    def asked(self) -> int:
        """How many items are asked for; 0 or less where that is a mistake."""
        return self.n if self.quota is None else sum(self.quota.values())


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST /recommend/batch."""

    queries: list[RecommendBody]


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """One event of POST /events."""

    event_id: str
    query_id: BodyId
    item_id: BodyId
    timestamp: int | float
    kind: str = "click"
    value: int | float = 0.0
    experiment: str | None = None
    arm: str | None = None

    def __post_init__(self) -> None:
        _check_size((self.query_id, self.item_id))


class EventsBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST /events."""

    events: list[EventBody]


class BundleBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST /bundle."""

    path: str
    arm: str | None = None


def _check_size(ids: Iterable[Any]) -> None:
    """Refuse larger whole numbers than 64 bits hold.

    Raises:
        ValueError: msgspec makes its own error of it, which says where.
    """
    for value in ids:
        if isinstance(value, int) and value > LARGEST_ID:
            raise ValueError(f"Expected `int` <= {LARGEST_ID}")


def read(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """The body as its type.

    Raises:
        DataError: not JSON, or a field is missing, unknown or of another type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise DataError(f"body: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"body: not valid JSON ({error})") from None


def check_query(body: RecommendBody, settings: ServeConfig, where: str = "") -> None:
    """Refuse what is larger than the server's limits.

    Raises:
        DataError: says which field, how large it is and how large it may be.
    """
    asked = body.asked
    # Of a negative count beside a large one the sum says little.
    for category, count in ({} if body.quota is None else body.quota).items():
        if count < 1:
            raise DataError(
                f"{where}quota: {count} items of {category!r} asked for; it should be 1 or more"
            )
    if not 1 <= asked <= settings.max_n:
        field = "n" if body.quota is None else "quota"
        raise DataError(
            f"{where}{field}: {asked} items asked for; it should be 1 to {settings.max_n}"
        )
    for field in ("exclude", "history", "category"):
        values: Any = getattr(body, field)
        if isinstance(values, list) and len(values) > settings.max_exclusions:
            raise DataError(
                f"{where}{field}: {len(values)} ids; at most {settings.max_exclusions} are accepted"
            )


def check_count(count: int, settings: ServeConfig, what: str) -> None:
    """Refuse more of something in one request than the server's limit.

    Raises:
        DataError: there are none or too many.
    """
    if not 1 <= count <= settings.max_batch:
        raise DataError(f"{what}: {count} in one request; it should be 1 to {settings.max_batch}")
