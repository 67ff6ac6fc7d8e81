"""The page's replies as OpenAPI shows them."""

from pydantic import BaseModel, Field


class ArmFacts(BaseModel):
    """One bundle that is served."""

    arm: str | None = Field(description="Its name; null without an experiment.")
    model: str = Field(examples=["dat"])
    corpus: int = Field(description="Items that can be recommended.")


class About(BaseModel):
    """What is served."""

    arms: list[ArmFacts] = Field(description="The control first.")
    experiment: str | None
    ranker: bool = Field(description="Whether a ranker orders what POST /recommend answers.")
    days: int | None = Field(description="Planned for the experiment.")
    events: bool = Field(description="Whether the server keeps events.")
    max_n: int


class Queries(BaseModel):
    """Some queries with a history."""

    queries: list[str] = Field(examples=[["u1", "u7"]])


class PastEvent(BaseModel):
    """One event of a history."""

    item: str = Field(examples=["i3"])
    category: str | None = Field(examples=["tea"])
    live: bool = Field(description="Whether it came after the bundle was built.")


class History(BaseModel):
    """What a query did."""

    query_id: str
    stored: int = Field(description="Events that the bundle holds.")
    live: int = Field(description="Events since, of items that have a vector.")
    events: list[PastEvent] = Field(description="The latest first.")


class ArmCandidates(BaseModel):
    """The candidates of one arm, best first."""

    arm: str | None
    model: str
    answers: bool = Field(description="Whether POST /recommend answers the query from this arm.")
    items: list[str]
    categories: list[str | None]
    scores: list[float]


class Candidates(BaseModel):
    """The candidates of every arm."""

    query_id: str
    arms: list[ArmCandidates]


class ArmChart(BaseModel):
    """The chart of one arm."""

    arm: str
    svg: str


class Chart(BaseModel):
    """The experiment day by day."""

    charts: list[ArmChart] = Field(description="One for each arm but the control.")
    guardrails: list[list[str]] = Field(
        description="Titles, then a row for each arm, with 95% intervals; empty without latencies."
    )
    verdicts: list[str]
    notes: list[str]
