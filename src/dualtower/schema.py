"""What the columns of the user's tables mean."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class FeatureKind(StrEnum):
    """How a feature column is read and embedded."""

    CATEGORICAL = "categorical"
    """One value of a vocabulary per row (any type)."""
    MULTI_VALUED = "multi_valued"
    """A list of values of a vocabulary per row; their embeddings are averaged."""
    NUMERIC = "numeric"
    """A number per row; standardised, missing becomes the mean."""
    VECTOR = "vector"
    """A precomputed vector per row, all of one length (text or image embeddings)."""
    SEQUENCE = "sequence"
    """A list of item ids per row, encoded with the item vocabulary and the item embeddings."""


class Feature(BaseModel):
    """A feature column of the interactions (context), items or queries table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(min_length=1)
    """The column's name in the user's table."""
    kind: FeatureKind = FeatureKind.CATEGORICAL
    """How the column is read and embedded."""
    min_count: int = Field(default=1, ge=1)
    """Values of a vocabulary seen in fewer rows than this share the unknown row 0."""


class Schema(BaseModel):
    """The user's column names, mapped once, and the features of query, item and context."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    query_id: str = "user_id"
    """Column of the interactions and queries tables that names the query."""
    item_id: str = "item_id"
    """Column of the interactions and items tables that names the item."""
    query_id_in_queries: str | None = None
    """Column of the queries table that names the query, where it is not called as in `query_id`."""
    item_id_in_items: str | None = None
    """Column of the items table that names the item, where it is not called as in `item_id`."""
    timestamp: str | None = None
    """Column of the interactions that orders a query's log: datetime, date, or epoch seconds
    (docs/data.md)."""
    position: str | None = None
    """Column of the interactions that orders a log by whole numbers, where no time is known."""
    unordered: bool = False
    """The log has no order: each query's events are shuffled, and in training anew each epoch, so
    that nothing can be learned from how the table happens to be sorted; each is predicted from
    nearly all others (docs/data.md)."""
    weight: str | None = None
    """Column of the interactions with a non-negative weight: how much each event counts in the
    training loss (docs/data.md). A rating is not one by itself."""
    split: str | None = None
    """Column of the interactions that says train, validation (or valid) or test; read with
    `split.by = "column"`, and refused with another split."""
    category: str | None = None
    """Column of the items table with the item's one category (for CAL and per-category metrics)."""
    query_features: tuple[Feature, ...] = ()
    """Columns of the queries table."""
    item_features: tuple[Feature, ...] = ()
    """Columns of the items table."""
    context_features: tuple[Feature, ...] = ()
    """Columns of the interactions table, known at request time (device, hour, city)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.timestamp is not None and self.position is not None:
            raise ValueError("give timestamp or position, not both: one order is enough")
        if self.unordered and (self.timestamp is not None or self.position is not None):
            raise ValueError("unordered contradicts timestamp and position: leave it or them out")
        for side in ("query_features", "item_features", "context_features"):
            names = [feature.name for feature in getattr(self, side)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{side}: {', '.join(twice)} given more than once")
        return self
