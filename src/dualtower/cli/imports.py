"""Commands that turn public raw files into tables and a configuration: import …"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualtower.cli.app import app
from dualtower.cli.common import AsJson, print_json, print_table

if TYPE_CHECKING:
    from dualtower.data.readers.folder import Imported

imports = typer.Typer(
    no_args_is_help=True,
    help="Public raw files into tables and a configuration that runs as it is.",
)
app.add_typer(imports, name="import")

Folder = Annotated[
    Path, typer.Option(help="Where tables and dualtower.toml go.", show_default=False)
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace tables and dualtower.toml that are there.")
]


@imports.command(
    "amazon-2014",
    epilog="Example: dualtower import amazon-2014 ratings_Books.csv meta_Books.json.gz "
    "--folder amazon-books",
)
def amazon_2014(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="The ratings (.csv) and the metadata (.json), plain or gzipped.",
            show_default=False,
        ),
    ],
    folder: Folder,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Import Amazon's reviews of 2014: ratings without a header, metadata as Python literals."""
    from dualtower.data.readers.amazon_2014 import import_amazon_2014

    _report(import_amazon_2014(files, folder, overwrite=overwrite), as_json)


@imports.command(
    "amazon-2023",
    epilog="Example: dualtower import amazon-2023 Books.csv meta_Books.jsonl.gz "
    "--folder amazon-books-2023",
)
def amazon_2023(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="The ratings (.csv, one file or its parts) and the metadata (.jsonl), plain or "
            "gzipped.",
            show_default=False,
        ),
    ],
    folder: Folder,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Import Amazon's reviews of 2023: the 5-core ratings, metadata as JSON lines."""
    from dualtower.data.readers.amazon_2023 import import_amazon_2023

    _report(import_amazon_2023(files, folder, overwrite=overwrite), as_json)


@imports.command(
    "recbole",
    epilog="Example: dualtower import recbole ml-100k --folder movielens-100k --category class",
)
def recbole(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="NAME.inter, and if wanted NAME.item and NAME.user; or one folder of them.",
            show_default=False,
        ),
    ],
    folder: Folder,
    query_id: Annotated[str, typer.Option(help="The column that names the user.")] = "user_id",
    item_id: Annotated[str, typer.Option(help="The column that names the item.")] = "item_id",
    timestamp: Annotated[
        str, typer.Option(help="The float column that orders a user's events.")
    ] = "timestamp",
    category: Annotated[
        str | None,
        typer.Option(
            help="The token or token_seq column of NAME.item that the categories are made of.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Import RecBole's atomic files; their types become feature kinds."""
    from dualtower.data.readers.recbole import import_recbole

    imported = import_recbole(
        files,
        folder,
        query_id=query_id,
        item_id=item_id,
        timestamp=timestamp,
        category=category,
        overwrite=overwrite,
    )
    _report(imported, as_json)


def _report(imported: "Imported", as_json: bool) -> None:
    if as_json:
        print_json(imported.to_dict())
        return
    for line in imported.notes:
        typer.echo(f"- {line}")
    if imported.categories:
        print_table(
            "Items with at least five events, by category",
            ["category", "items"],
            imported.categories.items(),
        )
    typer.echo(f"Wrote {imported.config}. Next: dualtower prepare {imported.config}")
