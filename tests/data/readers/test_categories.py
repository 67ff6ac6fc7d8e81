from pathlib import Path

import polars as pl

from dualtower.data.readers.categories import category_reason, with_few_categories


def reduce(
    tmp_path: Path, sizes: dict[str | None, int], *, rare: tuple[str, ...] = ()
) -> tuple[dict[str, str], dict[str, int]]:
    """Category by item; items of a `rare` category have four events, all others five."""
    many = [name for name, size in sizes.items() for _ in range(size)]
    ids = [f"i{number:03}" for number in range(len(many))]
    times = [4 if name in rare else 5 for name in many]
    events = pl.DataFrame({"item_id": ids, "times": times})
    events = events.select(pl.col("item_id").repeat_by("times").explode())
    events.write_parquet(tmp_path / "events.parquet")
    items = pl.DataFrame({"item_id": ids, "many": many}, schema_overrides={"many": pl.String})
    frame, counts = with_few_categories(
        items.lazy(), pl.col("many"), tmp_path / "events.parquet", "few"
    )
    found = frame.collect()
    assert found["item_id"].to_list() == ids
    pairs = zip(found["many"].to_list(), found["few"].to_list(), strict=True)
    return dict(pairs), counts


def test_the_ten_largest_keep_their_names_and_the_rest_is_other(tmp_path: Path) -> None:
    sizes: dict[str | None, int] = {f"c{n:02}": 15 - n for n in range(12)}
    few, counts = reduce(tmp_path, {**sizes, None: 40})
    kept = [f"c{n:02}" for n in range(10)]
    assert few == {**{name: name for name in kept}, "c10": "Other", "c11": "Other", None: "Other"}
    assert counts == {"Other": 5 + 4 + 40, **{name: sizes[name] for name in kept}}
    assert list(counts) == ["Other", *kept]


def test_eleven_stay_as_they_are(tmp_path: Path) -> None:
    few, counts = reduce(tmp_path, {f"c{n:02}": 1 for n in range(11)})
    assert all(few[name] == name for name in few)
    assert len(counts) == 11
    few, _ = reduce(tmp_path, {**{f"c{n:02}": 1 for n in range(10)}, None: 1})
    assert sorted(set(few.values())) == ["Other", *(f"c{n:02}" for n in range(10))]


def test_equals_are_taken_by_name(tmp_path: Path) -> None:
    few, _ = reduce(tmp_path, {f"c{n:02}": 1 for n in reversed(range(14))})
    assert sorted(name for name in few.values() if name != "Other") == [
        f"c{n:02}" for n in range(10)
    ]


def test_items_that_a_5_core_drops_do_not_count(tmp_path: Path) -> None:
    sizes: dict[str | None, int] = {f"c{n:02}": 2 for n in range(11)}
    few, counts = reduce(tmp_path, {**sizes, "rare": 9}, rare=("rare",))
    assert few["rare"] == "Other"
    assert counts == {f"c{n:02}": 2 for n in range(11)}


def test_items_without_events_are_left_out_and_repeats_keep_the_first(tmp_path: Path) -> None:
    pl.DataFrame({"sku": ["a"] * 5 + ["b"]}).write_parquet(tmp_path / "events.parquet")
    items = pl.DataFrame({"sku": ["b", "a", "c", "a"], "many": ["y", "x", "z", "w"]})
    frame, counts = with_few_categories(
        items.lazy(), pl.col("many"), tmp_path / "events.parquet", "few", item_id="sku"
    )
    assert frame.collect().rows() == [("b", "y", "Other"), ("a", "x", "x")]
    assert counts == {"x": 1}


def test_the_reason_gives_each_share() -> None:
    reason = category_reason({"a": 3, "Other": 1}, "The genre")
    assert reason.startswith("The genre, ")
    assert reason.endswith("a 75.0%, Other 25.0%")
