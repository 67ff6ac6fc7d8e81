"""Commands that use what was made: recommend, similar, inspect."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dualtower.cli.app import app
from dualtower.cli.common import AsJson, fail, note, print_json, print_table

_NAMED = 3
"""How many unknown ids a note names."""

BundleFolder = Annotated[
    Path, typer.Argument(help="Folder that `dualtower fit` wrote.", show_default=False)
]
OutputFile = Annotated[
    Path | None,
    typer.Option(help="Write to this .parquet or .csv file instead.", show_default=False),
]


@app.command(epilog="Example: dualtower recommend bundle --query 17 --query 42 -n 10")
def recommend(
    bundle: BundleFolder,
    query: Annotated[
        list[str] | None, typer.Option(help="A query's id; may be repeated.", show_default=False)
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Parquet or CSV file with the ids, in the column named as in the log.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every query that the bundle knows.")
    ] = False,
    n: Annotated[int, typer.Option("-n", min=1, help="Items per query.")] = 100,
    category: Annotated[
        str | None, typer.Option(help="Only items of this category.", show_default=False)
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also items that the query already had.")
    ] = False,
    output: OutputFile = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items for queries, exactly n that each has not had yet where so many are left."""
    import polars as pl

    from dualtower.retrieval.batch import read_ids, write_recommendations
    from dualtower.retrieval.bundle import Bundle

    if sum([bool(query), queries is not None, every]) != 1:
        fail("name the queries in one way: --query ID, --queries FILE or --all")
    loaded = Bundle.load(bundle)
    ids = pl.Series(query or [])
    if every:
        ids = loaded.encoder.query_vocabulary.values
    elif queries is not None:
        ids = read_ids(queries, loaded.encoder.schema.query_id)
    unknown = ids.filter(pl.Series(loaded.encoder.query_vocabulary.encode(ids) == 0))
    if len(unknown):
        first = ", ".join(str(name) for name in unknown.head(_NAMED))
        more = ", …" if len(unknown) > _NAMED else ""
        note(
            f"Not known to the bundle: {len(unknown):,} of {len(ids):,} queries ({first}{more}). "
            "What suits a query of which nothing is known is recommended to them."
        )
    options: dict[str, Any] = {"exclude_seen": not include_seen, "category": category}
    if output is not None:
        rows = write_recommendations(loaded, ids, output, n=n, **options)
        _tell_short(rows, len(ids), n)
        if as_json:
            print_json({"output": str(output), "rows": rows})
        else:
            typer.echo(f"Wrote {rows:,} rows to {output}")
        return
    if every and not as_json:
        fail("--all needs --output FILE.parquet or FILE.csv (or --json)")
    frame = loaded.recommend(ids, n=n, **options)
    _tell_short(len(frame), len(ids), n)
    _show(frame, "recommendations", as_json)


@app.command(epilog="Example: dualtower similar bundle --item 1082185 -n 20")
def similar(
    bundle: BundleFolder,
    item: Annotated[
        list[str], typer.Option(help="An item's id; may be repeated.", show_default=False)
    ],
    n: Annotated[int, typer.Option("-n", min=1, help="Items per item.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the items whose vectors are nearest to an item's."""
    from dualtower.retrieval.bundle import Bundle

    _show(Bundle.load(bundle).similar_items(item, n=n), "similar_items", as_json)


@app.command(epilog="Example: dualtower inspect bundle")
def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            help="A configuration, a dataset's folder or a bundle's.", show_default=False
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Say what a configuration, a dataset or a bundle holds, after checking every file of it."""
    from dualtower.studies.inspection import describe

    description = describe(path)
    if as_json:
        print_json(description)
        return
    print_table(str(path), ["", ""], _flat(description), left=2)


def _tell_short(rows: int, queries: int, n: int) -> None:
    """Say so where queries get fewer items than asked for."""
    if not rows and queries:
        note("Nothing to recommend: no item is left for these queries under this filter.")
    elif rows < n * queries:
        note(
            f"{rows:,} rows instead of {n * queries:,}: not every query has {n:,} items left that "
            "it may get, so it gets all there are."
        )


def _show(frame: Any, name: str, as_json: bool) -> None:
    if as_json:
        print_json({name: frame.to_dicts()})
        return
    print_table("", frame.columns, frame.iter_rows(), left=2)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, _plain_text(value)))
    return rows


def _plain_text(value: Any) -> str:
    """A value in words; what is not set or empty is "none"."""
    if value is None or value in ([], (), {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain_text(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        between = "; " if isinstance(value[0], dict) else ", "
        return between.join(_plain_text(part) for part in value)
    return str(value)
