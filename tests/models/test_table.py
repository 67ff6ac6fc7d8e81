import copy

import pytest
import torch
from torch import Tensor

from dualtower.models.table import EmbeddingTable


def table_of(rows: int, dim: int) -> EmbeddingTable:
    return EmbeddingTable(rows, dim, generator=torch.Generator().manual_seed(0))


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_equal_to_dense_adam_where_every_row_is_named_in_every_step() -> None:
    table = table_of(20, 4)
    dense = torch.nn.Parameter(table.weight.clone())
    adam = torch.optim.Adam([dense], lr=0.01, betas=(0.8, 0.99), eps=1e-6)
    generator = torch.Generator().manual_seed(2)
    for step in range(25):
        repeated = torch.randint(20, (22,), generator=generator)
        ids = torch.cat([torch.randperm(20, generator=generator), repeated]).view(6, 7)
        weights = normal(6, 7, 4, seed=step)
        (table(ids) * weights).sin().sum().backward()
        table.update(0.01, betas=(0.8, 0.99), eps=1e-6)
        adam.zero_grad()
        (dense[ids] * weights).sin().sum().backward()
        adam.step()
    torch.testing.assert_close(table.weight, dense.detach(), rtol=0, atol=1e-6)


def test_each_row_is_corrected_by_its_own_count_of_steps() -> None:
    # The first step of Adam moves every coordinate by the learning rate, whenever it comes.
    table = table_of(5, 2)
    before = table.weight.clone()
    for _ in range(10):
        table(torch.tensor([1])).sum().backward()
        table.update(0.1)
    table(torch.tensor([3])).sum().backward()
    table.update(0.1)
    torch.testing.assert_close(table.weight[3], before[3] - 0.1, rtol=0, atol=1e-6)
    assert table.optimizer_state()["steps"].tolist() == [0, 10, 0, 1, 0]


def test_rows_not_named_keep_their_bits() -> None:
    table = table_of(1000, 3)
    before = table.weight.clone()
    ids = torch.tensor([5, 999, 5, 0])
    for _ in range(3):
        table(ids).square().sum().backward()
        table.update(0.1)
    touched = torch.zeros(1000, dtype=torch.bool)
    touched[ids] = True
    assert torch.equal(table.weight[~touched], before[~touched])
    assert (table.weight[touched] != before[touched]).all()
    state = table.optimizer_state()
    assert not state["moments"][~touched].any()
    assert torch.equal(state["steps"] > 0, touched)


def test_repeated_ids_add_their_gradients() -> None:
    repeated, single = table_of(4, 2), table_of(4, 2)
    repeated(torch.tensor([2, 1, 2, 2])).sum().backward()
    (single(torch.tensor([1, 2]), unique=True) * torch.tensor([[1.0], [3.0]])).sum().backward()
    repeated.update(0.1)
    single.update(0.1)
    assert torch.equal(repeated.weight, single.weight)
    torch.testing.assert_close(
        repeated.optimizer_state()["moments"][2], torch.tensor([0.3, 0.3, 0.009, 0.009])
    )


def test_several_forwards_in_a_step_are_one_update() -> None:
    several, single = table_of(6, 2), table_of(6, 2)
    (several(torch.tensor([1, 2])).sum() + several(torch.tensor([[2, 3], [1, 2]])).sum()).backward()
    several.update(0.1)
    single(torch.tensor([1, 2, 2, 3, 1, 2])).sum().backward()
    single.update(0.1)
    assert torch.equal(several.weight, single.weight)
    assert several.optimizer_state()["steps"].tolist() == [0, 1, 1, 1, 0, 0]


def test_a_forward_without_part_in_the_loss_is_forgotten() -> None:
    table = table_of(6, 2)
    before = table.weight.clone()
    table(torch.tensor([4]))
    table(torch.tensor([1])).sum().backward()
    table.update(0.1)
    assert torch.equal(table.weight[4], before[4])


def test_values_are_the_rows_in_any_shape() -> None:
    table = table_of(9, 2)
    for ids in (torch.tensor(3), torch.tensor([[1, 8], [8, 1]]), torch.zeros(0, 2).long()):
        assert torch.equal(table(ids), table.weight[ids])
    unique = torch.tensor([[3, 1], [8, 0]])
    assert torch.equal(table(unique, unique=True), table.weight[unique])
    table.update(0.1)


def test_nothing_is_remembered_in_evaluation_or_without_gradients() -> None:
    table = table_of(9, 2)
    with torch.no_grad():
        assert not table(torch.tensor([1, 1])).requires_grad
    table.eval()
    values = table(torch.tensor([1, 1]))
    assert not values.requires_grad
    assert torch.equal(values, table.weight[[1, 1]])
    before = table.weight.clone()
    table.update(0.1)
    assert torch.equal(table.weight, before)
    assert table.optimizer_state() == {}


def test_no_parameter_and_only_the_weight_in_the_state() -> None:
    table = table_of(9, 2)
    table(torch.tensor([1])).sum().backward()
    table.update(0.1)
    assert list(table.parameters()) == []
    assert list(table.state_dict()) == ["weight"]


def test_a_checkpoint_goes_on_as_if_unbroken() -> None:
    def steps(table: EmbeddingTable, first: int, last: int) -> None:
        for step in range(first, last):
            ids = torch.randint(8, (5,), generator=torch.Generator().manual_seed(step))
            (table(ids) * normal(5, 3, seed=step)).sum().backward()
            table.update(0.05)

    unbroken, broken = table_of(8, 3), table_of(8, 3)
    steps(unbroken, 0, 6)
    steps(broken, 0, 3)
    resumed = EmbeddingTable(8, 3)
    resumed.load_state_dict(copy.deepcopy(broken.state_dict()))
    resumed.load_optimizer_state(broken.optimizer_state())
    steps(broken, 3, 4)
    steps(resumed, 3, 6)
    assert torch.equal(resumed.weight, unbroken.weight)
    for name, value in unbroken.optimizer_state().items():
        assert torch.equal(resumed.optimizer_state()[name], value)
    resumed.load_optimizer_state({})
    assert resumed.optimizer_state() == {}


