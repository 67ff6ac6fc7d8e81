"""Both forms of augmented vectors against naive means, and by construction without the example."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dualtower.models.augmented import Learned, LeaveOut, Past, Projection

GENERATOR = torch.Generator().manual_seed(0)


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=GENERATOR), dim=-1)


def leave_out(dim: int = 3, output_dim: int = 3, folds: int = 3, length: int = 4) -> LeaveOut:
    return LeaveOut(6, output_dim, dim, folds=folds, fade=0.5, history_length=length)


def past(vectors: Tensor, window: list[int], known: list[int], earlier: list[Tensor]) -> Past:
    return Past(
        queries=torch.zeros(len(window), dtype=torch.long),
        window=torch.tensor(window),
        known=torch.tensor(known),
        vectors=vectors,
        earlier_sum=torch.stack([part.sum(0) for part in earlier]),
        earlier_count=torch.tensor([len(part) for part in earlier]),
    )


class TestLeaveOutQuery:
    def test_mean_and_decayed_mean_over_what_came_before(self):
        augmented = leave_out()
        vectors, earlier = unit(2, 6, 3), [torch.zeros(0, 3), unit(5, 3)]
        vectors[0, 4:] = 0
        window, known = [0, 0, 0, 1, 1, 1], [0, 1, 4, 0, 2, 6]
        got = augmented.query(past(vectors, window, known, earlier))
        assert got.shape == (6, augmented.query_dim) == (6, 6)
        decay = torch.sigmoid(augmented.decay_logit)
        for row, (one, count) in enumerate(zip(window, known, strict=True)):
            inside = vectors[one, :count]
            before = torch.cat([earlier[one], inside])
            mean = before.mean(0) if len(before) else torch.zeros(3)
            latest = inside.flip(0)[:4]
            weights = decay ** torch.arange(len(latest))
            decayed = torch.zeros(3)
            if len(latest):
                decayed = (weights[:, None] * latest).sum(0) / weights.sum()
            assert_close(got[row], torch.cat([mean, decayed]))

    def test_the_target_and_what_follows_it_do_not_enter(self):
        augmented = leave_out()
        vectors = unit(1, 5, 3)
        changed = vectors.clone()
        changed[0, 2:] = unit(3, 3)
        first, other = (
            augmented.query(past(events, [0], [2], [torch.zeros(0, 3)]))
            for events in (vectors, changed)
        )
        assert torch.equal(first, other)

    def test_the_decay_learns(self):
        augmented = leave_out()
        vectors = unit(1, 5, 3)
        augmented.query(past(vectors, [0], [4], [torch.zeros(0, 3)]))[0, 3:].sum().backward()
        assert augmented.decay_logit.grad.abs() > 0


class TestLeaveOutItem:
    def observed(self) -> tuple[LeaveOut, list[tuple[int, int, Tensor]]]:
        """Forty events in folds 0 … 2, told in batches of one fold; item 5 has none."""
        augmented = leave_out()
        events = []
        for fold in (0, 1, 2, 0):
            items, vectors = torch.randint(1, 5, (10,), generator=GENERATOR), unit(10, 3)
            augmented.observe(items, vectors, fold)
            events += [
                (fold, item, p) for item, p in zip(items.tolist(), vectors.unbind(), strict=True)
            ]
        return augmented, events

    @pytest.mark.parametrize("fold", [None, 0, 1, 2])
    def test_the_mean_over_the_other_folds(self, fold: int | None):
        augmented, events = self.observed()
        got = augmented.item(torch.tensor([3, 1, 2, 5]), fold)
        for row, item in enumerate([3, 1, 2, 5]):
            vectors = [p for where, what, p in events if what == item and where != fold]
            expected = torch.stack(vectors).mean(0) if vectors else torch.zeros(3)
            assert_close(got[row], expected)

    def test_nothing_of_a_batch_s_own_fold_is_in_it(self):
        """Whatever the batch's queries did, its a_v is bit for bit the same."""
        augmented, _ = self.observed()
        items = torch.arange(6)
        before = augmented.item(items, 1)
        augmented.observe(torch.tensor([1, 2, 2, 3]), 1e6 * unit(4, 3), 1)
        assert torch.equal(augmented.item(items, 1), before)
        assert not torch.equal(augmented.item(items, 0), before)

    def test_the_only_query_of_an_item_does_not_see_itself(self):
        augmented = leave_out()
        augmented.observe(torch.tensor([4]), unit(1, 3), 2)
        assert augmented.item(torch.tensor([4]), 2).tolist() == [[0, 0, 0]]

    def test_no_gradient_flows_through_the_sums(self):
        augmented = leave_out()
        vectors = unit(2, 3).requires_grad_()
        augmented.observe(torch.tensor([1, 2]), vectors, 0)
        assert not augmented.item(torch.tensor([1, 2]), None).requires_grad

    def test_fading_lets_newer_vectors_count_more_and_leaves_the_mean_of_old_ones(self):
        augmented = leave_out()  # fades to a half
        old, new = unit(1, 3), unit(1, 3)
        augmented.observe(torch.tensor([1]), old, 0)
        augmented.fade()
        assert_close(augmented.item(torch.tensor([1]), None), old)
        augmented.observe(torch.tensor([1]), new, 0)
        assert_close(augmented.item(torch.tensor([1]), None), (0.5 * old + new) / 1.5)

    def test_clearing_forgets_all(self):
        augmented, _ = self.observed()
        augmented.clear()
        assert not augmented.item(torch.arange(6), None).any()


