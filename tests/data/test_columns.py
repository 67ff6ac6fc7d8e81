import numpy as np

from dualtower.data.columns import Ragged


def test_a_single_list_is_one_row_of_int32() -> None:
    for values in ([7, 3, 7], np.array([7, 3, 7], dtype=np.int64)):
        single = Ragged.single(values)
        assert (len(single), single.values.dtype) == (1, np.int32)
        assert single.take(np.array([0, 0])).values.tolist() == [7, 3, 7, 7, 3, 7]
    assert Ragged.single([]).lengths().tolist() == [0]


def test_an_int32_array_is_shared() -> None:
    values = np.array([1, 2], dtype=np.int32)
    assert Ragged.single(values).values is values
