"""Assignment: stable for ever, as the weights say, independent between salts."""

from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from dualtower.errors import ConfigError
from dualtower.experiments.assignment import Arm, Experiment, load_experiment


def experiment(salt: str = "spring", weights: tuple[float, ...] = (1.0, 1.0)) -> Experiment:
    arms = tuple(Arm(name=f"arm {n}", weight=w, bundle="b") for n, w in enumerate(weights))
    return Experiment(name="test", salt=salt, arms=arms)


def test_the_same_arm_in_every_version() -> None:
    """Fixed values: a change here would move the queries of running experiments."""
    found = [experiment(weights=(1.0, 1.0, 2.0)).arm_of(f"u{n}").name[-1] for n in range(24)]
    assert "".join(found) == "102201020200220121220212"


def test_the_arm_is_the_hash_as_a_fraction_of_all_hashes() -> None:
    halves = experiment()
    for query_id in range(200):
        digest = blake2b(f"spring\0{query_id}".encode(), digest_size=8).digest()
        assert halves.arm_of(query_id).name == ("arm 0" if digest[0] < 128 else "arm 1")


def test_an_id_is_the_same_as_number_and_as_text() -> None:
    assert all(experiment().arm_of(n) == experiment().arm_of(str(n)) for n in range(100))


def test_arms_get_their_share() -> None:
    weights = (1.0, 3.0, 0.5)
    counts = Counter(experiment(weights=weights).arm_of(n).name for n in range(40_000))
    expected = 40_000 * np.array(weights) / 4.5
    assert chisquare([counts[f"arm {n}"] for n in range(3)], expected).pvalue > 0.001
    assert experiment(weights=weights).shares == {
        "arm 0": pytest.approx(2 / 9),
        "arm 1": pytest.approx(6 / 9),
        "arm 2": pytest.approx(1 / 9),
    }


def test_two_salts_divide_independently() -> None:
    first, second = experiment("spring"), experiment("autumn")
    pairs = Counter((first.arm_of(n).name, second.arm_of(n).name) for n in range(40_000))
    table = [[pairs[f"arm {row}", f"arm {column}"] for column in (0, 1)] for row in (0, 1)]
    assert chi2_contingency(table).pvalue > 0.001


def test_a_salt_and_an_id_are_not_run_together() -> None:
    assert [experiment("a").arm_of(f"b{n}").name for n in range(64)] != [
        experiment("ab").arm_of(str(n)).name for n in range(64)
    ]


def test_ids_of_any_text_have_an_arm() -> None:
    assert all(experiment().arm_of(text).name for text in ("", "\ud800", "名", "x" * 100_000))


def test_a_file_is_read_with_bundles_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text(
        'name = "dat"\nsalt = "s"\ndays = 14\n'
        '[[arms]]\nname = "two_tower"\nbundle = "a"\n'
        '[[arms]]\nname = "dat"\nweight = 3\nbundle = "/b"\n'
    )
    found = load_experiment(tmp_path / "experiment.toml")
    assert found.control == Arm(name="two_tower", bundle=str(tmp_path / "a"))
    assert found.arms[1] == Arm(name="dat", weight=3.0, bundle="/b")
    assert found.days == 14
    assert found.shares == {"two_tower": 0.25, "dat": 0.75}


ARMS = '[[arms]]\nname = "a"\nbundle = "x"\n[[arms]]\nname = "b"\nbundle = "y"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "t"\nsalt = "s"\n' + ARMS.replace('"b"', '"a"'), "'a' names two arms"),
        ('name = "t"\nsalt = "s"\n' + ARMS + "weight = 0\n", "arms.1.weight"),
        ('name = "t"\nsalt = "s"\n' + ARMS + "weight = inf\n", "arms.1.weight"),
        ('name = "t"\nsalt = ""\n' + ARMS, "salt"),
        ('name = "t"\n' + ARMS, "salt"),
        ('name = "t"\nsalt = "s"\nspeed = 1\n' + ARMS, "speed"),
        ('name = "t"\nsalt = "s"\n[[arms]]\nname = "a"\nbundle = "x"\n', "arms"),
        ("name = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        load_experiment(file)
    assert str(file) in str(raised.value)


def test_a_missing_file_says_what_an_experiment_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; an experiment is a TOML file"):
        load_experiment(tmp_path / "none.toml")


def test_weights_too_large_to_add_up() -> None:
    with pytest.raises(ValueError, match="scale them down"):
        experiment(weights=(1e308, 1e308))
