"""Days of traffic from a known click model, to try the report where the truth is known.

A query has an activity, an attraction to click and a level of order values of its own, the same on
every day and before the start, so its impressions are correlated, as those of real people are. Of
an arm only the rate of clicks, the rate of orders a click, and the value of an order differ.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import tomlkit
from pydantic import Field, model_validator

from dualtower.config import Settings
from dualtower.experiments.assignment import Arm, Experiment
from dualtower.experiments.observations import Before, Floats, Observations
from dualtower.files import replacing_file, write_text

FIRST_DAY = "2024-05-06"
_DAY_MICROSECONDS = 86_400_000_000
_LARGEST_RATE = 0.999


class ClickModel(Settings):
    """What the simulated queries do in the control."""

    visits_per_day: float = Field(default=0.6, gt=0)
    """Mean number of exposures of a query a day; Poisson."""
    activity_spread: float = Field(default=1.0, ge=0)
    """Coefficient of variation of that mean over queries; Gamma."""
    items_shown: int = Field(default=10, ge=1)
    """Impressions of an exposure."""
    click_rate: float = Field(default=0.06, gt=0, lt=0.5)
    """Mean probability of a click on an impression."""
    click_concentration: float = Field(default=20.0, gt=0)
    """Of the Beta distribution of that probability over queries: less is more heterogeneous."""
    order_rate: float = Field(default=0.15, gt=0, lt=0.5)
    """Probability that a click leads to an order."""
    order_value: float = Field(default=30.0, gt=0)
    """Mean worth of an order."""
    order_shape: float = Field(default=2.0, gt=0)
    """Of the Gamma distribution of a query's order values: less is more skewed."""
    value_spread: float = Field(default=0.5, ge=0)
    """Standard deviation of the logarithm of the queries' levels of order values."""


class Lift(Settings):
    """By how much an arm's rates differ from the control's: .05 is five in a hundred more."""

    clicks: float = Field(default=0.0, gt=-1)
    """In the probability of a click, so in CTR; GMV grows by as much."""
    orders: float = Field(default=0.0, gt=-1)
    """In the probability of an order after a click."""
    value: float = Field(default=0.0, gt=-1)
    """In the worth of an order."""

    @property
    def ctr(self) -> float:
        """The true lift in CTR."""
        return self.clicks

    @property
    def gmv(self) -> float:
        """The true lift in GMV per query."""
        return (1 + self.clicks) * (1 + self.orders) * (1 + self.value) - 1


class Plan(Settings):
    """One simulated experiment."""

    queries: int = Field(default=10_000, ge=1)
    """Of all arms together; those that never come in these days are not in the result."""
    days: int = Field(default=7, ge=1, le=366)
    days_before: int = Field(default=14, ge=0)
    """Of the time before the start; 0 for none."""
    shares: dict[str, float] = Field(default={"control": 0.5, "treatment": 0.5}, min_length=1)
    """How the queries in truth are divided, by arm, the control first."""
    lifts: dict[str, Lift] = Field(default_factory=dict)
    """By arm; none where it is left out."""
    model: ClickModel = ClickModel()

    @model_validator(mode="after")
    def _fits(self) -> "Plan":
        for arm in self.lifts:
            if arm not in self.shares:
                raise ValueError(f"lifts: {arm!r} is no arm; they are {', '.join(self.shares)}")
        if any(share <= 0 for share in self.shares.values()):
            raise ValueError("shares: every arm's must be above 0")
        return self


def simulate(
    plan: Plan, generator: np.random.Generator, *, arm: Sequence[int] | None = None
) -> Observations:
    """One experiment.

    Args:
        plan: what happens in it.
        generator: of all that is by chance.
        arm: each query's arm, as a place in `plan.shares`, where something else has assigned it;
            else it is drawn.

    Returns:
        Sums of the queries that came, in order; their ids are their numbers, from 0, among all.
        What they did before is there too unless `days_before` is 0.
    """
    model, count = plan.model, plan.queries
    shares = np.array(list(plan.shares.values()))
    if arm is None:
        arms = generator.choice(len(shares), size=count, p=shares / shares.sum())
    else:
        arms = np.asarray(arm, dtype=np.int64)
    visits_mean = _gamma(generator, model.visits_per_day, model.activity_spread, count)
    attraction = generator.beta(
        model.click_rate * model.click_concentration,
        (1 - model.click_rate) * model.click_concentration,
        size=count,
    )
    sigma = model.value_spread
    level = model.order_value * np.exp(generator.normal(-(sigma**2) / 2, sigma, size=count))
    lifts = [plan.lifts.get(name, Lift()) for name in plan.shares]
    clicks_by, orders_by, value_by = (
        np.array([1 + getattr(lift, name) for lift in lifts])[arms]
        for name in ("clicks", "orders", "value")
    )
    visits = generator.poisson(visits_mean[:, None], size=(count, plan.days))
    impressions, clicks, orders, gmv = _behaviour(
        generator,
        model,
        visits,
        (attraction * clicks_by)[:, None],
        (model.order_rate * orders_by)[:, None],
        (level * value_by)[:, None],
    )
    came = np.flatnonzero(visits.any(axis=1))
    before = None
    if plan.days_before:
        earlier = generator.poisson(visits_mean * plan.days_before)
        found = _behaviour(generator, model, earlier, attraction, model.order_rate, level)
        before = Before(impressions=found[0][came], clicks=found[1][came], gmv=found[3][came])
    return Observations(
        arms=tuple(plan.shares),
        query_ids=pl.Series(came),
        arm=arms[came].astype(np.int64),
        exposed=visits[came].astype(bool).argmax(axis=1).astype(np.int64),
        impressions=impressions[came],
        clicks=clicks[came],
        orders=orders[came],
        gmv=gmv[came],
        first_day=FIRST_DAY,
        before=before,
    )


