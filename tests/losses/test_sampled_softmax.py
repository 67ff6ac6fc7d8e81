import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dualtower.losses import sampled_softmax as module
from dualtower.losses.sampled_softmax import _chunk, sampled_softmax
from dualtower.training.negatives import log_inclusion_in_batch


def vectors(rows: int, seed: int, dim: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, dim, generator=generator, dtype=torch.float64)


def reference(
    queries: Tensor,
    positives: Tensor,
    candidates: Tensor,
    temperature: float = 1.0,
    excluded: tuple[Tensor, Tensor] | None = None,
    positive_log_inclusion: Tensor | None = None,
    candidate_log_inclusion: Tensor | None = None,
) -> Tensor:
    """The same by composed operations: the positive in column 0, then the candidates."""
    own = (queries * positives).sum(1) / temperature
    scores = queries @ candidates.T / temperature
    if positive_log_inclusion is not None:
        own = own - positive_log_inclusion
    if candidate_log_inclusion is not None:
        scores = scores - candidate_log_inclusion
    if excluded is not None:
        mask = torch.zeros(scores.shape, dtype=torch.bool)
        mask[excluded] = True
        scores = scores.masked_fill(mask, -math.inf)
    logits = torch.cat([own[:, None], scores], dim=1)
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))


def test_value_by_hand() -> None:
    # exp of the scores: positive 2 against 1 and 1; positive 3 against 1 and 4.
    queries = torch.eye(2, dtype=torch.float64)
    positives = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64).log()
    candidates = torch.tensor([[1.0, 1.0], [1.0, 4.0]], dtype=torch.float64).log()
    loss = sampled_softmax(queries, positives, candidates)
    assert loss.item() == pytest.approx(-(math.log(2 / 4) + math.log(3 / 8)) / 2, rel=1e-12)


def test_exclusion_correction_and_temperature_by_hand() -> None:
    # Scores are doubled by the temperature 1/2, so exp(scores) are squared: positives 4 and 9,
    # candidates 1 1 and 1 16. Divided by q: positives 4/.5 = 8, 9/1; candidates 1/.25 = 4, x/.5.
    # Row 0 loses its second candidate: 8 of 8 + 4. Row 1: 9 of 9 + 4 + 32.
    queries = torch.eye(2, dtype=torch.float64)
    positives = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64).log()
    candidates = torch.tensor([[1.0, 1.0], [1.0, 4.0]], dtype=torch.float64).log()
    loss = sampled_softmax(
        queries,
        positives,
        candidates,
        temperature=0.5,
        excluded=(torch.tensor([0]), torch.tensor([1])),
        positive_log_inclusion=torch.tensor([0.5, 1.0], dtype=torch.float64).log(),
        candidate_log_inclusion=torch.tensor([0.25, 0.5], dtype=torch.float64).log(),
    )
    assert loss.item() == pytest.approx(-(math.log(8 / 12) + math.log(9 / 45)) / 2, rel=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 512])
