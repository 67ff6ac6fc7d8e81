"""The sums of a factorization machine's side, against the double sum over its features."""

import torch
from torch.testing import assert_close

from dualtower.data.columns import FeatureColumn
from dualtower.models.factors import FactorEncoder, Terms
from dualtower.models.table import EmbeddingTable
from tests.models.test_features import CPU, SPECS, columns


def made() -> tuple[FactorEncoder, tuple[EmbeddingTable, EmbeddingTable]]:
    """An encoder and items whose weights are all random."""
    torch.manual_seed(0)
    encoder = FactorEncoder(SPECS, 2, 0.0)
    items = (EmbeddingTable(6, 2), EmbeddingTable(6, 1))
    for table in encoder.weights.values():
        table.weight.normal_()
    with torch.no_grad():
        for slope in encoder.slopes.values():
            slope.weight.normal_()
    return encoder, items


def features(
    encoder: FactorEncoder, items: tuple[EmbeddingTable, EmbeddingTable]
) -> list[list[tuple[float, torch.Tensor, torch.Tensor]]]:
    """x, v and w of every feature of the two rows of `columns`, by hand."""

    def of(place: int, row: int, x: float) -> tuple[float, torch.Tensor, torch.Tensor]:
        tables = encoder.tables[str(place)], encoder.weights[str(place)]
        return x, tables[0].weight[row], tables[1].weight[row, 0]

    def number(place: int, row: int, x: float) -> tuple[float, torch.Tensor, torch.Tensor]:
        linear, slope = encoder.linears[str(place)], encoder.slopes[str(place)]
        return x, linear.weight[:, row], slope.weight[0, row]

    def item(row: int, x: float) -> tuple[float, torch.Tensor, torch.Tensor]:
        return x, items[0].weight[row], items[1].weight[row, 0]

    return [
        [
            of(0, 3, 1),
            of(1, 1, 1 / 3),
            of(1, 4, 2 / 3),
            number(2, 0, -1.5),
            *(number(3, place, place + 1) for place in range(3)),
            item(5, 1 / 2),
            item(2, 1 / 2),
        ],
        [of(0, 0, 1), item(0, 1)],
    ]


def test_every_kind_of_feature_is_in_the_double_sum():
    encoder, items = made()
    terms = encoder.terms(columns(), items, CPU)
    assert terms is not None
    for row, given in enumerate(features(encoder, items)):
        pairs = [
            x * y * (v @ u)
            for place, (x, v, _) in enumerate(given)
            for y, u, _ in given[place + 1 :]
        ]
        assert_close(terms.interactions()[row], sum(pairs, torch.tensor(0.0)))
        assert_close(terms.factors[row], sum(x * v for x, v, _ in given))
        assert_close(terms.weights[row], sum(x * w for x, _, w in given))


def test_factors_are_what_the_plain_encoder_sums():
    encoder, items = made()
    terms = encoder.terms(columns(), items, CPU)
    assert terms is not None
    assert_close(terms.factors, encoder(columns(), items[0], CPU))


def test_terms_add_up_to_those_of_both_sides_features():
    encoder, items = made()
    whole = encoder.terms(columns(), items, CPU)
    assert whole is not None
    parts: list[Terms] = []
    for place, spec in enumerate(SPECS):
        one = FactorEncoder((spec,), 2, 0.0)
        for mine, theirs in (
            (one.tables, encoder.tables),
            (one.linears, encoder.linears),
            (one.weights, encoder.weights),
            (one.slopes, encoder.slopes),
        ):
            if "0" in mine:
                mine["0"] = theirs[str(place)]
        found = one.terms(columns(), items, CPU)
        assert found is not None
        parts.append(found)
    added = parts[0] + parts[1] + parts[2] + parts[3] + parts[4]
    assert_close(added.interactions(), whole.interactions())
    assert_close(added.weights, whole.weights)


def test_without_features_there_are_no_terms():
    assert FactorEncoder((), 2, 0.0).terms({}, None, CPU) is None


def test_weights_start_at_zero_and_hidden_values_read_the_unknown_s():
    encoder = FactorEncoder(SPECS[:1], 2, 0.5).train()
    assert not encoder.weights["0"].weight.any()
    encoder.weights["0"].weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    many: dict[str, FeatureColumn] = {"colour": columns()["colour"].take([0] * 400)}
    torch.manual_seed(0)
    terms = encoder.terms(many, None, CPU)
    assert terms is not None
    hidden = terms.weights == 1
    assert set(terms.weights.tolist()) == {1, 4}
    assert 150 < int(hidden.sum()) < 250
    table = encoder.tables["0"].weight
    assert_close(terms.factors[hidden], table[0].expand(int(hidden.sum()), 2))
