"""Windows divided by length: the same vectors as all of them at once, and every target once."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from torch.testing import assert_close

from dualtower.config import ModelConfig
from dualtower.data.columns import EarlierSum, FeatureColumn, Ragged
from dualtower.data.vocabulary import Vocabulary
from dualtower.models import TRAINED, query_windows
from dualtower.models.network import Encoded, Network
from dualtower.models.query_windows import QueryWindows
from dualtower.schema import Feature, Schema
from tests.helpers import tiny_dataset

LENGTHS = [1, 40, 3, 9, 2, 17, 40, 5, 1]
"""Of the windows; at 40 places a quarter is 10, and a quarter of that 2."""


def numbers(count: int) -> FeatureColumn:
    return FeatureColumn(Feature(name="x"), np.arange(count, dtype=np.int32))


def earlier_sums(count: int) -> npt.NDArray[np.float32]:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4) / 10


def windows(*, earlier: bool = True) -> QueryWindows:
    """A target behind every event and one before the first, the targets' windows in no order."""
    generator = torch.Generator().manual_seed(1)
    count, length = len(LENGTHS), max(LENGTHS)
    window = torch.cat([torch.full((n + 1,), row) for row, n in enumerate(LENGTHS)])
    known = torch.cat([torch.arange(n + 1) for n in LENGTHS])
    order = torch.randperm(len(window), generator=generator)
    present = torch.arange(length) < torch.tensor(LENGTHS)[:, None]
    events = torch.randint(1, 30, (count, length), generator=generator) * present
    before = [np.arange(1, 1 + row % 3) for row in range(count)]
    return QueryWindows(
        queries=torch.arange(count) + 1,
        events=events,
        present=present,
        earlier=Ragged(
            np.concatenate(before).astype(np.int32),
            np.concatenate([[0], np.cumsum([len(part) for part in before])]),
        ),
        window=window[order],
        known=known[order],
        query_features={"x": numbers(count)},
        context={"x": numbers(len(window))},
        before=EarlierSum(earlier_sums(count), np.arange(count)) if earlier else None,
    )


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide windows however few they are."""
    monkeypatch.setattr(query_windows, "_FEW_PLACES", 0)


def test_few_windows_stay_together():
    whole = windows()
    ((targets, part),) = whole.by_length()
    assert part is whole
    assert targets.tolist() == list(range(len(whole.window)))


@pytest.mark.usefixtures("divided")
def test_each_part_has_windows_of_about_one_length():
    whole = windows()
    parts = whole.by_length()
    # 40 > 10 > 2: windows of 40, 40 and 17; of 9, 5 and 3; of 2, 1 and 1.
    assert [part.queries.tolist() for _, part in parts] == [[2, 6, 7], [3, 4, 8], [1, 5, 9]]
    assert [part.events.shape for _, part in parts] == [(3, 40), (3, 9), (3, 2)]
    assert sorted(torch.cat([targets for targets, _ in parts]).tolist()) == list(
        range(len(whole.window))
    )
    for targets, part in parts:
        rows = part.queries - 1
        assert torch.equal(rows[part.window], whole.window[targets])
        assert torch.equal(part.known, whole.known[targets])
        assert torch.equal(part.events, whole.events[rows, : part.events.shape[1]])
        assert torch.equal(part.present, whole.present[rows, : part.events.shape[1]])
        assert int(part.present.sum()) == sum(LENGTHS[row] for row in rows.tolist())
        assert part.query_features["x"].values.tolist() == rows.tolist()
        assert part.context["x"].values.tolist() == targets.tolist()
        assert part.earlier.lengths().tolist() == [row % 3 for row in rows.tolist()]
        assert part.before is not None
        assert part.before.counts.tolist() == rows.tolist()
        assert part.before.vectors.tolist() == earlier_sums(len(LENGTHS))[rows].tolist()


@pytest.mark.usefixtures("divided")
@pytest.mark.parametrize(("most", "divides"), [(9 * 40, False), (9 * 40 - 1, True)])
def test_a_gpu_gets_one_part_unless_that_is_too_large(
    most: int, divides: bool, monkeypatch: pytest.MonkeyPatch
):
    """Nine windows of 40 places; what is on no CPU has no values to divide by here."""
    monkeypatch.setattr(query_windows, "_FEW_ON_A_GPU", most)
    monkeypatch.setattr(QueryWindows, "_divided", lambda _: ["divided"])
    whole = windows()
    elsewhere = replace(
        whole,
        **{name: getattr(whole, name).to("meta") for name in ("present", "window", "known")},
    )
    parts = elsewhere.by_length()
    assert (parts == ["divided"]) is divides
    assert divides or parts[0][1] is elsewhere


@pytest.mark.usefixtures("divided")
def test_no_target_is_one_part():
    nothing = torch.zeros(0, dtype=torch.long)
    empty = replace(windows(), window=nothing, known=nothing, context={"x": numbers(0)})
    ((targets, part),) = empty.by_length()
    assert (len(targets), part is empty) == (0, True)


FEATURE = Feature(name="x")
PLAIN = {"embedding_dropout": 0.0, "history_dropout": 0.0, "id_dropout": 0.0, "layer_dropout": 0.0}
SIZES = {"embedding_dim": 4, "output_dim": 4, "augmented_dim": 4, "history_length": 30}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("dat", {"query_id": True}),
    ("dat", {"history_form": "attention", "attention_dropout": 0.0, "normalise": False}),
    ("dat", {"history_form": "mean", "augmented": "learned"}),
    ("two_tower", {"query_id": True}),
    ("mind", {}),
    ("fm", {"query_id": True}),
    ("sasrec", {"attention_dropout": 0.0}),
]


def made_for(name: str, settings: dict[str, Any]) -> Network:
    """A network that reads a feature of the query and one of the context, where it can."""
    column = FeatureColumn(FEATURE, np.arange(1 + len(LENGTHS), dtype=np.int32))
    logs = [list(range(1, 30)), *([[1, 2, 3]] * (len(LENGTHS) - 1))]
    events = FeatureColumn(FEATURE, np.zeros(sum(map(len, logs)), dtype=np.int32))
    sided = name != "sasrec"
    dataset = tiny_dataset(
        logs,
        schema=Schema(query_features=(FEATURE,), context_features=(FEATURE,)) if sided else None,
        query_features={"x": column} if sided else None,
        context_features={"x": events} if sided else None,
        feature_vocabularies=(
            {
                f"{side}/x": Vocabulary(pl.Series([str(row) for row in range(200)]))
                for side in ("query", "context")
            }
            if sided
            else None
        ),
    )
    config = ModelConfig.of(name, **{**SIZES, **PLAIN, **settings})  # type: ignore[arg-type]
    torch.manual_seed(0)
    return TRAINED[name](config).build(dataset.space(), dataset.item_features, torch.device("cpu"))


def trained_on(made: Network, whole: QueryWindows) -> tuple[Encoded, dict[str, torch.Tensor]]:
    """What comes out, and every gradient of a loss that weighs each target differently.

    Of a table the gradient is read off Adam's first moment after a step.
    """
    made.train()
    items = torch.arange(30)
    inputs = made.item_inputs(items)
    vectors = made.encode_item(items, inputs).vectors
    found = made.encode_query(whole, inputs, vectors)
    weights = torch.arange(found.vectors.numel()).view(found.vectors.shape).cos()
    loss = (found.vectors * weights).sum()
    if found.augmented is not None:
        loss = loss + found.augmented.square().sum()
    made.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in made.named_parameters()
        if parameter.grad is not None
    }
    for number, table in enumerate(made.tables()):
        table.update(0.1)
        if "moments" in (state := table.optimizer_state()):
            gradients[f"table {number}"] = state["moments"][:, : table.dim].clone()
    return found, gradients


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_divided_windows_are_encoded_as_undivided_ones(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    whole = windows(earlier=name == "dat" and settings.get("augmented") != "learned")
    if name == "sasrec":
        whole = replace(whole, query_features={}, context={})
    together, gradients = trained_on(made_for(name, settings), whole)
    monkeypatch.setattr(query_windows, "_FEW_PLACES", 0)
    assert len(whole.by_length()) == 3
    apart, others = trained_on(made_for(name, settings), whole)
    assert_close(apart.vectors, together.vectors)
    for part in ("augmented", "interests"):
        one, other = getattr(apart, part), getattr(together, part)
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other)
    assert gradients.keys() == others.keys()
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 0.01
    assert sum(name.startswith("table") for name in gradients) >= 1
    for part, gradient in gradients.items():
        assert_close(others[part], gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("divided")
def test_windows_whose_targets_see_nothing():
    """One place stays, for an encoder to look at and find that it knows nothing of it."""
    whole = windows()
    first = whole.known == 0
    nothing = replace(
        whole,
        window=whole.window[first],
        known=whole.known[first],
        context={"x": numbers(len(LENGTHS))},
    )
    ((targets, part),) = nothing.by_length()
    assert len(targets) == len(LENGTHS)
    assert part.events.shape == (len(LENGTHS), 1)
    made = made_for("dat", {}).eval()
    inputs = made.item_inputs(torch.arange(30)).detach()
    vectors = made.encode_item(torch.arange(30), inputs).vectors
    cut = made.encode_query(nothing, inputs, vectors).vectors
    assert_close(cut, made._encode_query(nothing, inputs, vectors).vectors)