class TestProjection:
    def test_equal_lengths_leave_p_as_it_is(self):
        vectors = unit(4, 5)
        projection = Projection(5, 5)
        assert projection.matrix is None
        assert projection(vectors) is vectors

    @pytest.mark.parametrize("augmented_dim", [6, 16])
    def test_a_longer_one_keeps_every_inner_product(self, augmented_dim: int):
        vectors = unit(4, 5)
        longer = Projection(5, augmented_dim)(vectors)
        assert longer.shape == (4, augmented_dim)
        assert_close(longer @ longer.T, vectors @ vectors.T)

    def test_a_shorter_one_is_an_orthonormal_view(self):
        matrix = Projection(16, 5).matrix
        assert_close(matrix.T @ matrix, torch.eye(5))

    def test_it_is_fixed(self):
        projection = Projection(4, 7)
        assert not list(projection.parameters())
        assert torch.equal(projection.matrix, Projection(4, 7).matrix)

    def test_leave_out_sums_projected_vectors(self):
        augmented = leave_out(dim=2, output_dim=3)
        vectors = unit(2, 3)
        augmented.observe(torch.tensor([1, 1]), vectors, 0)
        expected = augmented.project(vectors).mean(0)
        assert_close(augmented.item(torch.tensor([1]), None)[0], expected)
        a_u = augmented.query(past(vectors[None], [0], [2], [torch.zeros(0, 3)]))
        assert a_u.shape == (1, 4)
        assert_close(a_u[0, :2], expected)


class TestLearned:
    def test_rows_by_id_from_two_tables_of_their_own(self):
        torch.manual_seed(0)
        learned = Learned(4, 6, 3, 5)
        assert learned.queries.weight.shape == (4, 5)
        assert learned.items.weight.shape == (6, 5)
        assert learned.queries.weight.data_ptr() != learned.items.weight.data_ptr()
        queries = torch.tensor([2, 0, 2])
        given = learned.query(Past(queries, queries, queries, None, None, None))
        assert torch.equal(given, learned.queries.weight[queries])
        assert torch.equal(learned.item(torch.tensor([5, 1]), None), learned.items.weight[[5, 1]])

    def test_it_takes_no_sums(self):
        learned = Learned(4, 6, 3, 5)
        before = {name: values.clone() for name, values in learned.state_dict().items()}
        learned.observe(torch.tensor([1]), unit(1, 3), 0)
        learned.fade()
        learned.clear()
        after = learned.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