def events_of(observations: Observations, experiment: str) -> pl.DataFrame:
    """The log that `read_observations` adds up to the same sums.

    One exposure (of all impressions), one click (of all clicks) and one row for the orders' worth,
    a query and day, in the order of time.

    Args:
        observations: of queries without orders on days without an exposure.
        experiment: its name.
    """
    start = np.datetime64(observations.first_day, "us").astype(np.int64)
    parts = []
    kinds = (
        ("exposure", observations.impressions, observations.impressions),
        ("click", observations.clicks, observations.clicks),
        ("order", observations.gmv, observations.gmv),
    )
    for place, (kind, counts, values) in enumerate(kinds):
        query, day = np.nonzero(counts)
        second = 3_600 * (6 + 4 * place) + query % 3_600
        parts.append(
            pl.DataFrame(
                {
                    "query_id": observations.query_ids.gather(query),
                    "experiment": experiment,
                    "arm": pl.Series(observations.arms).gather(observations.arm[query]),
                    "kind": kind,
                    "timestamp": start + day * _DAY_MICROSECONDS + second * 1_000_000,
                    "value": values[query, day],
                }
            )
        )
    events = pl.concat(parts).with_columns(pl.col("timestamp").cast(pl.Datetime("us")))
    return events.sort("timestamp", "query_id")


def events_before(observations: Observations) -> pl.DataFrame:
    """The log of the time before the start, as `read_observations` takes it; perhaps empty."""
    parts = [
        pl.DataFrame(schema={"query_id": pl.Int64, "kind": pl.String, "value": pl.Float64}),
    ]
    if observations.before is not None:
        earlier = observations.before
        kinds = (
            ("exposure", earlier.impressions),
            ("click", earlier.clicks),
            ("order", earlier.gmv),
        )
        for kind, values in kinds:
            query = np.flatnonzero(values)
            parts.append(
                pl.DataFrame(
                    {
                        "query_id": observations.query_ids.gather(query),
                        "kind": kind,
                        "value": values[query],
                    }
                )
            )
    return pl.concat(parts)


def simulated_experiment(plan: Plan, seed: int) -> tuple[Experiment, Observations]:
    """What was planned, and one simulation of it.

    Args:
        plan: what happens.
        seed: of all that is by chance.
    """
    arms = tuple(Arm(name=name, weight=share, bundle=name) for name, share in plan.shares.items())
    planned = Experiment(
        name="simulated",
        salt="simulated",
        arms=arms,
        days=plan.days,
        expected_queries=max(plan.queries, 2),
    )
    return planned, simulate(plan, np.random.default_rng(seed))


def write_simulated(folder: str | Path, experiment: Experiment, observations: Observations) -> None:
    """Write experiment.toml, events.parquet and before.parquet, as the commands take them.

    Args:
        folder: made where it does not exist.
        experiment: what was planned.
        observations: what was simulated.
    """
    written = {
        "events.parquet": events_of(observations, experiment.name),
        "before.parquet": events_before(observations),
    }
    for name, table in written.items():
        with replacing_file(Path(folder) / name) as beside:
            table.write_parquet(beside)
    text = tomlkit.dumps(experiment.model_dump(mode="json", exclude_none=True))
    write_text(Path(folder) / "experiment.toml", text)


def _behaviour(
    generator: np.random.Generator,
    model: ClickModel,
    visits: npt.NDArray[np.int64],
    click_rate: Floats,
    order_rate: Floats | float,
    value: Floats,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Impressions, clicks, orders and their worth, of the shape of `visits`."""
    shown = visits * model.items_shown
    clicks = generator.binomial(shown, np.minimum(click_rate, _LARGEST_RATE))
    orders = generator.binomial(clicks, np.minimum(order_rate, _LARGEST_RATE))
    worth = generator.standard_gamma(model.order_shape * orders) * value / model.order_shape
    return shown.astype(float), clicks.astype(float), orders.astype(float), worth


def _gamma(generator: np.random.Generator, mean: float, spread: float, count: int) -> Floats:
    if spread == 0:
        return np.full(count, mean)
    shape = 1 / spread**2
    return generator.gamma(shape, mean / shape, size=count)
