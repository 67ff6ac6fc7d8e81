import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualtower.errors import ConfigError
from dualtower.evaluation.results import read_results
from dualtower.retrieval.bundle import Bundle
from dualtower.studies import grocery, quickstart
from dualtower.studies.quickstart import run_quickstart

HOUSEHOLDS, PRODUCTS, DAYS = 40, 30, 60


def write_small_tables(folder: Path) -> dict[str, Path]:
    """Tables of the Complete Journey's form: each household buys a new product every other day."""
    random = np.random.default_rng(1)
    rows = [
        (household, int(product), datetime(2017, 1, 1) + timedelta(days=2 * turn + household % 2))
        for household in range(1, HOUSEHOLDS + 1)
        for turn, product in enumerate(random.permutation(np.arange(1, PRODUCTS + 1)))
    ]
    names = ["household_id", "product_id", "transaction_timestamp"]
    product = np.arange(1, PRODUCTS + 1)
    tables = {
        "transactions": pl.DataFrame(rows, schema=names, orient="row"),
        "products": pl.DataFrame(
            {
                "product_id": product,
                "manufacturer_id": product % 3,
                "department": [("GROCERY", "DELI")[number % 2] for number in product],
                "brand": "National",
                "product_category": [f"KIND {number % 5}" for number in product],
                "product_type": [f"TYPE {number}" for number in product],
                "package_size": "1 OZ",
            }
        ),
        "demographics": pl.DataFrame({"household_id": [1], **dict.fromkeys(_FACTS, "x")}),
    }
    paths = {}
    for name, table in tables.items():
        paths[name] = folder / f"{name}.parquet"
        table.write_parquet(paths[name])
    return paths


_FACTS = (
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_comp",
    "kids_count",
)


def test_the_quickstart_does_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = write_small_tables(tmp_path)
    monkeypatch.setattr(grocery, "find_tables", lambda: tables)
    monkeypatch.setattr(quickstart, "find_tables", lambda: tables)
    folder, said = tmp_path / "quickstart", []
    done = run_quickstart(folder, said.append, results=tmp_path / "quickstart.json")
    assert list(done.standing.evaluations) == ["dat", "two_tower", "item_knn", "popularity"]
    assert "<!doctype html>" in (folder / "report.html").read_text(encoding="utf-8")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert {curve["model"] for curve in report["training"]} == {"dat", "two_tower"}
    written = read_results(tmp_path / "quickstart.json")
    assert [run.model for run in written.runs] == list(done.standing.evaluations)
    assert written.command == "dualtower quickstart --results results/quickstart.json"

    # The bundle knows what was bought before the test, so nothing of that is recommended.
    events = pl.read_parquet(tables["transactions"])
    before = events.filter(pl.col("transaction_timestamp") < datetime(2017, 2, 15))
    bought = set(before.select("household_id", "product_id").iter_rows())
    recommended = Bundle.load(folder / "bundle").recommend(list(range(1, HOUSEHOLDS + 1)), n=5)
    pairs = recommended.select("household_id", "product_id").iter_rows()
    assert not bought & set(pairs)

    # Every household buys its last seven products in the test; with seven left to recommend to it,
    # each of the seven examples says so.
    assert done.examples["household"].n_unique() == 3
    assert set(done.examples["bought it then"]) == {"yes"}
    assert done.examples["product"].str.starts_with("Type ").all()


def test_a_bundle_folder_with_other_files_is_refused_before_anything_is_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = write_small_tables(tmp_path)
    monkeypatch.setattr(grocery, "find_tables", lambda: tables)
    folder, said = tmp_path / "quickstart", []
    (folder / "bundle").mkdir(parents=True)
    (folder / "bundle" / "notes.txt").write_text("precious")
    with pytest.raises(ConfigError, match="bundle: exists and was not written by dualtower"):
        run_quickstart(folder, said.append)
    assert said == []
