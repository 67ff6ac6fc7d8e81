"""A commented TOML configuration from a guess."""

import glob
import os
import re
import textwrap
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel

from dualtower.config import RunConfig
from dualtower.data.discover import Guess
from dualtower.data.tables import PARQUET_SUFFIXES
from dualtower.errors import ConfigError
from dualtower.files import BUNDLE_FORMAT, DATASET_FORMAT, check_replaceable
from dualtower.schema import Feature, FeatureKind

_SIDES = ("query_features", "item_features", "context_features")
_WRITTEN = {("data", "dataset"): DATASET_FORMAT, ("bundle", "path"): BUNDLE_FORMAT}
"""Settings that name a folder to write, and what it will hold."""
_CANDIDATES = {
    "query_features": (
        "query_candidates",
        "A column that may hold items of the query itself is a remark below: use it only if none "
        "of these items comes from the events to be predicted. A list of all that a query bought "
        "holds the test's answers, and a model would read them there.",
    ),
    "context_features": (
        "context_candidates",
        "Columns of the interactions that could be context: keep those whose value is known when a "
        "recommendation is asked for (not what comes of it, such as a price paid).",
    ),
}
"""By side, the features of a guess that are only suggested, and when to use them."""
_HEAD = """\
Written by {written_by}; it runs as it is:
  dualtower fit {name}
Lines that begin with # are remarks, or settings at their default.
Paths are relative to this file.
"""


def config_text(
    guess: Guess, output: Path, *, written_by: str = "`dualtower init` from a look at your tables"
) -> str:
    """The configuration as TOML, with what was guessed and why, and all other settings as remarks.

    Args:
        guess: what `discover` returned.
        output: where the text will be saved; the paths in it become relative to its folder.
        written_by: what its first line says.

    Raises:
        ConfigError: `output` is in a folder that a table is all of, or all Parquet files of.
    """
    folder = output.resolve().parent
    lines = [
        f"# {line}" for line in _HEAD.format(name=output.name, written_by=written_by).splitlines()
    ]
    for name in RunConfig.model_fields:
        section = getattr(guess.config, name)
        lines += ["", f"# {_summary(type(section))}", f"[{name}]"]
        settings = type(section).model_fields
        for setting, description in settings.items():
            value = getattr(section, setting)
            if setting in _SIDES:
                lines += _feature_lines(guess, setting, value)
                continue
            if (name, setting) == ("columns", "weight") and guess.weight_candidate is not None:
                lines += _weight_lines(guess.weight_candidate)
                continue
            if name == "data" and setting != "dataset" and value is not None:
                value = _table_path(value, folder, setting)
            if (name, setting) in _WRITTEN:
                value = _free_folder(folder, value, _WRITTEN[name, setting])
            reason = guess.reasons.get(f"{name}.{setting}")
            meaning = description.description or ""
            lines += _remark(f"{reason}." if reason else meaning)
            written = value is not None and (
                reason is not None or value != description.get_default()
            )
            lines.append(("" if written else "# ") + f"{setting} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _table_path(path: str, folder: Path, setting: str) -> str:
    """The path of a table as seen from the configuration's folder.

    Raises:
        ConfigError: what the run writes beside its configuration would be taken for the table's.
    """
    plain = Path(path).exists()
    table = (Path(path) if plain else Path(glob.escape(os.getcwd())) / path).resolve()
    recursive = table.parent.name == "**" and table.name.lower().endswith(PARQUET_SUFFIXES)
    root = table if plain else Path(_unescaped(str(table.parents[1]))) if recursive else None
    if root is not None and folder.is_relative_to(root):
        raise ConfigError(
            f"data.{setting}: {path} names all {'Parquet ' if recursive else ''}files in {root}, "
            "those of the dataset too, which would be written there; name a file elsewhere "
            "(--output)"
        )
    return os.path.relpath(table, folder if plain else glob.escape(str(folder)))


def _unescaped(pattern: str) -> str:
    """What `glob.escape` made the pattern of."""
    return re.sub(r"\[([*?[])\]", r"\1", pattern)


def _free_folder(folder: Path, name: str, format_name: str) -> str:
    """`name`, or another where a folder of that name holds what is not ours to replace."""
    try:
        check_replaceable(folder / name, format_name)
    except ConfigError:
        return _free_folder(folder, f"dualtower-{name}", format_name)
    return name


def _weight_lines(column: str) -> list[str]:
    return [
        *_remark(
            f"{column} could weigh the events in the training loss: take the # away if an event "
            "with twice the number says twice as much about what the query wants. A low rating "
            "does not make an event a negative; leave rows out that are no positives."
        ),
        f"# weight = {_toml(column)}",
    ]


def _feature_lines(guess: Guess, side: str, features: tuple[Feature, ...]) -> list[str]:
    candidates, advice = _CANDIDATES.get(side, ("", ""))
    possible: tuple[Feature, ...] = getattr(guess, candidates) if candidates else ()
    lines = _remark(advice) if possible else []
    if features:
        lines.append(f"{side} = [")
        for feature in features:
            reason = guess.reasons.get(f"columns.{side}.{feature.name}", "")
            lines.append(f"  {_feature(feature)},  # {reason}")
        lines += [f"  # {_feature(feature)}," for feature in possible]
        lines.append("]")
    elif possible:
        lines.append(f"# {side} = [")
        lines += [f"#   {_feature(feature)}," for feature in possible]
        lines.append("# ]")
    else:
        lines.append(f"# {side} = []")
    return lines


def _feature(feature: Feature) -> str:
    kind = (
        "" if feature.kind == FeatureKind.CATEGORICAL else f", kind = {_toml(feature.kind.value)}"
    )
    rare = "" if feature.min_count == 1 else f", min_count = {feature.min_count}"
    return f"{{name = {_toml(feature.name)}{kind}{rare}}}"


def _summary(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


def _remark(text: str) -> list[str]:
    plain = " ".join(text.split()).replace("`", "")
    return [f"# {line}" for line in textwrap.wrap(plain, 96)]


def _toml(value: Any) -> str:
    if value is None:
        return '""  (not set)'
    plain = list(value) if isinstance(value, tuple) else value
    return str(tomlkit.item(plain).as_string())
