import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualtower.data.columns import Ragged
from dualtower.errors import ConfigError, DataError
from dualtower.retrieval.exact import Candidates, ExactScan
from dualtower.retrieval.index import IndexKind, build_index
from dualtower.retrieval.retriever import Retriever

KINDS: tuple[IndexKind, ...] = ("flat", "ivf", "hnsw", "compressed")
ITEMS, DIM = 12_000, 8


def ragged(lists: list[list[int]]) -> Ragged:
    values = [value for row in lists for value in row]
    offsets = np.cumsum([0] + [len(row) for row in lists])
    return Ragged(np.array(values, dtype=np.int32), offsets.astype(np.int64))


def unit(count: int, seed: int) -> npt.NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(
    queries: npt.NDArray[np.floating],
    vectors: npt.NDArray[np.floating],
    n: int,
    exclude: list[list[int]],
    allowed: set[int] | None = None,
) -> list[list[int]]:
    """The answer in plain Python and double precision; rounding merges what is a tie."""
    answer = []
    for query, seen in zip(queries.astype(np.float64), exclude, strict=True):
        interests = query if query.ndim == 2 else query[None]
        scores = np.round((interests @ vectors.astype(np.float64).T).max(axis=0), 9)
        left = set(range(len(vectors))) if allowed is None else set(allowed)
        answer.append(sorted(left - set(seen), key=lambda item: (-scores[item], item))[:n])
    return answer


def lists(found: Candidates) -> list[list[int]]:
    return [[item for item in row if item >= 0] for row in found.positions.tolist()]


@pytest.fixture(scope="module", params=KINDS)
def retriever(request: pytest.FixtureRequest) -> Retriever:
    # Enough effort to make every kind exact on so few items, up to what compression loses.
    return Retriever(build_index(unit(ITEMS, 1), request.param, effort=2_000))


def overlap(found: list[list[int]], expected: list[list[int]]) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, expected, strict=True)])
    )


def test_unseen_items_as_by_brute_force(retriever: Retriever) -> None:
    queries, generator = unit(30, 2), np.random.default_rng(3)
    nearest = np.argsort(-(queries @ retriever.index.vectors.T), axis=1)
    # Each query has seen a few of its nearest and a few others, one of them twice.
    exclude = [
        [*nearest[row, generator.integers(0, 60, 20)], *generator.integers(0, ITEMS, 20)]
        for row in range(30)
    ]
    found = retriever.retrieve(queries, 50, exclude=ragged(exclude))
    expected = brute_force(queries, retriever.index.vectors, 50, exclude)
    assert not found.short().any()
    assert not any(set(a) & set(b) for a, b in zip(lists(found), exclude, strict=True))
    if retriever.index.is_exact:
        assert lists(found) == expected
    assert overlap(lists(found), expected) > 0.98


def test_a_query_that_has_seen_its_5000_nearest(retriever: Retriever) -> None:
    queries = unit(3, 4)
    nearest = np.argsort(-(queries @ retriever.index.vectors.T), axis=1)
    exclude = [nearest[0, :5_000].tolist(), [], nearest[2, :150].tolist()]
    found = retriever.retrieve(queries, 100, exclude=ragged(exclude))
    expected = brute_force(queries, retriever.index.vectors, 100, exclude)
    assert found.counts().tolist() == [100, 100, 100]
    assert lists(found)[0] == expected[0]  # it was scanned, so it is exact
    assert overlap(lists(found), expected) > 0.98


def test_a_category_of_one_percent_is_exact(retriever: Retriever) -> None:
    queries, allowed = unit(10, 5), np.random.default_rng(6).permutation(ITEMS)[:120]
    exclude = [allowed[row : row + 5].tolist() for row in range(10)]
    found = retriever.retrieve(queries, 100, exclude=ragged(exclude), allowed=allowed)
    vectors = retriever.index.vectors
    assert lists(found) == brute_force(queries, vectors, 100, exclude, set(allowed.tolist()))
    assert not found.short().any()


def test_a_filter_that_leaves_most_items(retriever: Retriever) -> None:
    queries, allowed = unit(10, 7), np.flatnonzero(np.arange(ITEMS) % 3)
    found = retriever.retrieve(queries, 50, allowed=allowed)
    vectors = retriever.index.vectors
    expected = brute_force(queries, vectors, 50, [[]] * 10, set(allowed.tolist()))
    assert set(np.unique(found.positions)) <= set(allowed.tolist())
    assert not found.short().any()
    assert overlap(lists(found), expected) > 0.98


