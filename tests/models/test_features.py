"""Every kind of feature against rows and products taken by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dualtower.data.columns import FeatureColumn, FeatureSpec
from dualtower.models.features import FeatureEncoder, hide_rows, segment_mean
from dualtower.schema import Feature, FeatureKind

CPU = torch.device("cpu")
SPECS = (
    FeatureSpec("colour", FeatureKind.CATEGORICAL, 4),
    FeatureSpec("tags", FeatureKind.MULTI_VALUED, 5),
    FeatureSpec("price", FeatureKind.NUMERIC, 1),
    FeatureSpec("picture", FeatureKind.VECTOR, 3),
    FeatureSpec("bought_with", FeatureKind.SEQUENCE, 6),
)


def column(spec: FeatureSpec, values: np.ndarray, offsets: list[int] | None = None):
    return FeatureColumn(
        Feature(name=spec.name, kind=spec.kind),
        values,
        None if offsets is None else np.array(offsets, dtype=np.int64),
    )


def columns() -> dict[str, FeatureColumn]:
    """Two rows; the second has unknown and empty values."""
    values = [
        (np.array([3, 0], dtype=np.int32), None),
        (np.array([1, 4, 4], dtype=np.int32), [0, 3, 3]),
        (np.array([-1.5, 0.0], dtype=np.float32), None),
        (np.array([[1, 2, 3], [0, 0, 0]], dtype=np.float32), None),
        (np.array([5, 2, 0], dtype=np.int32), [0, 2, 3]),
    ]
    return {spec.name: column(spec, *value) for spec, value in zip(SPECS, values, strict=True)}


ITEMS = torch.arange(12.0).view(6, 2)


def item_embedding(rows: Tensor) -> Tensor:
    return ITEMS[rows]


def expected(encoder: FeatureEncoder) -> list[Tensor]:
    colour, tags = encoder.tables["0"].weight, encoder.tables["1"].weight
    price, picture = encoder.linears["2"].weight, encoder.linears["3"].weight
    return [
        torch.stack([colour[3], colour[0]]),
        torch.stack([(tags[1] + 2 * tags[4]) / 3, torch.zeros(2)]),
        torch.stack([-1.5 * price[:, 0], torch.zeros(2)]),
        torch.stack([picture @ torch.tensor([1.0, 2.0, 3.0]), torch.zeros(2)]),
        torch.stack([(ITEMS[5] + ITEMS[2]) / 2, ITEMS[0]]),
    ]


@pytest.mark.parametrize("combine", ["sum", "concatenate"])
def test_every_kind(combine: str):
    torch.manual_seed(0)
    encoder = FeatureEncoder(SPECS, 2, combine)
    got = encoder(columns(), item_embedding, CPU)
    parts = expected(encoder)
    assert_close(got, sum(parts) if combine == "sum" else torch.cat(parts, dim=1))
    assert got.shape[1] == encoder.output_dim() == (2 if combine == "sum" else 10)


def test_without_features_there_is_nothing():
    for combine in ("sum", "concatenate"):
        encoder = FeatureEncoder((), 2, combine)
        assert encoder({}, None, CPU) is None
        assert encoder.output_dim() == 0


def test_gradients_reach_rows_that_are_named_and_no_others():
    torch.manual_seed(0)
    encoder = FeatureEncoder(SPECS, 2, "sum")
    before = {name: table.weight.clone() for name, table in encoder.tables.items()}
    encoder(columns(), item_embedding, CPU).sum().backward()
    for table in encoder.tables.values():
        table.update(0.1)
    moved = {
        name: torch.nonzero((table.weight != before[name]).any(1)).flatten().tolist()
        for name, table in encoder.tables.items()
    }
    assert moved == {"0": [0, 3], "1": [1, 4]}
    for number, total in (("2", [-1.5]), ("3", [1.0, 2.0, 3.0])):
        assert encoder.linears[number].weight.grad.tolist() == [total, total]


@pytest.mark.parametrize("name", ["type", "a.b", "items", "training", "ümlaut !"])
def test_any_column_name_will_do(name: str):
    """PyTorch refuses such names for modules."""
    spec = FeatureSpec(name, FeatureKind.CATEGORICAL, 3)
    encoder = FeatureEncoder((spec,), 2, "sum")
    values = column(spec, np.array([2], dtype=np.int32))
    assert torch.equal(encoder({name: values}, None, CPU)[0], encoder.tables["0"].weight[2])


def test_no_rows():
    encoder = FeatureEncoder(SPECS, 2, "concatenate")
    empty = {name: values.take(np.array([], dtype=np.int64)) for name, values in columns().items()}
    assert encoder(empty, item_embedding, CPU).shape == (0, 10)


def test_segment_means_by_hand():
    values = torch.tensor([[1.0], [3.0], [5.0]])
    assert segment_mean(values, torch.tensor([0, 2, 2, 3])).tolist() == [[2], [0], [5]]


def test_hidden_values_train_the_unknown_row():
    torch.manual_seed(0)
    encoder = FeatureEncoder(SPECS[:2], 2, "sum", id_dropout=0.5)
    many = np.full(1000, 3, dtype=np.int32)
    columns = {
        "colour": column(SPECS[0], many),
        "tags": column(SPECS[1], many, list(range(1001))),
    }
    before = {name: table.weight.clone() for name, table in encoder.tables.items()}
    hidden = encoder(columns, None, CPU)
    # Each of the two is the unknown half of the time: a quarter of the rows have both hidden.
    both = before["0"][0] + before["1"][0]
    assert (hidden == both).all(1).float().mean().item() == pytest.approx(0.25, abs=0.05)
    hidden.sum().backward()
    for name, table in encoder.tables.items():
        table.update(0.1)
        moved = torch.nonzero((table.weight != before[name]).any(1)).flatten().tolist()
        assert moved == [0, 3]
    encoder.eval()
    served = encoder(columns, None, CPU)
    assert torch.equal(served, served[:1].expand(1000, 2)), "nothing is hidden in serving"


def test_hiding_by_share():
    rows = torch.arange(1, 10_001)
    assert hide_rows(rows, 0.0) is rows
    torch.manual_seed(0)
    hidden = hide_rows(rows, 0.3)
    assert (hidden == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(hidden[hidden > 0], rows[hidden > 0])