@pytest.mark.parametrize("with_excluded", [False, True])
@pytest.mark.parametrize("with_correction", [False, True])
def test_value_and_gradients_equal_composed_operations(
    with_excluded: bool, with_correction: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    options: dict[str, object] = {"temperature": 0.3}
    if with_excluded:  # one pair is named twice
        options["excluded"] = (torch.tensor([0, 0, 2, 0]), torch.tensor([1, 4, 3, 1]))
    if with_correction:
        options["positive_log_inclusion"] = -torch.arange(3, dtype=torch.float64)
        options["candidate_log_inclusion"] = -torch.arange(5, dtype=torch.float64) / 2
    grads = []
    for function in (sampled_softmax, reference):
        inputs = [vectors(rows, seed).requires_grad_() for rows, seed in ((3, 1), (3, 2), (5, 3))]
        loss = function(*inputs, **options)  # type: ignore[operator]
        (3 * loss).backward()
        grads.append([loss, *(tensor.grad for tensor in inputs)])
    for ours, expected in zip(*grads, strict=True):
        torch.testing.assert_close(ours, expected)


def test_gradients_agree_with_finite_differences() -> None:
    inputs = tuple(vectors(rows, rows).requires_grad_() for rows in (3, 3, 5))
    excluded = (torch.tensor([1]), torch.tensor([0]))
    assert torch.autograd.gradcheck(
        lambda *v: sampled_softmax(*v, temperature=0.5, excluded=excluded), inputs
    )


def test_a_candidate_excluded_from_every_row_gets_no_gradient() -> None:
    queries, positives, candidates = vectors(2, 1), vectors(2, 2), vectors(3, 3).requires_grad_()
    excluded = (torch.tensor([0, 1]), torch.tensor([1, 1]))
    sampled_softmax(queries, positives, candidates, excluded=excluded).backward()
    assert candidates.grad is not None
    assert torch.equal((candidates.grad == 0).all(dim=1), torch.tensor([False, True, False]))


def test_a_row_whose_candidates_are_all_excluded_contributes_nothing() -> None:
    queries = torch.ones(2, 2, requires_grad=True)
    positives, candidates = torch.full((2, 2), -300.0), torch.full((1, 2), -300.0)
    excluded = (torch.tensor([0]), torch.tensor([0]))
    loss = sampled_softmax(queries, positives, candidates, excluded=excluded)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) / 2, rel=1e-4)
    assert queries.grad is not None
    assert torch.equal(queries.grad[0], torch.zeros(2))


def test_no_candidate_at_all_gives_zero() -> None:
    assert sampled_softmax(vectors(2, 1), vectors(2, 2), vectors(0, 3)).item() == 0


def test_large_scores_stay_finite() -> None:
    queries = torch.tensor([[1000.0]], requires_grad=True)
    loss = sampled_softmax(queries, torch.tensor([[-1.0]]), torch.tensor([[1.0]]))
    loss.backward()
    assert loss.item() == 2000.0
    assert queries.grad is not None
    assert queries.grad.item() == 2.0


def test_duplicating_the_rows_changes_nothing() -> None:
    queries, positives, candidates = vectors(3, 1), vectors(3, 2), vectors(5, 3)
    once = sampled_softmax(queries, positives, candidates)
    twice = sampled_softmax(queries.repeat(2, 1), positives.repeat(2, 1), candidates)
    torch.testing.assert_close(once, twice, rtol=1e-14, atol=0)


def test_inputs_are_left_as_they_were() -> None:
    inputs = [vectors(3, 1), vectors(3, 2), vectors(5, 3)]
    copies = [tensor.clone() for tensor in inputs]
    sampled_softmax(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((3,), (3,), (4, 2)), {}, "queries"),
        (((3, 2), (2, 2), (4, 2)), {}, "queries"),
        (((3, 2), (3, 2), (4, 3)), {}, "candidates"),
        (((0, 2), (0, 2), (4, 2)), {}, "queries"),
        (((2, 2), (2, 2), (2, 2)), {"positive_log_inclusion": torch.zeros(2, 1)}, "positive_log"),
        (((2, 2), (2, 2), (2, 2)), {"candidate_log_inclusion": torch.zeros(3)}, "candidate_log"),
    ],
)
def test_shapes_that_would_broadcast_are_refused(
    shapes: tuple[tuple[int, ...], ...], options: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sampled_softmax(*(torch.zeros(shape) for shape in shapes), **options)


def test_weights_by_hand() -> None:
    # The rows of the first test, with weights 3 and 1.
    queries = torch.eye(2, dtype=torch.float64)
    positives = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64).log()
    candidates = torch.tensor([[1.0, 1.0], [1.0, 4.0]], dtype=torch.float64).log()
    weights = torch.tensor([3.0, 1.0], dtype=torch.float64)
    loss = sampled_softmax(queries, positives, candidates, weights=weights)
    assert loss.item() == pytest.approx(-(3 * math.log(2 / 4) + math.log(3 / 8)) / 4, rel=1e-12)
    same = sampled_softmax(queries, positives, candidates, weights=2 * weights)
    torch.testing.assert_close(same, loss, rtol=1e-14, atol=0)
    twice = [tensor.repeat(2, 1) for tensor in (queries, positives)]
    same = sampled_softmax(*twice, candidates, weights=weights.repeat(2))
    torch.testing.assert_close(same, loss, rtol=1e-14, atol=0)


