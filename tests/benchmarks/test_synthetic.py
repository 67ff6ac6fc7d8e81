import numpy as np

from benchmarks.synthetic import amazon_books_shape


def test_the_shape_asked_for() -> None:
    dataset = amazon_books_shape(queries=300, items=50, events=3000)
    assert (dataset.query_count, dataset.item_count, dataset.event_count) == (301, 51, 3000)
    lengths = np.diff(dataset.offsets)
    assert lengths[0] == 0
    assert lengths[1:].min() >= 5
    assert lengths.sum() == 3000
    assert dataset.items.min() >= 1
    assert dataset.items.max() <= 50
    assert len(dataset.query_vocabulary) == 301
    assert len(dataset.item_vocabulary) == 51


def test_items_follow_zipfs_law() -> None:
    dataset = amazon_books_shape(queries=2000, items=100, events=100_000)
    counts = np.sort(np.bincount(dataset.items))[::-1][:10] / 100_000
    expected = 1 / np.arange(1, 11) / (1 / np.arange(1, 101)).sum()
    np.testing.assert_allclose(counts, expected, rtol=0.05)


def test_the_seed_decides() -> None:
    first, second = (amazon_books_shape(300, 50, 3000, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.items, second.items)
    np.testing.assert_array_equal(first.offsets, second.offsets)


def test_most_events_are_of_the_querys_two_tastes() -> None:
    dataset = amazon_books_shape(queries=400, items=1_000, events=20_000, tastes=20)
    tastes = dataset.item_categories[1:]
    np.testing.assert_array_equal(np.bincount(tastes)[1:], 50)
    assert dataset.category_vocabulary.decode(tastes[:1]).to_list() == [int(tastes[0]) - 1]
    shares = []
    for row in range(1, 401):
        events = dataset.items[dataset.offsets[row] : dataset.offsets[row + 1]]
        counts = np.sort(np.bincount(dataset.item_categories[events]))[::-1]
        shares.append((counts[:2].sum(), len(events)))
    of_two, of_all = np.sum(shares, axis=0)
    # Four in five by design, and two of twenty of the rest; a query's best two are at least these.
    assert 0.8 < of_two / of_all < 0.9
