"""Whether the report of an experiment keeps its promises, in simulated weeks with known truth.

    python -m benchmarks.experiments

Each run is a week of traffic (`dualtower.experiments.simulator`), once with arms that do not differ
and once with a planted lift. It goes through the report itself too, which must say the same to 1e-9
or the benchmark stops; with `--checked 100` only the first weeks do, and it takes a minute. Rates
come with the 95% interval of the simulation itself (Wilson): at 4,000 runs ±.7 points at a rate of
5%, at 2,000 ±1, which would be all that the bars of ±1 point allow.

Writes results/experiments.json, which docs/experiments.md shows.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from math import sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from benchmarks.experiment_figures import NAMES, Figures, figures, largest_difference
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.evaluation.tables import results_table
from dualtower.experiments.assignment import Arm, Experiment
from dualtower.experiments.observations import Observations
from dualtower.experiments.report import make_report
from dualtower.experiments.simulator import Lift, Plan, simulate
from dualtower.experiments.statistics import ALPHA, BLOCK_BELOW, sample_ratio
from dualtower.progress import progress_bar

RUNS, QUERIES, DAYS, CHECKED = 4_000, 3_000, 7, 4_000
SAME = 1e-9
Z = float(norm.isf(ALPHA / 2))
SKEWED = (0.48, 0.52)
SKEWED_RUNS = 20_000
PLANTED = Lift(clicks=0.08, orders=0.03)
NOTHING, LIFTED = "no difference", "planted lift"

Row = dict[str, str | int | float]
BARS = {
    (NOTHING, "one look"): (0.04, 0.06),
    (NOTHING, "planned looks"): (0.0, 0.055),
    (NOTHING, "always valid"): (0.0, 0.055),
    (LIFTED, "lift in the interval"): (0.94, 0.96),
}
"""By scenario and procedure, the least and the largest rate promised."""


def experiment(queries: int) -> Experiment:
    """A planned week of two arms."""
    arms = tuple(Arm(name=name, bundle="none") for name in ("control", "treatment"))
    return Experiment(
        name="simulated", salt="simulated", arms=arms, days=DAYS, expected_queries=queries
    )


def naive_p(observations: Observations) -> float:
    """The p-value of two proportions of impressions, as if these did not come in queries."""
    arm = observations.arm
    shown = np.array([observations.impressions[arm == place].sum() for place in (0, 1)])
    clicks = np.array([observations.clicks[arm == place].sum() for place in (0, 1)])
    pooled = clicks.sum() / shown.sum()
    error = sqrt(pooled * (1 - pooled) * (1 / shown).sum())
    return float(2 * norm.sf(abs(clicks[1] / shown[1] - clicks[0] / shown[0]) / error))


def judge(found: Figures, observations: Observations) -> Iterator[tuple[str, str, bool]]:
    """Procedure, metric, and whether it found something (or holds the truth) in one run."""
    yield "naive z on impressions", "ctr", naive_p(observations) < ALPHA
    truth = {"ctr": PLANTED.ctr, "gmv": PLANTED.gmv}
    size = np.abs(found.z)
    for place, name in enumerate(NAMES):
        yield "one look", name, bool(size[-1, place] > Z)
        yield "naive peeking", name, bool((size[:, place] > Z).any())
        yield "planned looks", name, bool((size[:, place] > found.planned).any())
        yield "always valid", name, bool((size[:, place] > found.always).any())
        metric = name.removesuffix(" cuped")
        if metric in truth:
            low, high = found.low[-1, place], found.high[-1, place]
            yield "lift in the interval", name, bool(low <= truth[metric] <= high)


def scenario(name: str, runs: int, queries: int, checked: int) -> list[Row]:
    """How often each procedure found something, over simulated weeks.

    Args:
        name: `NOTHING` or `LIFTED`.
        runs: how many weeks.
        queries: of each week.
        checked: how many of them also go through the report.
    """
    lifts = {"treatment": PLANTED} if name == LIFTED else {}
    plan, planned = Plan(queries=queries, days=DAYS, lifts=lifts), experiment(queries)
    seeds = np.random.SeedSequence([0, int(name == LIFTED)]).spawn(runs)
    counts: Counter[tuple[str, str]] = Counter()
    judged: dict[tuple[str, str], None] = {}
    blocked = 0
    with progress_bar(name, runs, "weeks") as bar:
        for place, seed in enumerate(seeds):
            observations = simulate(plan, np.random.default_rng(seed))
            sizes = np.bincount(observations.arm, minlength=2)
            if 2 * norm.sf(srm_z(sizes)) < BLOCK_BELOW:
                blocked += 1
                continue
            found = figures(observations, planned.winsorise, planned.expected_queries)
            if place < checked:
                report = make_report(observations, planned, daily=False)
                difference = largest_difference(found, report)
                if difference > SAME:
                    raise SystemExit(f"{name}, week {place}: differs from the report: {difference}")
            for procedure, metric, positive in judge(found, observations):
                counts[procedure, metric] += positive
                judged[procedure, metric] = None
            bar.advance()
    rows = [
        row(name, procedure, metric, counts[procedure, metric], runs - blocked)
        for procedure, metric in sorted(judged)
        if name == LIFTED or procedure != "lift in the interval"
    ]
    return [*rows, row(name, "blocked by the sample ratio", "", blocked, runs)]


def srm_z(sizes: npt.NDArray[np.int64]) -> float:
    """How far two arms of equal weight are from half each, with continuity correction."""
    total = int(sizes.sum())
    return max(abs(int(sizes[1]) - total / 2) - 0.5, 0.0) / sqrt(total / 4)


def skewed(runs: int) -> list[Row]:
    """How often the sample ratio finds 52 to 48 where 50 to 50 was planned."""
    rows = []
    for queries in (10_000, 20_000):
        treated = np.random.default_rng(1).binomial(queries, SKEWED[1], size=runs)
        sizes, times = np.unique(treated, return_counts=True)
        p_values = np.array(
            [
                sample_ratio(
                    {"control": queries - int(size), "treatment": int(size)},
                    {"control": 1.0, "treatment": 1.0},
                ).p_value
                for size in sizes
            ]
        )
        for below in (0.05, 0.01, 0.001):
            found = int(times[p_values < below].sum())
            name = f"sample ratio, p < {below:g}"
            rows.append(row(f"52/48 of {queries:,} queries", name, "", found, runs))
    return rows


def row(scenario: str, procedure: str, metric: str, found: int, runs: int) -> Row:
    """A rate with its interval, and whether it keeps its bar."""
    low, high = wilson(found, runs)
    bar = BARS.get((scenario, procedure))
    rate = found / runs
    kept = "" if bar is None else ("yes" if bar[0] <= rate <= bar[1] else "no")
    return {
        "scenario": scenario,
        "procedure": procedure,
        "metric": metric,
        "rate": round(rate, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "runs": runs,
        "bar": "" if bar is None else f"{bar[0]:.1%} to {bar[1]:.1%}",
        "kept": kept,
    }


def wilson(found: int, runs: int) -> tuple[float, float]:
    """The 95% interval of a rate."""
    z = float(norm.isf(ALPHA / 2))
    rate, share = found / runs, z * z / runs
    centre, width = rate + share / 2, z * sqrt(rate * (1 - rate) / runs + share / (4 * runs))
    return (centre - width) / (1 + share), (centre + width) / (1 + share)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS, help="simulated weeks a scenario")
    parser.add_argument("--queries", type=int, default=QUERIES, help="of each week")
    parser.add_argument("--checked", type=int, default=CHECKED, help="of them through the report")
    parser.add_argument("--results", type=Path, default=Path("results/experiments.json"))
    options = parser.parse_args()
    names = (NOTHING, LIFTED)
    common = [[value] * 2 for value in (options.runs, options.queries, options.checked)]
    with ProcessPoolExecutor(2) as processes:
        found = [*processes.map(scenario, names, *common), skewed(SKEWED_RUNS)]
    results = Measurements(
        command=f"python -m benchmarks.experiments --runs {options.runs} "
        f"--queries {options.queries} --checked {options.checked}",
        protocol=f"{options.runs:,} simulated weeks a scenario, each of {options.queries:,} "
        f"queries with correlated impressions and 14 days before, with {DAYS} daily looks; "
        f"the first {options.checked:,} of each through the report too, which says the same to "
        f"{SAME:g}; planted lift {PLANTED.ctr:+.2%} in CTR and {PLANTED.gmv:+.2%} in GMV per "
        "query; rates are of runs with something significant at 5%, or with the true lift inside "
        "the 95% interval; low and high are the simulation's own 95% interval",
        versions=versions(),
        processor=processor(),
        runs=tuple(row for rows in found for row in rows),
    )
    write_results(options.results, results)
    print(results_table(results))


if __name__ == "__main__":
    main()
