"""The items and queries tables, in the order of their vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.columns import FeatureColumn
from dualtower.data.encode import Encoding, Side, check_features, encode_features, learn_features
from dualtower.data.interactions import check_ids, id_values
from dualtower.data.tables import Table, collect, require_columns
from dualtower.data.vocabulary import Vocabulary
from dualtower.schema import Feature


@dataclass(frozen=True)
class SideTable:
    """What the items or queries table says of each vocabulary row."""

    columns: dict[str, FeatureColumn]
    """Features by name, one row per vocabulary row."""
    encoding: Encoding
    categories: npt.NDArray[np.int32]
    """Category row of each vocabulary row; 0 where unknown."""
    category_vocabulary: Vocabulary
    counts: dict[str, int] = field(default_factory=dict)
    """Rows read, used, and left out by reason."""
    notes: tuple[str, ...] = ()


def read_side_table(
    table: Table | None,
    id_column: str,
    vocabulary: Vocabulary,
    features: Sequence[Feature],
    side: Side,
    *,
    item_vocabulary: Vocabulary,
    category: str | None = None,
) -> SideTable:
    """Read features and category of the ids in `vocabulary`.

    Ids that the table lacks get unknown features; rows of other ids, of no id and repeats of an
    id (the first stays) are left out and counted.

    Raises:
        DataError: a column is missing or of a wrong type, or a value does not fit its kind.
    """
    if table is None:
        nothing = np.zeros(len(vocabulary), dtype=np.int32)
        return SideTable({}, Encoding(), nothing, Vocabulary(pl.Series([], dtype=pl.String)))
    what = "items" if side == "item" else "queries"
    named = {f"columns.{side}_id_in_{what}": id_column}
    if category is not None:
        named["columns.category"] = category
    for number, feature in enumerate(features):
        named[f"columns.{side}_features[{number}].name"] = feature.name
    require_columns(table, named)
    check_ids(table, id_column)
    check_features(table, features, side)
    category_feature = Feature(name=category) if category is not None else None
    if category_feature is not None:
        check_features(table, [category_feature], side)
    needed = dict.fromkeys(feature.name for feature in features)
    if category is not None:
        needed[category] = None
    rows = collect(
        table,
        table.frame.select(
            pl.struct(list(needed)).alias("values") if needed else pl.lit(None).alias("values"),
            id=id_values(table, id_column),
        ),
    )
    numbered = rows.with_columns(row=pl.Series(vocabulary.encode(rows["id"])))
    known = numbered.filter(pl.col("row") > 0)
    unique = known.unique("row", keep="first", maintain_order=True)
    all_rows = pl.DataFrame({"row": np.arange(len(vocabulary), dtype=np.int32)})
    frame = all_rows.join(unique, on="row", how="left", maintain_order="left")
    frame = frame.select("values").unnest("values") if needed else frame.select("row")

    learned = learn_features(_as_table(table, frame), features, side)
    columns = encode_features(
        frame,
        features,
        side,
        learned.vocabularies,
        learned.scales,
        item_vocabulary,
        sizes=learned.sizes,
        name=table.name,
    )
    categories = np.zeros(len(vocabulary), dtype=np.int32)
    category_vocabulary = Vocabulary(pl.Series([], dtype=pl.String))
    if category_feature is not None:
        found = learn_features(_as_table(table, frame), [category_feature], side)
        category_vocabulary = found.vocabularies[f"{side}/{category_feature.name}"]
        encoded = encode_features(
            frame, [category_feature], side, found.vocabularies, {}, item_vocabulary
        )
        categories = encoded[category_feature.name].values.astype(np.int32)
    counts = {
        "rows": len(rows),
        "used": len(unique),
        "no_id": int(rows["id"].null_count()),
        "repeats": len(known) - len(unique),
        "without_events": len(numbered) - len(known) - int(rows["id"].null_count()),
        "missing": len(vocabulary) - 1 - len(unique),
    }
    notes = []
    if counts["missing"]:
        notes.append(
            f"{table.name}: {counts['missing']:,} of {len(vocabulary) - 1:,} {what} with events "
            "are not in the table; their features are unknown"
        )
    if counts["repeats"] or counts["no_id"]:
        notes.append(
            f"{table.name}: left out {counts['repeats']:,} rows that repeat an id (the first "
            f"stays) and {counts['no_id']:,} without one"
        )
    return SideTable(columns, learned, categories, category_vocabulary, counts, tuple(notes))


def _as_table(table: Table, frame: pl.DataFrame) -> Table:
    lazy = frame.lazy()
    return Table(table.name, lazy, ((table.name, lazy),))
