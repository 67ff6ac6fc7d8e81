"""Which arm of an experiment a query sees: the same one always, by a hash of salt and id."""

import os
from bisect import bisect_right
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from dualtower.config import Settings, validate
from dualtower.files import read_toml

Metric = Literal["ctr", "gmv"]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
_HASH_BYTES = 8
_HASHES = 2 ** (8 * _HASH_BYTES)


class Arm(Settings):
    """One of the treatments that an experiment compares."""

    name: Name
    """What events and reports call it."""
    weight: float = Field(default=1.0, gt=0)
    """Its share of the queries is this over the sum of all arms' weights."""
    bundle: str
    """Folder of the bundle that answers its queries."""


class Experiment(Settings):
    """Arms, who sees which, and what was planned before the start."""

    name: Name
    """What events and reports call it."""
    salt: Name
    """Hashed with every id: experiments with different salts divide the queries independently."""
    arms: tuple[Arm, ...] = Field(min_length=2, max_length=64)
    """The first is the control, which every other is compared with."""
    ranker: Name | None = None
    """Function that orders the candidates of every arm, as package.module:function; whoever serves
    the experiment imports it."""
    days: int = Field(default=7, ge=1, le=366)
    """How many days were planned; each is one look at the data for the sequential bounds."""
    primary: Metric = "ctr"
    """The metric that decides; the others are guardrails."""
    winsorise: float = Field(default=0.99, gt=0.5, lt=1)
    """In the winsorised variant a query's GMV counts up to this quantile of those that ordered."""
    expected_queries: int = Field(default=10_000, ge=2)
    """Of all arms together by the end: there the always-valid interval is tightest."""

    @field_validator("arms")
    @classmethod
    def _arms_told_apart(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        names = [arm.name for arm in arms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} names two arms; each needs a name of its own")
        if sum(arm.weight for arm in arms) == float("inf"):
            raise ValueError("the weights add up to more than a number can hold; scale them down")
        return arms

    @property
    def control(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def shares(self) -> dict[str, float]:
        """Each arm's share of the queries, by name."""
        total = sum(arm.weight for arm in self.arms)
        return {arm.name: arm.weight / total for arm in self.arms}

    def arm_of(self, query_id: str | int) -> Arm:
        """The arm that a query sees, known or not; it depends on salt, id, weights and order only.

        Args:
            query_id: external id; 12 and "12" are the same query.
        """
        text = f"{self.salt}\0{query_id}".encode("utf-8", "surrogatepass")
        number = int.from_bytes(blake2b(text, digest_size=_HASH_BYTES).digest(), "big")
        return self.arms[bisect_right(self._ends, number)]

    @cached_property
    def _ends(self) -> list[int]:
        """Where each arm's part of the hashes ends, but for the last, which has the rest."""
        sums = list(accumulate(self.shares.values()))
        return [round(share * _HASHES) for share in sums[:-1]]


def load_experiment(path: str | Path) -> Experiment:
    """Read an experiment's TOML file.

    Relative paths of bundles are relative to the file's folder and come back absolute.

    Raises:
        ConfigError: no such file, not TOML, or a field that is not valid.
    """
    file = Path(path)
    values = read_toml(
        file, "no such file; an experiment is a TOML file with name, salt and [[arms]]"
    )
    experiment = validate(Experiment, values, str(file))
    folder = file.resolve().parent
    arms = tuple(
        arm.model_copy(update={"bundle": os.path.normpath(folder / arm.bundle)})
        for arm in experiment.arms
    )
    return experiment.model_copy(update={"arms": arms})
