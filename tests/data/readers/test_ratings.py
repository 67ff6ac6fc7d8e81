from pathlib import Path

import polars as pl
import pytest

from dualtower.data.readers.ratings import read_ratings
from dualtower.errors import DataError
from dualtower.files import sha256

FRAME = pl.DataFrame({"user_id": [7, 7, 30], "item_id": [2, 1, 2], "rating": [5, 3, 1]})


def write(folder: Path, name: str) -> Path:
    """The three ratings in the form that the name says."""
    path = folder / name
    if name.endswith(".parquet"):
        FRAME.write_parquet(path)
    elif name.endswith(".dat"):
        path.write_text("7::2::5::978300760\n7::1::3::978302109\n30::2::1::978301968\n")
    elif name.endswith(".inter"):
        head = "user_id:token\titem_id:token\trating:float\n"
        path.write_text(head + "7\t2\t5.0\n7\t1\t3\n30\t2\t1\n")
    else:
        path.write_text("userId,movieId,rating,timestamp\n7,2,5.0,1\n7,1,3.0,2\n30,2,1.0,3\n")
    return path


@pytest.mark.parametrize("in_folder", [False, True])
@pytest.mark.parametrize(
    "name", ["interactions.parquet", "ratings.dat", "ratings.csv", "ml-1m.inter"]
)
def test_every_form_gives_the_same_ratings(tmp_path: Path, name: str, in_folder: bool) -> None:
    path = write(tmp_path, name)
    found = read_ratings(tmp_path if in_folder else path)
    assert found.items.tolist() == [1, 0, 1]
    assert found.values.tolist() == [5, 3, 1]
    assert sorted(set(found.users.tolist())) == [0, 1]
    assert found.users[0] == found.users[1] != found.users[2]
    assert found.sha256 == sha256(path)
    assert found.name == (tmp_path.name if in_folder else path.stem)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "user_id,item_id\n1,2\n", r"a\.csv: no column of the ratings; one of rating"),
        ("a.csv", "who,item_id,rating\n1,2,3\n", r"a\.csv: no column of the users; .*: who, item"),
        ("a.csv", "user_id,item_id,rating\n1,2,good\n", "column 'rating' is of type String"),
        ("a.csv", "user_id,item_id,rating\n1,2,4\n1,2,\n", "row 2, column 'rating': None is not"),
        ("a.csv", "user_id,item_id,rating\n,2,4\n", "row 1, column 'user_id': None is no user"),
        ("a.dat", "1::2::5::9\n1::2::x::9\n", r"a\.dat: line 2, column 'rating': 'x' is not"),
        ("a.dat", "1:2:5:9\n", r"a\.dat: line 1 has 1 fields between '::'"),
        ("a.inter", "user_id:token\titem_id:token\n1\t2\n", "no column of the ratings"),
        ("a.inter", "user_id:token\titem_id:token\trating:float\n1\t2\tx\n", "line 2, column"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_ratings(tmp_path / name)


def test_a_folder_without_ratings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no ratings; looked for interactions"):
        read_ratings(tmp_path)
