"""From a log of exposures, clicks and orders to sums per query and day, the unit of all tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.config import Settings
from dualtower.data.rules import Rule, check_rules
from dualtower.data.tables import Table, collect, open_table, require_columns
from dualtower.data.times import microseconds
from dualtower.errors import DataError

Floats = npt.NDArray[np.float64]
KINDS = ("exposure", "click", "order")
NOTHING_KINDS = ("empty", "error")
"""Requests that showed nothing, for the guardrails (`requests.py`); no sum counts them."""
_DAY = 86_400_000_000
_MOST_DAYS = 366


class LeftOut(Settings):
    """What does not enter the sums, and why."""

    elsewhere: int = 0
    """Rows of other experiments, or of none."""
    repeated: int = 0
    """Rows whose event id stood in an earlier row already; the earliest one counts."""
    crossed_queries: int = 0
    """Queries with events in more than one arm: all their rows are left out."""
    unexposed_queries: int = 0
    """Queries with clicks or orders and no exposure: all their rows are left out."""
    early: int = 0
    """Clicks and orders before the query's first exposure, which no arm can have caused."""


@dataclass(frozen=True)
class Before:
    """What each query did before the experiment: the covariate of CUPED, `[queries]` each."""

    impressions: Floats
    clicks: Floats
    gmv: Floats


@dataclass(frozen=True)
class Observations:
    """Sums per query and day of one experiment; every query is in one arm."""

    arms: tuple[str, ...]
    """Names; the first is the control."""
    query_ids: pl.Series
    """Each query's id, `[queries]`."""
    arm: npt.NDArray[np.int64]
    """Each query's arm, as a place in `arms`, `[queries]`."""
    exposed: npt.NDArray[np.int64]
    """The day of each query's first exposure, from 0, `[queries]`."""
    impressions: Floats
    """Items shown, `[queries, days]`."""
    clicks: Floats
    """Items clicked, `[queries, days]`."""
    orders: Floats
    """Orders placed, `[queries, days]`."""
    gmv: Floats
    """Value of the orders, in the log's currency, `[queries, days]`."""
    first_day: str
    """Day 0, as an ISO date in UTC."""
    before: Before | None = None
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: tuple[str, ...] = ()
    """What was guessed in reading."""

    @property
    def days(self) -> int:
        """How many days there are, those without events included."""
        return int(self.impressions.shape[1])

    def date(self, day: int) -> str:
        """A day as an ISO date."""
        return (datetime.fromisoformat(self.first_day) + timedelta(days=day)).date().isoformat()


