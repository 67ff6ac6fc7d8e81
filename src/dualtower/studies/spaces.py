"""The search spaces of `dualtower tune`: plain data, one entry a dimension.

Whatever lifts DAT is in the space of every trained model that has it: rates, length and size of the
batch, loss, negatives, temperature, dropout, the linear path, the history and the embeddings' size.
A dimension whose settings a model fixes by its nature is left out of that model's space.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dualtower.errors import ConfigError
from dualtower.evaluation.results import Value
from dualtower.models import SOLVED
from dualtower.studies.variants import base_of, fixed_settings

AS_CONFIGURED = "as configured"


@dataclass(frozen=True)
class Range:
    """Any number in between, for one setting."""

    setting: str
    low: float
    high: float
    log: bool = True
    """Whether even steps are even ratios."""

    def settings(self) -> tuple[str, ...]:
        """What the dimension sets."""
        return (self.setting,)


@dataclass(frozen=True)
class Choice:
    """One of several options, each a name and the settings that it stands for."""

    options: Mapping[str, Mapping[str, Value]]

    def settings(self) -> tuple[str, ...]:
        """What the dimension sets."""
        return tuple(dict.fromkeys(name for option in self.options.values() for name in option))


Dimension = Range | Choice
Space = dict[str, Dimension]


def one_of(setting: str, *values: Value) -> Choice:
    """A choice among values of one setting."""
    return Choice({str(value): {setting: value} for value in values})


def _loss(loss: str, negatives: str, count: int) -> dict[str, Value]:
    return {
        "training.loss": loss,
        "training.negatives": negatives,
        "training.negative_count": count,
    }


def _history(length: int) -> dict[str, Value]:
    return {"model.history": True, "model.history_length": length}


def _augmented(*, query: bool, item: bool) -> dict[str, Value]:
    return {
        "model.augmented": "leave_out",
        "model.augmented_query": query,
        "model.augmented_item": item,
    }


TRAINED_SPACE: Space = {
    "learning_rate": Range("training.learning_rate", 0.001, 0.02),
    "table_learning_rate": Range("training.table_learning_rate", 0.001, 0.2),
    "item_init": one_of("training.item_init", "random", "co_occurrence"),
    "epochs": one_of("training.epochs", 3, 5, 8, 12, 18, 24),
    "batch_size": one_of("training.batch_size", 512, 1024, 2048),
    "temperature": Range("training.temperature", 0.03, 0.4),
    "loss": Choice(
        {
            "softmax, batch and 128 uniform": _loss("sampled_softmax", "mixed", 128),
            "softmax, batch and 512 uniform": _loss("sampled_softmax", "mixed", 512),
            "softmax, batch and 2048 uniform": _loss("sampled_softmax", "mixed", 2048),
            "softmax, batch": _loss("sampled_softmax", "in_batch", 512),
            "softmax, 1024 uniform": _loss("sampled_softmax", "shared", 1024),
            "cross entropy, 4 a positive": _loss("binary_cross_entropy", "per_positive", 4),
            "cross entropy, 512 uniform": _loss("binary_cross_entropy", "shared", 512),
        }
    ),
    "embedding_dropout": one_of("model.embedding_dropout", 0.0, 0.1, 0.2, 0.3, 0.4),
    "history_dropout": one_of("model.history_dropout", 0.0, 0.1, 0.2),
    "id_dropout": one_of("model.id_dropout", 0.01, 0.05, 0.1, 0.2),
    "weight_decay": one_of("training.weight_decay", 0.0, 0.01, 0.1),
    "linear_path": one_of("model.linear_path", True, False),
    "hidden_layers": Choice(
        {
            "none": {"model.hidden_dims": ()},
            "128": {"model.hidden_dims": (128,)},
            "256, 128": {"model.hidden_dims": (256, 128)},
        }
    ),
    "embedding_dim": one_of("model.embedding_dim", 32, 64, 128),
    "history": Choice(
        {
            "none, query id": {"model.history": False, "model.query_id": True},
            **{str(length): _history(length) for length in (20, 50, 100, 200)},
        }
    ),
    "history_length": one_of("model.history_length", 20, 50, 100, 200),
    "history_form": one_of("model.history_form", "pools", "attention"),
    "history_pools": one_of("model.history_pools", 2, 4, 8),
    "normalise": one_of("model.normalise", True, False),
}
"""Of every trained model."""

_MEAN_LENGTHS = (1, 3, 8, 20, 50)
"""Lengths of a history that counts by its mean, in which older events displace newer ones."""

OWN_SPACE: dict[str, Space] = {
    "dat": {
        "augmented": Choice(
            {
                "both": _augmented(query=True, item=True),
                "a_u alone": _augmented(query=True, item=False),
                "a_v alone": _augmented(query=False, item=True),
            }
        ),
        "lambda_ca": one_of("model.lambda_ca", 0.0, 0.01, 0.1, 1.0),
    },
    "dat_learned": {
        "lambdas": Choice(
            {
                str(weight): {"model.lambda_u": weight, "model.lambda_v": weight}
                for weight in (0.0, 0.1, 0.5, 1.0)
            }
        )
    },
    "mind": {
        "interests": one_of("model.interests", 2, 4, 8),
        "label_attention": one_of("model.label_attention_power", 0.0, 2.0, "hard"),
    },
    "sasrec": {
        "attention_blocks": one_of("model.attention_blocks", 1, 2, 3),
        "attention_dropout": one_of("model.attention_dropout", 0.0, 0.1, 0.2, 0.4),
    },
    "youtube_dnn": {"history_length": one_of("model.history_length", *_MEAN_LENGTHS)},
    "fm": {
        "history": Choice(
            {
                "none, query id": {"model.history": False, "model.query_id": True},
                **{str(length): _history(length) for length in _MEAN_LENGTHS},
            }
        ),
    },
    "popularity": {},
    "item_knn": {
        "neighbours": one_of("neighbours", 50, 100, 200, 400, 800),
        "shrinkage": one_of("shrinkage", 0.0, 1.0, 10.0, 30.0, 100.0),
        "decay": one_of("decay", 1.0, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2),
    },
    "ease": {"regularization": Range("regularization", 10.0, 3000.0)},
    "wals": {
        "regularization": Range("regularization", 0.1, 300.0),
        "alpha": Range("alpha", 1.0, 100.0),
        "iterations": one_of("iterations", 5, 15),
    },
}
"""What one model or variant has beside or instead of a part of `TRAINED_SPACE`, and all that a
solved one has."""

NOT_READ: dict[str, tuple[str, ...]] = {
    "fm": ("temperature", "history_pools", "linear_path", "hidden_layers", "embedding_dim"),
    "youtube_dnn": ("temperature", "history_pools"),
    "mind": ("history_form", "history_pools"),
    "sasrec": ("temperature", "history_pools", "linear_path", "hidden_layers", "embedding_dim"),
}
"""Dimensions of `TRAINED_SPACE` that a model does not have."""


def check_dimensions(option: str, names: Iterable[str]) -> None:
    """Each must be a dimension of some model.

    Raises:
        ConfigError: one is not; the message names the command's option.
    """
    known = {*TRAINED_SPACE, *(part for space in OWN_SPACE.values() for part in space)}
    if unknown := sorted(set(names) - known):
        raise ConfigError(
            f"{option}: no dimension {unknown[0]!r}; there are {', '.join(sorted(known))}"
        )


def holds(space: Space, place: Mapping[str, Any]) -> bool:
    """Whether a place is one of the space: a value in reach for each of its dimensions."""
    return space.keys() == place.keys() and all(
        dimension.low <= place[part] <= dimension.high
        if isinstance(dimension, Range)
        else place[part] in dimension.options
        for part, dimension in space.items()
    )


def space_of(name: str, keep: Iterable[str] = ()) -> Space:
    """The dimensions of a model or variant.

    Args:
        name: of a model or variant.
        keep: names of dimensions that stay as configured.

    Raises:
        ConfigError: there is no such model, or no dimension of a name in `keep` for any model.
    """
    base, kept = base_of(name), frozenset(keep)
    check_dimensions("--keep", kept)
    own = {**OWN_SPACE.get(base, {}), **OWN_SPACE.get(name, {})}
    if base in SOLVED:
        return {part: dimension for part, dimension in own.items() if part not in kept}
    fixed, kept = fixed_settings(name), kept.union(NOT_READ.get(base, ()))
    space = {
        part: dimension
        for part, dimension in {**TRAINED_SPACE, **own}.items()
        if not fixed.intersection(dimension.settings())
    }
    if "history" in space:
        del space["history_length"]
    return {part: dimension for part, dimension in space.items() if part not in kept}


def widened(space: Space, current: Mapping[str, Any]) -> tuple[Space, dict[str, Any]]:
    """The space with the configured values in it, and where in it they are.

    Args:
        space: of a model.
        current: every setting's configured value, by its name.
    """
    wide: Space = {}
    place: dict[str, Any] = {}
    for part, dimension in space.items():
        if isinstance(dimension, Range):
            value = float(current[dimension.setting])
            low, high = min(dimension.low, value), max(dimension.high, value)
            wide[part] = Range(dimension.setting, low, high, dimension.log and low > 0)
            place[part] = value
            continue
        found = [
            option
            for option, settings in dimension.options.items()
            if all(current[setting] == value for setting, value in settings.items())
        ]
        if not found:
            now = {setting: current[setting] for setting in dimension.settings()}
            dimension = Choice({**dimension.options, AS_CONFIGURED: now})
        wide[part], place[part] = dimension, found[0] if found else AS_CONFIGURED
    return wide, place


def place_with(
    space: Space, place: Mapping[str, Any], changes: Mapping[str, str]
) -> dict[str, Any] | None:
    """A place with some dimensions changed; None where the space lacks one, or a value in it.

    Args:
        space: of a model.
        place: in it.
        changes: what to change, as a user writes it: a number in a range, or an option's name.
    """
    found = dict(place)
    for part, text in changes.items():
        value = _value_in(space[part], text) if part in space else None
        if value is None:
            return None
        found[part] = value
    return found


def _value_in(dimension: Dimension, text: str) -> float | str | None:
    if isinstance(dimension, Choice):
        return text if text in dimension.options else None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if dimension.low <= value <= dimension.high else None


def in_words(dimension: Dimension) -> str:
    """What values a dimension has."""
    if isinstance(dimension, Choice):
        return "one of " + "; ".join(dimension.options)
    return f"a number from {dimension.low:g} to {dimension.high:g}"


def settings_at(space: Space, place: Mapping[str, Any]) -> dict[str, Value]:
    """The settings that a place in a space stands for."""
    settings: dict[str, Value] = {}
    for part, dimension in space.items():
        if isinstance(dimension, Range):
            settings[dimension.setting] = place[part]
        else:
            settings.update(dimension.options[place[part]])
    return settings
