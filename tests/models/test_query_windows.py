"""Windows divided by length: the same vectors as all of them at once, and every target once."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dualtower.config import ModelConfig
from dualtower.data.columns import EarlierSum, FeatureColumn, Ragged
from dualtower.data.dataset import Dataset
from dualtower.models import TRAINED, query_windows
from dualtower.models.query_windows import QueryWindows
from dualtower.models.trained import TrainedModel
from dualtower.schema import Feature
from tests.helpers import tiny_dataset

LENGTHS = [1, 40, 3, 9, 2, 17, 40, 5, 1]
"""Of the windows; at 40 places a quarter is 10, and a quarter of that 2."""


def numbers(count: int) -> FeatureColumn:
    return FeatureColumn(Feature(name="x"), np.arange(count, dtype=np.int32))


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
        before=EarlierSum(np.ones((count, 4), np.float32), np.arange(count)) if earlier else None,
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
        assert part.before.vectors.shape == (3, 4)


@pytest.mark.usefixtures("divided")
def test_windows_whose_targets_see_nothing():
    """One place stays, for an encoder to look at and find that it knows nothing of it."""
    whole = windows()
    first = whole.known == 0
    nothing = QueryWindows(
        **{
            **vars(whole),
            "window": whole.window[first],
            "known": whole.known[first],
            "context": {},
        }
    )
    ((targets, part),) = nothing.by_length()
    assert len(targets) == len(LENGTHS)
    assert part.events.shape == (len(LENGTHS), 1)


def encoded(model: TrainedModel, made: Any, whole: QueryWindows) -> tuple[Any, list[torch.Tensor]]:
    """What comes out, and the gradients of a loss that weighs every target differently."""
    items = torch.arange(30)
    inputs = made.item_inputs(items)
    vectors = made.encode_item(items, inputs).vectors
    found = made.encode_query(whole, inputs, vectors)
    weights = torch.arange(found.vectors.numel()).view(found.vectors.shape).cos()
    parameters = [parameter for parameter in made.parameters() if parameter.requires_grad]
    loss = (found.vectors * weights).sum()
    if found.augmented is not None:
        loss = loss + found.augmented.square().sum()
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return found, [gradient for gradient in gradients if gradient is not None]


CASES: list[tuple[str, dict[str, Any]]] = [
    ("dat", {}),
    ("dat", {"history_form": "attention", "normalise": False}),
    ("dat", {"history_form": "mean", "augmented": "learned"}),
    ("two_tower", {}),
    ("mind", {}),
    ("fm", {}),
    ("sasrec", {}),
]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_divided_windows_are_encoded_as_undivided_ones(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    dataset: Dataset = tiny_dataset([list(range(1, 30))] + [[1, 2, 3]] * len(LENGTHS))
    sizes = {"embedding_dim": 4, "output_dim": 4, "augmented_dim": 4, "history_length": 30}
    config = ModelConfig.of(name, **{**sizes, **settings})  # type: ignore[arg-type]
    model = TRAINED[name](config)
    torch.manual_seed(0)
    made = model.build(dataset.space(), dataset.item_features, torch.device("cpu")).eval()
    plain = QueryWindows(
        **{**vars(windows(earlier=name == "dat")), "query_features": {}, "context": {}}
    )
    together, gradients = encoded(model, made, plain)
    monkeypatch.setattr(query_windows, "_FEW_PLACES", 0)
    assert len(plain.by_length()) == 3
    apart, others = encoded(model, made, plain)
    assert_close(apart.vectors, together.vectors)
    for one, other in (
        (apart.augmented, together.augmented),
        (apart.interests, together.interests),
    ):
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other)
    assert len(gradients) == len(others) > 0
    for one, other in zip(gradients, others, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-4)
