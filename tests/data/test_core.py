import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualtower.data import arrays
from dualtower.data.core import core

Pairs = list[tuple[int, int]]


def by_hand(pairs: Pairs, min_query: int, min_item: int) -> tuple[set[int], set[int]]:
    """Drop one offender at a time until there is none."""
    while True:
        for side, least in ((0, min_query), (1, min_item)):
            keys = {pair[side] for pair in pairs}
            few = [key for key in keys if sum(pair[side] == key for pair in pairs) < least]
            if few:
                pairs = [pair for pair in pairs if pair[side] != few[0]]
                break
        else:
            return {query for query, _ in pairs}, {item for _, item in pairs}


def run(pairs: Pairs, min_query: int, min_item: int) -> tuple[set[int], set[int]]:
    ordered = sorted(pairs, key=lambda pair: pair[0])
    offsets = np.searchsorted([query for query, _ in ordered], np.arange(10)).astype(np.int64)
    items = np.array([item for _, item in ordered], dtype=np.int32)
    queries, kept = core(offsets, items, 9, min_query, min_item)
    assert queries[0]
    assert kept[0]
    alive = [(q, i) for q, i in pairs if queries[q] and kept[i]]
    assert {q for q, _ in alive} == set(np.flatnonzero(queries).tolist()) - {0}
    return {q for q, _ in alive}, {i for _, i in alive}


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), max_size=60),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([1, 3, 4_000_000]),
)
def test_the_fixed_point_is_that_of_dropping_one_at_a_time(
    pairs: Pairs, min_query: int, min_item: int, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "CHUNK_EVENTS", chunk)
        assert run(pairs, min_query, min_item) == by_hand(pairs, min_query, min_item)


def test_a_chain_that_unravels_completely() -> None:
    chain = [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (4, 4)]
    assert run(chain, 2, 2) == (set(), set())