def read_observations(
    events: Any, experiment: str, arms: Sequence[str], *, before: Any = None
) -> Observations:
    """Add up an experiment's events by query and UTC day.

    A row is an exposure (`value`: how many items were shown), a click (`value`: how many items) or
    an order (`value`: its worth). An exposure or a click without a value, or with 0, counts 1.
    With a column `event_id` each id counts once; without it, rows that are alike all count. The
    arm of a click or order may be null: it is the query's. Requests that showed nothing (kinds
    `empty` and `error`) are passed over.

    Args:
        events: table with the columns query_id, experiment, arm, kind, timestamp and, if orders or
            several items a row are to count, value: as `open_table` takes it (Parquet, CSV, a
            frame, lazy too).
        experiment: whose rows count.
        arms: names of the arms, the control first.
        before: table of the time before the start with query_id, kind and value, for CUPED. Where
            it has timestamps, rows from the experiment's first exposure on do not count.

    Raises:
        DataError: a table that cannot be read, a missing column, a row that is not as it should be,
            an arm that the experiment does not have, or no exposures.
    """
    table = open_table(events, "events", id_columns=("query_id",))
    require_log_columns(table, "query_id", "experiment", "arm", "kind", "timestamp")
    # Others may write in another unit, which the size of the numbers tells.
    time, time_rule, note = microseconds(_part(table, _rows_of(experiment)), "timestamp")
    rules = [*event_rules(table), time_rule, arm_rule(arms)]
    of_experiment = checked_rows(table, experiment, rules)
    mine = of_experiment & pl.col("kind").cast(pl.String).is_in(KINDS)
    arm = pl.col("arm").cast(pl.String)
    rows = table.frame.filter(mine).select(*_columns(table), arm=arm, time=time)
    once = distinct(table, rows)
    exposures = pl.col("time").filter(pl.col("kind") == "exposure")
    found = collect(
        table,
        once.group_by("query").agg(
            pl.len().alias("rows"),
            pl.col("arm").drop_nulls().n_unique().alias("different"),
            pl.col("arm").drop_nulls().first(),
            exposures.min().alias("exposed_at"),
        ),
    )
    kept = found.filter((pl.col("different") == 1) & pl.col("exposed_at").is_not_null()).sort(
        "query"
    )
    if kept.is_empty():
        raise DataError(
            f"{table.name}: no query has an exposure in one arm of experiment {experiment!r}; "
            "rows of kind 'exposure' say which queries saw which arm"
        )
    start = int(kept["exposed_at"].min())  # type: ignore[arg-type]
    first = start // _DAY
    earlier, late = (None, []) if before is None else _before(before, kept.select("query"), start)
    numbered = kept.select("query", "exposed_at", place=pl.int_range(pl.len()))
    joined = once.join(numbered.lazy(), on="query")
    daily = collect(
        table,
        joined.filter(pl.col("time") >= pl.col("exposed_at"))
        .group_by("place", (pl.col("time") // _DAY - first).alias("day"))
        .agg(*_sums(), pl.len().alias("rows")),
    )
    days = int(daily["day"].max()) + 1  # type: ignore[arg-type]
    if days > _MOST_DAYS:
        raise DataError(
            f"{table.name}: column 'timestamp': the events of experiment {experiment!r} span "
            f"{days:,} days; at most {_MOST_DAYS} are reported, so the timestamps may be wrong"
        )
    counts = collect(
        table, table.frame.select(elsewhere=of_experiment.not_().sum(), mine=mine.sum())
    ).row(0)
    crossed, unexposed = pl.col("different") > 1, pl.col("exposed_at").is_null()
    sums = {
        name: _dense(daily, name, len(kept), days)
        for name in ("impressions", "clicks", "orders", "gmv")
    }
    codes = pl.Series(arms, dtype=pl.String).to_frame("arm").with_row_index("code")
    return Observations(
        arms=tuple(arms),
        query_ids=kept["query"],
        arm=kept.join(codes, on="arm", how="left", maintain_order="left")["code"]
        .cast(pl.Int64)
        .to_numpy(),
        exposed=(kept["exposed_at"] // _DAY - first).to_numpy().astype(np.int64),
        **sums,
        first_day=datetime.fromtimestamp(first * 86_400, UTC).date().isoformat(),
        before=earlier,
        left_out=LeftOut(
            elsewhere=counts[0],
            repeated=counts[1] - int(found["rows"].sum()),
            crossed_queries=found.filter(crossed).height,
            unexposed_queries=found.filter(unexposed & ~crossed).height,
            early=int(kept["rows"].sum()) - int(daily["rows"].sum()),
        ),
        notes=(*([] if note is None else [note]), *late),
    )


def query_sums(events: Any) -> pl.DataFrame:
    """Impressions, clicks, orders and GMV per query of a table, whatever its experiments and arms.

    Args:
        events: table with query_id, kind and, if orders or several items a row are to count, value.

    Raises:
        DataError: as `read_observations`.
    """
    return _sums_of(_opened(events))


def _opened(events: Any) -> Table:
    table = open_table(events, "events", id_columns=("query_id",))
    require_log_columns(table, "query_id", "kind")
    check_rules(table, event_rules(table))
    return table


def _sums_of(table: Table) -> pl.DataFrame:
    counted = pl.col("kind").cast(pl.String).is_in(KINDS)
    rows = distinct(table, table.frame.filter(counted).select(*_columns(table)))
    return collect(table, rows.group_by("query").agg(*_sums())).sort("query")


def _before(source: Any, queries: pl.DataFrame, start: int) -> tuple[Before, list[str]]:
    """What the queries did before `start`, and what a reader has to know of the table.

    What came after the start is no covariate: the arms differ in it.
    """
    table, notes = _opened(source), []
    if "timestamp" in table.schema:
        time, rule, _ = microseconds(table, "timestamp")
        check_rules(table, [rule])
        late = collect(table, table.frame.select((time >= start).sum())).item()
        table = _part(table, time < start)
        if late:
            notes.append(
                f"{late:,} rows of the table of the time before are from the experiment's first "
                "exposure on, and are left out of it."
            )
    joined = queries.join(_sums_of(table), on="query", how="left", maintain_order="left")
    impressions, clicks, gmv = (
        joined[name].fill_null(0.0).to_numpy() for name in ("impressions", "clicks", "gmv")
    )
    return Before(impressions=impressions, clicks=clicks, gmv=gmv), notes


def _part(table: Table, rows: pl.Expr) -> Table:
    """Some rows of a table."""
    parts = tuple((name, part.filter(rows)) for name, part in table.parts)
    return replace(table, frame=table.frame.filter(rows), parts=parts)


def _rows_of(experiment: str) -> pl.Expr:
    return (pl.col("experiment").cast(pl.String) == experiment).fill_null(False)


def _columns(table: Table) -> list[pl.Expr]:
    has_value = "value" in table.schema
    value = pl.col("value").cast(pl.Float64) if has_value else pl.lit(None, dtype=pl.Float64)
    columns = [
        pl.col("query_id").cast(pl.String).alias("query"),
        pl.col("kind").cast(pl.String),
        pl.when((value > 0) | (pl.col("kind") == "order"))
        .then(value)
        .otherwise(1.0)
        .alias("value"),
    ]
    return [*columns, *([pl.col("event_id")] if "event_id" in table.schema else [])]


def require_log_columns(table: Table, *names: str) -> None:
    """Check that an experiment's log has the columns called so, which no setting renames.

    Raises:
        DataError: one is missing; the message lists what is there.
    """
    remedy = "The log of an experiment has these names (docs/experiments.md): rename its columns."
    require_columns(table, {name: name for name in names}, remedy=remedy)


def checked_rows(table: Table, experiment: str, rules: Sequence[Rule]) -> pl.Expr:
    """Which rows are the experiment's, after a check that those rows keep the rules.

    Raises:
        DataError: one of them breaks a rule.
    """
    mine = _rows_of(experiment)
    check_rules(table, [rule.among(mine) for rule in rules])
    return mine


def distinct(table: Table, rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row an event id, the earliest; all rows where there are no ids."""
    if "event_id" not in table.schema:
        return rows
    if "time" in rows.collect_schema():
        rows = rows.sort("time", maintain_order=True)
    return rows.unique("event_id", keep="first", maintain_order=True)


def _sums() -> list[pl.Expr]:
    value, kind = pl.col("value"), pl.col("kind")
    return [
        value.filter(kind == "exposure").sum().alias("impressions"),
        value.filter(kind == "click").sum().alias("clicks"),
        (kind == "order").sum().cast(pl.Float64).alias("orders"),
        value.filter(kind == "order").sum().alias("gmv"),
    ]


def event_rules(table: Table) -> list[Rule]:
    """What every row of a log must be, whatever its experiment.

    Raises:
        DataError: a column of the wrong type.
    """
    kind = pl.col("kind").cast(pl.String)
    rules = [
        Rule("query_id", pl.col("query_id").is_null(), "is missing; every event is some query's"),
        Rule(
            "kind",
            ~kind.is_in([*KINDS, *NOTHING_KINDS]) | kind.is_null(),
            f"is not a kind of event; it must be {', '.join(KINDS[:-1])} or {KINDS[-1]}",
        ),
    ]
    if "event_id" in table.schema:
        missing = pl.col("event_id").is_null()
        rules.append(Rule("event_id", missing, "is missing; leave the column out or fill it"))
    if "value" not in table.schema:
        without = "is 'order', and there is no column 'value' with its worth"
        return [*rules, Rule("kind", kind == "order", without)]
    if not table.schema["value"].is_numeric() and table.schema["value"] != pl.Null:
        raise DataError(
            f"{table.name}: column 'value' is of type {table.schema['value']}; it must hold numbers"
        )
    value = pl.col("value").cast(pl.Float64)
    broken = (value.is_null() & (kind == "order")) | ~value.is_finite() | (value < 0)
    problem = "is not a value; an order needs its worth, a number, 0 or more"
    return [*rules, Rule("value", broken, problem)]


def arm_rule(arms: Sequence[str]) -> Rule:
    """That the arm is one of the experiment's; only clicks and orders may leave it out."""
    arm = pl.col("arm").cast(pl.String)
    needs_arm = pl.col("kind").cast(pl.String).is_in(["exposure", *NOTHING_KINDS])
    broken = (arm.is_null() & needs_arm) | (arm.is_not_null() & ~arm.is_in(list(arms)))
    known = ", ".join(arms)
    return Rule("arm", broken, f"is not an arm of the experiment; they are {known}")


def _dense(daily: pl.DataFrame, name: str, queries: int, days: int) -> Floats:
    """A column of sums as `[queries, days]`."""
    sums = np.zeros((queries, days))
    sums[daily["place"].to_numpy(), daily["day"].to_numpy()] = daily[name].to_numpy()
    return sums
