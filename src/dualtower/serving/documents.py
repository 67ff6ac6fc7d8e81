"""The bodies and replies as OpenAPI shows them; the server itself reads `bodies.py`'s types."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from dualtower.serving.event import LARGEST_ID, LONGEST_ID

DocumentedId = (
    Annotated[int, Field(ge=-(2**63), le=LARGEST_ID)] | Annotated[str, Field(max_length=LONGEST_ID)]
)
DocumentedValue = None | bool | int | float | str | list[int | float | str]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=True)


class RecommendBody(_Body):
    """Whom to recommend to, and what."""

    query_id: DocumentedId | None = Field(default=None, examples=["u1"])
    """The query; an unknown one, or none, is a new one."""
    n: int = Field(default=100, examples=[20])
    """How many items, from 1."""
    exclude_seen: bool = True
    """Leave out the items of the query's history."""
    exclude: list[DocumentedId] = Field(default=[], examples=[["i7"]])
    """Items left out besides."""
    category: bool | DocumentedId | list[bool | DocumentedId] | None = Field(
        default=None, examples=["tea"]
    )
    """Only items of this category, or of any in a list; true and false where categories are."""
    quota: dict[Annotated[str, Field(max_length=LONGEST_ID)], int] | None = Field(
        default=None, examples=[None]
    )
    """How many items of each category, instead of n and category."""
    history: list[DocumentedId] | None = Field(default=None, examples=[["i3", "i9"]])
    """Items, oldest first, instead of the events that the server knows."""
    features: dict[str, DocumentedValue] | None = Field(default=None, examples=[None])
    """The query's features by name, instead of the stored ones."""
    context: dict[str, DocumentedValue] | None = Field(default=None, examples=[None])
    """The context's features by name."""


class BatchBody(_Body):
    """Several queries, each as in POST /recommend."""

    queries: list[RecommendBody]


class EventBody(_Body):
    """One event."""

    event_id: str = Field(examples=["0b9c"])
    """The sender's name for it; a repeat is acknowledged and has no effect."""
    query_id: DocumentedId = Field(examples=["u1"])
    """Who; need not be known."""
    item_id: DocumentedId = Field(examples=["i3"])
    """What; need not be known."""
    timestamp: int | float = Field(examples=[1_700_000_000])
    """When; events count in the order in which they arrive."""
    kind: str = Field(default="click", examples=["click"])
    """click, order or exposure."""
    value: int | float = 0.0
    """What an order was worth."""
    experiment: str | None = Field(default=None, examples=[None])
    """The experiment that it is part of."""
    arm: str | None = Field(default=None, examples=[None])
    """The arm that answered."""


class EventsBody(_Body):
    """Events, committed together."""

    events: list[EventBody]


class BundleBody(_Body):
    """Which bundle to serve from now on."""

    path: str = Field(examples=["2024-06-01"])
    """A folder under the server's folder of bundles."""
    arm: str | None = Field(default=None, examples=[None])
    """The arm that it serves; without an experiment none."""


class Answer(BaseModel):
    """Items, best first."""

    items: list[int | str] = Field(examples=[["i3", "i9"]])
    scores: list[float] = Field(examples=[[0.81, 0.77]])
    arm: str | None = Field(default=None, description="The arm that answered, in an experiment.")
    experiment: str | None = Field(default=None, description="The experiment.")
    ranking: Literal["ranked", "failed", "late"] | None = Field(
        default=None,
        description="With a ranker: its order, or that of retrieval because it failed or was late.",
    )


class Answers(BaseModel):
    """Answers in the order of the queries."""

    answers: list[Answer]


class Acknowledged(BaseModel):
    """The events are on disk."""

    new: list[bool] = Field(description="For each event whether it was new.")


class Status(BaseModel):
    """How the server is."""

    status: str = Field(examples=["ready"])


class Loaded(BaseModel):
    """The bundle that serves from now on."""

    model: str = Field(examples=["dat"])
    corpus: int = Field(description="Items that can be recommended.")


class Failure(BaseModel):
    """What was wrong."""

    error: str = Field(examples=["n: 0 items asked for; it should be 1 to 1000"])
