"""From a log to the requests that the server answered, or not, for the guardrails."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.rules import Rule
from dualtower.data.tables import Table, collect, open_table
from dualtower.experiments.observations import (
    NOTHING_KINDS,
    Floats,
    arm_rule,
    checked_rows,
    distinct,
    event_rules,
    require_log_columns,
)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Requests:
    """The requests of one experiment; every query is in one arm."""

    arms: tuple[str, ...]
    """Names; the first is the control."""
    query: npt.NDArray[np.int64]
    """Each request's query, numbered from 0, `[requests]`."""
    arm: npt.NDArray[np.int64]
    """Each request's arm, as a place in `arms`, `[requests]`."""
    latency: Floats
    """Seconds inside the server, `[requests]`; those of errors count for nothing."""
    error: Flags
    """Which ended in an error, `[requests]`."""
    empty: Flags
    """Which were answered without an item, `[requests]`."""
    short: Flags
    """Which were answered with fewer items than they asked for, the empty ones too."""
    unmeasured: int = 0
    """Exposures without latency or number asked for: of an earlier version or another system."""


def read_requests(events: Any, experiment: str, arms: Sequence[str]) -> Requests:
    """The requests of an experiment's log.

    A request is an exposure or an `empty` with `latency` (seconds) and `asked` (items asked for;
    `value` is how many were shown), or an `error`. Queries with requests in more than one arm are
    left out. The times do not matter.

    Args:
        events: table as `read_observations` takes it; the columns latency and asked may lack.
        experiment: whose rows count.
        arms: names of the arms, the control first.

    Raises:
        DataError: a table that cannot be read, a missing column, a row that is not as it should be,
            or an arm that the experiment does not have.
    """
    table = open_table(events, "events", id_columns=("query_id",))
    require_log_columns(table, "query_id", "experiment", "arm", "kind")
    kind = pl.col("kind").cast(pl.String)
    mine = checked_rows(table, experiment, [*event_rules(table), arm_rule(arms), *_rules(table)])
    columns = [
        pl.col("query_id").cast(pl.String).alias("query"),
        pl.col("arm").cast(pl.String),
        kind.alias("kind"),
        *(_number(table, name) for name in ("value", "latency", "asked")),
        *([pl.col("event_id")] if "event_id" in table.schema else []),
    ]
    shown = mine & kind.is_in(["exposure", *NOTHING_KINDS])
    rows = collect(table, distinct(table, table.frame.filter(shown).select(columns)))
    complete = pl.col("latency").is_not_null() & pl.col("asked").is_not_null()
    measured = complete | (pl.col("kind") == "error")
    found = rows.filter(measured & (pl.col("arm").n_unique().over("query") == 1))
    codes = pl.Series(arms, dtype=pl.String).to_frame("arm").with_row_index("code")
    found = found.join(codes, on="arm", how="left", maintain_order="left").with_columns(
        number=pl.col("query").rank("dense").cast(pl.Int64) - 1
    )
    error = (found["kind"] == "error").to_numpy()
    empty = (found["kind"] == "empty").to_numpy()
    fewer = (found["value"].fill_null(1) < found["asked"].fill_null(1)).to_numpy()
    return Requests(
        arms=tuple(arms),
        query=found["number"].to_numpy(),
        arm=found["code"].cast(pl.Int64).to_numpy(),
        latency=found["latency"].fill_null(0.0).to_numpy(),
        error=error,
        empty=empty,
        short=~error & (empty | fewer),
        unmeasured=rows.filter(~measured).height,
    )


def _number(table: Table, name: str) -> pl.Expr:
    """A column of numbers, null where there is none."""
    found = pl.col(name) if name in table.schema else pl.lit(None)
    return found.cast(pl.Float64).alias(name)


def _rules(table: Table) -> list[Rule]:
    rules = []
    for name, least, right in (
        ("latency", 0.0, "is no time; it should be seconds, 0 or more, or nothing"),
        ("asked", 1.0, "is no number of items; it should be 1 or more, or nothing"),
    ):
        if name in table.schema:
            number = pl.col(name).cast(pl.Float64, strict=False)
            broken = pl.col(name).is_not_null() & ~((number >= least) & number.is_finite())
            rules.append(Rule(name, broken.fill_null(True), right))
    return rules