def test_a_filter_that_leaves_out_all_that_is_near(retriever: Retriever) -> None:
    queries = unit(1, 8)
    order = np.argsort(-(queries @ retriever.index.vectors.T)[0])
    found = retriever.retrieve(queries, 20, allowed=order[ITEMS // 2 :])
    assert lists(found) == [order[ITEMS // 2 : ITEMS // 2 + 20].tolist()]


def test_interests_are_merged_by_their_best(retriever: Retriever) -> None:
    queries = np.stack([unit(8, 9), 2 * unit(8, 10), unit(8, 9)], axis=1)
    nearest = np.argsort(-(queries @ retriever.index.vectors.T).max(axis=1), axis=1)
    exclude = [nearest[row, ::3][:30].tolist() for row in range(8)]
    found = retriever.retrieve(queries, 40, exclude=ragged(exclude))
    expected = brute_force(queries, retriever.index.vectors, 40, exclude)
    if retriever.index.is_exact:
        assert lists(found) == expected
    assert overlap(lists(found), expected) > 0.98
    best = (queries @ retriever.index.vectors.T).max(axis=1)
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(best, found.positions, axis=1), rtol=1e-5
    )


def test_n_beyond_the_corpus_gives_all_that_is_left(retriever: Retriever) -> None:
    found = retriever.retrieve(unit(2, 11), ITEMS + 5, exclude=ragged([[0, 1, 2], []]))
    assert found.counts().tolist() == [ITEMS - 3, ITEMS]
    assert found.short().tolist() == [True, True]
    assert np.isneginf(found.scores[0, ITEMS - 3 :]).all()


def test_what_is_cheap_does_not_scan(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("scanned")

    monkeypatch.setattr(ExactScan, "top", never)
    assert not retriever.retrieve(unit(20, 12), 50).short().any()


@pytest.mark.parametrize("kind", KINDS)
def test_ties_stand_in_order_of_position(kind: IndexKind) -> None:
    # Twenty vectors, each two hundred times over, shuffled: every cut falls into a tie.
    distinct = unit(20, 13)
    which = np.random.default_rng(14).permutation(np.repeat(np.arange(20), 200))
    retriever = Retriever(build_index(distinct[which], kind, effort=1_000))
    queries = unit(5, 15)
    exclude = [np.flatnonzero(which == row)[:3].tolist() for row in range(5)]
    found = retriever.retrieve(queries, 50, exclude=ragged(exclude))
    assert lists(found) == brute_force(queries, distinct[which], 50, exclude)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_answers_as_its_queries_alone(kind: IndexKind) -> None:
    retriever = Retriever(build_index(unit(2_000, 16), kind))
    queries = unit(40, 17)
    exclude = ragged([list(range(row * 30)) for row in range(40)])
    together = retriever.retrieve(queries, 10, exclude=exclude)
    for row in range(0, 40, 7):
        alone = retriever.retrieve(
            queries[row : row + 1], 10, exclude=exclude.take(np.array([row]))
        )
        assert len(set(alone.positions[0]) & set(together.positions[row])) >= 9
        if kind == "flat":
            np.testing.assert_array_equal(alone.positions[0], together.positions[row])
            np.testing.assert_array_equal(alone.scores[0], together.scores[row])


def test_no_queries() -> None:
    retriever = Retriever(build_index(unit(50, 1)))
    assert retriever.retrieve(np.empty((0, DIM), np.float32), 5).positions.shape == (0, 5)


def test_arguments_that_do_not_fit() -> None:
    retriever = Retriever(build_index(unit(50, 1)))
    queries = unit(2, 2)
    with pytest.raises(ConfigError, match="n: 0 items asked for; it should be 1 or more"):
        retriever.retrieve(queries, 0)
    with pytest.raises(DataError, match="query vectors: 3 dimensions; the items have 8"):
        retriever.retrieve(queries[:, :3], 1)
    with pytest.raises(DataError, match=r"query vectors: row 1 .* NaN"):
        retriever.retrieve(np.where([[False], [True]], np.nan, queries), 1)
    with pytest.raises(DataError, match="exclude: 1 lists for 2 queries"):
        retriever.retrieve(queries, 1, exclude=ragged([[1]]))
    with pytest.raises(DataError, match="exclude: positions 1 to 50; they should be in 0 to 49"):
        retriever.retrieve(queries, 1, exclude=ragged([[1], [50]]))
    with pytest.raises(DataError, match="allowed: positions -1 to 3"):
        retriever.retrieve(queries, 1, allowed=np.array([3, -1]))


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, int, int, int, bool]:
    return (
        draw(st.integers(1, 120)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 130)),
        draw(st.integers(0, 2**16)),
        draw(st.booleans()),
    )


@settings(max_examples=60)
@given(kind=st.sampled_from(KINDS), request=requests())
def test_whatever_is_asked_the_answer_is_the_exact_one(
    kind: IndexKind, request: tuple[int, int, int, int, bool]
) -> None:
    items, interests, n, seed, filtered = request
    generator = np.random.default_rng(seed)
    # Few distinct whole numbers: many ties, all exact in floating point.
    vectors = generator.integers(-2, 3, size=(items, 3)).astype(np.float32)
    queries = generator.integers(-2, 3, size=(4, interests, 3)).astype(np.float32)
    exclude = [
        generator.integers(0, items, generator.integers(0, items + 1)).tolist() for _ in range(4)
    ]
    allowed = np.flatnonzero(generator.random(items) < generator.random()) if filtered else None
    retriever = Retriever(build_index(vectors, kind, effort=1_000))
    found = retriever.retrieve(queries, n, exclude=ragged(exclude), allowed=allowed)
    expected = brute_force(
        queries, vectors, n, exclude, None if allowed is None else set(allowed.tolist())
    )
    assert found.counts().tolist() == [len(row) for row in expected]
    if kind != "compressed":
        assert lists(found) == expected