def test_gradients_with_weights_agree_with_finite_differences() -> None:
    """Also where batch, dimension and number of candidates are the same."""
    inputs = tuple(vectors(3, seed).requires_grad_() for seed in range(3))
    weights = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *v: sampled_softmax(*v, temperature=0.5, weights=weights), inputs
    )
    sampled_softmax(*inputs, weights=weights).backward()
    assert inputs[0].grad is not None
    assert inputs[0].grad[1].tolist() == [0, 0, 0]


def test_the_refined_correction_has_the_gradient_of_its_paper_s_loss() -> None:
    """Khrylchenko et al. 2025: the negatives alone in the denominator, each a draw from Q without
    the positive, and the example weighed by how likely the model is to be wrong on it."""
    draws = 7
    queries, positives = vectors(4, 0).requires_grad_(), vectors(4, 1).requires_grad_()
    candidates = vectors(draws, 2).requires_grad_()
    share = torch.linspace(0.02, 0.3, draws, dtype=torch.float64)

    own, scores = (queries * positives).sum(1), queries @ candidates.T - share.log()
    wrong = 1 - torch.cat([own[:, None], scores - math.log(draws)], dim=1).softmax(1)[:, 0]
    theirs = -(wrong.detach() * (own - scores.logsumexp(1))).mean()
    expected = torch.autograd.grad(theirs, [queries, positives, candidates])

    inclusion = (draws * share).log()
    ours = sampled_softmax(queries, positives, candidates, candidate_log_inclusion=inclusion)
    for gradient, other in zip(
        torch.autograd.grad(ours, [queries, positives, candidates]), expected, strict=True
    ):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_refined_gradient_is_nearer_the_full_softmax_s(batch: int, seed: int) -> None:
    """Exactly, by going through every batch that five items of unequal popularity can make up."""
    share = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03], dtype=torch.float64)
    scores = 1.5 * torch.randn(
        5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    one_hot = torch.eye(5, dtype=torch.float64)
    standard = log_inclusion_in_batch(share, batch)
    refined = log_inclusion_in_batch(share, batch - 1)
    off = {"none": 0.0, "standard": 0.0, "refined": 0.0}
    for positive in range(5):
        expected = {name: -(scores.softmax(0) - one_hot[positive]) for name in off}
        for others in itertools.product(range(5), repeat=batch - 1):
            chance = share[list(others)].prod()
            present = torch.tensor(sorted({positive, *others}))
            own = (torch.tensor([0]), torch.nonzero(present == positive)[:, 0])
            for name, of_positive, of_candidates in (
                ("none", None, None),
                ("standard", standard[[positive]], standard[present]),
                ("refined", None, refined[present]),
            ):
                query = scores[None].clone().requires_grad_()
                loss = sampled_softmax(
                    query,
                    one_hot[[positive]],
                    one_hot[present],
                    excluded=own,
                    positive_log_inclusion=of_positive,
                    candidate_log_inclusion=of_candidates,
                )
                expected[name] += chance * torch.autograd.grad(loss, query)[0][0]
        for name in off:
            off[name] += float(share[positive] * expected[name].norm())
    assert off["refined"] < off["standard"]
    assert off["refined"] < off["none"]


def test_with_certain_candidates_the_refined_loss_is_the_full_softmax() -> None:
    queries, items = vectors(4, 0), vectors(6, 1)
    own = torch.tensor([2, 0, 5, 2])
    loss = sampled_softmax(
        queries,
        items[own],
        items,
        excluded=(torch.arange(4), own),
        candidate_log_inclusion=torch.zeros(6, dtype=torch.float64),
    )
    full = functional.cross_entropy(queries @ items.T, own)
    torch.testing.assert_close(loss, full)


def test_on_a_gpu_as_many_rows_are_scored_at_once_as_a_gigabyte_of_scores_has() -> None:
    def rows(batch: int, candidates: int) -> int:
        return _chunk(torch.empty(batch, 4, device="meta"), torch.empty(candidates, device="meta"))

    assert rows(1000, 5000) == 1000
    assert rows(100_000, 2**20) == 2**8
    assert rows(10, 2**29) == 1
