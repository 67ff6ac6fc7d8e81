import numpy as np

from dualtower.evaluation.cuts import Cuts, every_event, rank_cuts, time_starts, unseen
from dualtower.models.item_knn import ItemKNN
from tests.helpers import leave_last_out_by_hand, tiny_dataset
from tests.retrieval.vectors import SumOfHistory


def with_times(logs: list[list[int]], times: list[int]):  # type: ignore[no-untyped-def]
    dataset = tiny_dataset(logs, item_count=6)
    object.__setattr__(dataset, "times", np.array(times, dtype=np.int64))
    return dataset


def test_every_event_of_a_period_knows_what_came_before_its_own_time() -> None:
    # Two queries: q1 has events at times 1, 2, 2, 3; q2 at 3, 3.
    dataset = with_times([[1, 2, 3, 4], [1, 2]], [1, 2, 2, 3, 3, 3])
    assert time_starts(dataset).tolist() == [0, 1, 1, 3, 4, 4]
    start, end = np.array([0, 1, 4]), np.array([0, 4, 6])
    cuts = every_event(dataset, start, end)
    assert cuts.queries.tolist() == [1, 1, 1, 2, 2]
    assert cuts.targets.tolist() == [1, 2, 3, 4, 5]
    assert cuts.known.tolist() == [1, 1, 3, 4, 4]
    assert cuts.seen.tolist() == [1, 2, 3, 4, 5]
    told = every_event(dataset, start, end, same_time_history=True)
    assert told.known.tolist() == [1, 2, 3, 4, 5]
    batch = cuts.batch(dataset)
    assert batch.rows.tolist() == [1, 1, 1, 2, 2]
    assert batch.history.lengths().tolist() == [1, 1, 3, 0, 0]
    assert batch.history.take(np.array([2])).values.tolist() == [1, 2, 3]


def test_repeats_are_known() -> None:
    dataset = tiny_dataset([[1, 2, 1, 3], [3]], item_count=6)
    cuts = every_event(dataset, dataset.offsets[:-1], dataset.offsets[1:])
    assert unseen(dataset, cuts).tolist() == [True, True, False, True, True]


def test_ranks_by_hand() -> None:
    # Vectors in the plane; a query is the sum of what it knows.
    plane = np.array([[0, 0], [1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-0.6, 0.8]])
    dataset = tiny_dataset([[1, 2, 4], [4, 5]], item_count=6)
    model = SumOfHistory.of(dataset.space(), plane)
    corpus = np.array([1, 2, 3, 4])
    cuts = every_event(dataset, dataset.offsets[:-1], dataset.offsets[1:])
    # q1: nothing known, all four tie at 0: 1 + 3 / 2. Then (1, 0) has seen i1: i2 leads. Then
    # (1.8, .6) has seen i1, i2: i3 1.56, i4 .6. q2: a tie again; i5 is outside.
    assert rank_cuts(model, dataset, cuts, corpus, progress=False).tolist() == [
        2.5,
        1,
        2,
        2.5,
        np.inf,
    ]
    # Frozen: nothing is known of q1 but its seen items are.
    frozen = cuts.knowing(np.zeros(5, dtype=np.int64) + dataset.offsets[cuts.queries])
    assert rank_cuts(model, dataset, frozen, corpus, progress=False).tolist() == [
        2.5,
        2,
        1.5,
        2.5,
        np.inf,
    ]


def test_a_cut_before_the_targets_ranks_as_evaluate_does() -> None:
    from dualtower.evaluation.ranking import rank_targets

    rng = np.random.default_rng(0)
    dataset = tiny_dataset([list(rng.permutation(20)[:6] + 1) for _ in range(30)], item_count=21)
    parts = leave_last_out_by_hand(dataset)
    model = ItemKNN(neighbours=5)
    model.solve(parts.train)
    ranking = rank_targets(model, parts.test, parts.test.queries(), progress=False)
    cuts = every_event(dataset, parts.test.start, parts.test.end)
    assert cuts.queries.tolist() == ranking.queries.tolist()
    found = rank_cuts(model, dataset, cuts, parts.test.corpus, progress=False)
    assert found.tolist() == ranking.ranks.tolist()
    assert isinstance(cuts, Cuts)