def test_an_unfit_optimizer_state_is_refused() -> None:
    table = table_of(8, 3)
    with pytest.raises(ValueError, match=r"moments must be \[8, 6\]; found nothing"):
        table.load_optimizer_state({"steps": torch.zeros(8)})
    with pytest.raises(ValueError, match=r"steps must be \[8\]; found \[9\]"):
        table.load_optimizer_state({"moments": torch.zeros(8, 6), "steps": torch.zeros(9)})


@pytest.mark.parametrize("ids", [[0, 9], [-1, 3]])
def test_an_id_outside_the_table_is_refused(ids: list[int]) -> None:
    with pytest.raises(IndexError, match=r"ids must be in \[0, 9\)"):
        table_of(9, 2)(torch.tensor(ids))


def test_distinct_ids_and_their_places() -> None:
    table = table_of(1000, 2)
    ids = torch.randint(1000, (3000,), generator=torch.Generator().manual_seed(1))
    rows, places = table.distinct(ids)
    assert torch.equal(rows[places], ids)
    assert sorted(rows.tolist()) == sorted(set(ids.tolist()))
    empty, nowhere = table.distinct(ids[:0])
    assert len(empty) == len(nowhere) == 0


def test_the_initial_values() -> None:
    table = table_of(4000, 16)
    assert table.weight.std().item() == pytest.approx(0.25, rel=0.02)
    assert abs(table.weight.mean().item()) < 0.01
    assert not EmbeddingTable(3, 2, std=0).weight.any()
    assert torch.equal(table.weight, table_of(4000, 16).weight)


def test_two_runs_are_equal_to_the_bit() -> None:
    def run() -> Tensor:
        table = table_of(50, 4)
        for step in range(5):
            ids = torch.randint(50, (200,), generator=torch.Generator().manual_seed(step))
            (table(ids) * normal(200, 4, seed=step)).sum().backward()
            table.update(0.01)
        return table.weight

    assert torch.equal(run(), run())


def test_it_follows_the_module_to_another_type_and_device() -> None:
    table = table_of(6, 2)
    table(torch.tensor([1])).sum().backward()
    table.update(0.1)
    model = torch.nn.Sequential(table).to(torch.float64)
    assert table.weight.dtype == torch.float64
    model(torch.tensor([1, 1])).sum().backward()
    table.update(0.1)
    assert table.optimizer_state()["steps"].tolist() == [0, 2, 0, 0, 0, 0]
    assert table.optimizer_state()["moments"].dtype == torch.float64
    model.to("meta")
    assert {value.device.type for value in table.optimizer_state().values()} == {"meta"}


def test_untrained_rows_take_the_unknown() -> None:
    table = table_of(6, 2)
    table(torch.tensor([0, 2, 5])).sum().backward()
    table.update(0.1)
    before = table.weight.clone()
    table.share_unknown()
    assert torch.equal(table.weight[[0, 2, 5]], before[[0, 2, 5]])
    assert torch.equal(table.weight[[1, 3, 4]], before[[0, 0, 0]])


def test_an_untrained_unknown_is_the_mean_of_the_trained_rows() -> None:
    table = table_of(5, 2)
    table(torch.tensor([2, 4])).sum().backward()
    table.update(0.1)
    expected = (table.weight[2] + table.weight[4]) / 2
    table.share_unknown()
    torch.testing.assert_close(table.weight[[0, 1, 3]], expected.expand(3, 2), rtol=0, atol=1e-7)


def test_a_row_that_was_named_without_a_gradient_is_untrained() -> None:
    """As a candidate is in the table that only the history reads, where it is in no history."""
    table = table_of(6, 2)
    read = table(torch.tensor([0, 2, 5]))
    (read[:2].sum() + 0 * read[2].sum()).backward()
    table.update(0.1)
    before = table.weight.clone()
    table.share_unknown()
    assert torch.equal(table.weight[[0, 2]], before[[0, 2]])
    assert torch.equal(table.weight[[1, 3, 4, 5]], before[[0, 0, 0, 0]])


def test_where_no_row_has_had_a_gradient_all_stay() -> None:
    table = table_of(4, 2)
    (0 * table(torch.tensor([0, 3])).sum()).backward()
    table.update(0.1)
    before = table.weight.clone()
    table.share_unknown()
    assert torch.equal(table.weight, before)


def test_before_any_step_nothing_is_shared() -> None:
    table = table_of(5, 2)
    before = table.weight.clone()
    table.share_unknown()
    assert torch.equal(table.weight, before)


def test_weight_decay_shrinks_the_named_rows_as_adamw_does() -> None:
    table = table_of(6, 3)
    start = table.weight.clone()
    dense = torch.nn.Parameter(start[[2, 4]].clone())
    adam = torch.optim.AdamW([dense], lr=0.05, weight_decay=0.3)
    for step in range(5):
        weights = normal(2, 3, seed=step)
        (table(torch.tensor([2, 4])) * weights).sin().sum().backward()
        table.update(0.05, weight_decay=0.3)
        adam.zero_grad()
        (dense * weights).sin().sum().backward()
        adam.step()
    torch.testing.assert_close(table.weight[[2, 4]], dense.detach(), rtol=0, atol=1e-6)
    assert torch.equal(table.weight[[0, 1, 3, 5]], start[[0, 1, 3, 5]])
