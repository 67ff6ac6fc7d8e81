"""What must hold for every row of a table, and the message where it does not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import polars as pl

from dualtower.data.tables import Table, collect, reading
from dualtower.errors import DataError


@dataclass(frozen=True)
class Rule:
    """A fault that a row can have."""

    column: str
    """The column it is in."""
    broken: pl.Expr
    """True for the rows at fault; null counts as false."""
    problem: str
    """What is wrong with the value, and what would be right."""

    def among(self, rows: pl.Expr) -> Self:
        """The same rule for some of the rows."""
        return replace(self, broken=self.broken & rows)


def check_rules(table: Table, rules: Sequence[Rule]) -> None:
    """Check all rules in one pass over the table.

    Raises:
        DataError: a row breaks a rule; the message names table, row (from 1), column and value.
    """
    if not rules:
        return
    flags = [rule.broken.any().alias(str(number)) for number, rule in enumerate(rules)]
    found = collect(table, table.frame.select(flags)).row(0)
    for rule, broken in zip(rules, found, strict=True):
        if broken:
            raise DataError(first_fault(table, rule))


def first_fault(table: Table, rule: Rule) -> str:
    """The first row that breaks a rule: file, row (from 1), column, value and what is wrong."""
    for name, part in table.parts:
        judged = part.select(value=rule.column, broken=rule.broken).with_row_index("row", offset=1)
        with reading(name):
            first = judged.filter("broken").select("row", "value").head(1).collect()
        if not first.is_empty():
            row, value = first.row(0)
            return f"{name}: row {row}, column {rule.column!r}: {value!r} {rule.problem}"
    return f"{table.name}: column {rule.column!r}: a value {rule.problem}"
