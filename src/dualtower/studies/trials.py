"""The files of a search: a model's trials, the one under way, and what was fitted again of them."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualtower.evaluation.results import Value
from dualtower.files import write_json
from dualtower.studies.tuned import Repeat, Trial

_BEGUN = "begun.json"


def read_trials(folder: Path) -> list[Trial]:
    """The finished trials of a model, in order."""
    files = (_trial_file(folder, number) for number in range(trial_count(folder)))
    return [Trial.model_validate_json(file.read_bytes()) for file in files]


def trial_count(folder: Path) -> int:
    """How many trials of a model are finished."""
    number = 0
    while _trial_file(folder, number).is_file():
        number += 1
    return number


def write_trial(folder: Path, trial: Trial) -> None:
    """Keep a finished trial."""
    write_json(_trial_file(folder, trial.number), trial.model_dump(mode="json"))


def write_begun(
    folder: Path, number: int, place: Mapping[str, Any], settings: Mapping[str, Value]
) -> None:
    """Note the trial that is under way, in case that its process crashes."""
    begun = Trial(number=number, state="failed", place=dict(place), settings=dict(settings))
    write_json(folder / _BEGUN, begun.model_dump(mode="json"))


def forget_begun(folder: Path) -> None:
    """No trial is under way: what was, before a kill, is not what may crash next."""
    (folder / _BEGUN).unlink(missing_ok=True)


def crashed_trial(folder: Path, number: int, reason: str) -> Trial:
    """What is known of a trial whose process crashed: where it was, and its time until now.

    Without either, where the process had not begun it.
    """
    file = folder / _BEGUN
    if file.is_file():
        begun = Trial.model_validate_json(file.read_bytes())
        if begun.number == number:
            seconds = max(0.0, time.time() - file.stat().st_mtime)
            return begun.model_copy(update={"reason": reason, "seconds": round(seconds, 3)})
    return Trial(number=number, state="failed", reason=reason)


def read_repeats(folder: Path, confirm: int) -> list[Repeat]:
    """What was fitted again of a model's trials, by trial and seed.

    Of all its trials: more of them may have taken the place of some that were confirmed before.
    """
    files = _repeat_files(folder, confirm)
    return [Repeat.model_validate_json(file.read_bytes()) for file in files]


def write_repeat(folder: Path, repeat: Repeat) -> None:
    """Keep a finished repeat."""
    file = _repeat_file(folder, repeat.trial, repeat.added_seed)
    write_json(file, repeat.model_dump(mode="json"))


def has_repeat(folder: Path, trial: int, added_seed: int) -> bool:
    """Whether a trial was fitted again with that seed."""
    return _repeat_file(folder, trial, added_seed).is_file()


def fit_count(folder: Path, confirm: int) -> int:
    """How many fits of a model are finished: trials, and what was fitted again of them."""
    return trial_count(folder) + len(_repeat_files(folder, confirm))


def _trial_file(folder: Path, number: int) -> Path:
    return folder / f"{number:04}.json"


def _repeat_files(folder: Path, confirm: int) -> list[Path]:
    files = (
        _repeat_file(folder, number, added)
        for number in range(trial_count(folder))
        for added in range(1, confirm + 1)
    )
    return [file for file in files if file.is_file()]


def _repeat_file(folder: Path, trial: int, added_seed: int) -> Path:
    return folder / f"{trial:04}-seed-{added_seed}.json"
