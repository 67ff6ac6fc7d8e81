"""Whether every damaged bundle is refused with a clean error.

python -m benchmarks.damage [--mutants 10000] [--results results/faults-damage.json]

Damages one file of a small bundle at a time: a byte or a bit changed, a piece cut off, cut out,
doubled or overwritten, a file emptied, removed or replaced by another. Half of the mutants are
sealed again, with the manifest's checksums made right, as an attacker would: those must give a
clean error or a bundle that still answers with items that it has.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.small_bundle import make_bundle
from dualtower.errors import DualtowerError
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.files import MANIFEST, write_manifest
from dualtower.progress import progress_bar
from dualtower.retrieval.bundle import Bundle

MANIFEST_FILES = (MANIFEST, f"{MANIFEST}.sha256")
SLOW_SECONDS = 5.0
"""A load that takes longer counts as a failure."""


def main() -> None:
    """Damage, load, count, print and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("results/faults-damage.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="damage-") as name:
        counts, slowest = damage(Path(name), arguments.mutants, arguments.seed)
    run = {"mutants": arguments.mutants, **counts, "slowest_load_seconds": round(slowest, 3)}
    print(json.dumps(run, indent=2))
    write_results(
        arguments.results,
        Measurements(
            command=f"python -m benchmarks.damage --mutants {arguments.mutants}",
            protocol="one damage each to a file of a small bundle, drawn at random; every second "
            "one with the checksums made right again; a clean error is one of dualtower's own",
            versions=versions(),
            processor=processor(),
            runs=(run,),
        ),
    )
    if counts["unclean"] or counts["silent"] or counts["wrong_answers"] or counts["slow"]:
        raise SystemExit("not every damaged bundle was refused cleanly")


def damage(folder: Path, mutants: int, seed: int) -> tuple[dict[str, int], float]:
    """Load so many damaged bundles.

    Returns:
        How many were refused cleanly, failed otherwise (`unclean`), loaded although their checksums
        were wrong (`silent`), loaded sealed and answered in order (`answered`) or not
        (`wrong_answers`), or took too long; and the longest load in seconds.
    """
    good, bad = folder / "good", folder / "bad"
    make_bundle(good)
    files = sorted(file for file in good.iterdir() if file.is_file())
    rng = np.random.default_rng(seed)
    names = ("clean", "unclean", "silent", "answered", "wrong_answers", "slow")
    counts = Counter(dict.fromkeys(names, 0))
    slowest = 0.0
    with progress_bar("Damaged bundles", mutants, "bundles") as bar:
        for number in range(mutants):
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(good, bad)
            sealed = number % 2 == 1
            choices = [file for file in files if not sealed or file.name not in MANIFEST_FILES]
            file = bad / choices[rng.integers(len(choices))].name
            _damage_file(file, files, rng)
            if sealed:
                _seal(bad)
            begun = time.monotonic()
            outcome = _outcome(bad, sealed)
            seconds = time.monotonic() - begun
            slowest = max(slowest, seconds)
            counts[outcome] += 1
            counts["slow"] += seconds > SLOW_SECONDS
            bar.advance(note=f"{counts['clean']:,} refused cleanly")
    return dict(counts), slowest


def _outcome(folder: Path, sealed: bool) -> str:
    try:
        bundle = Bundle.load(folder)
        if not sealed:
            return "silent"
        known = set(bundle.encoder.item_vocabulary.values.to_list())
        queries = bundle.encoder.query_vocabulary.values.to_list()[:5]
        found = bundle.recommend([*queries, "nobody"], n=10, progress=False)
    except DualtowerError:
        return "clean"
    except Exception:
        return "unclean"
    scores = found["score"].to_numpy()
    right = set(found[:, 1].to_list()) <= known and bool(np.isfinite(scores).all())
    return "answered" if right else "wrong_answers"


def _damage_file(file: Path, files: list[Path], rng: np.random.Generator) -> None:
    content = bytearray(file.read_bytes())
    size = len(content)
    kind = int(rng.integers(9))
    start, length = int(rng.integers(max(1, size))), int(rng.integers(1, max(2, size // 4)))
    if kind == 0 and size:
        content[start] ^= 1 << int(rng.integers(8))
    elif kind == 1 and size:
        content[start] = (content[start] + int(rng.integers(1, 256))) % 256
    elif kind == 2:
        del content[start:]
    elif kind == 3:
        del content[start : start + length]
    elif kind == 4:
        content += content[start : start + length] or b"\0"
    elif kind == 5:
        content[start : start + length] = rng.bytes(length)
    elif kind == 6:
        content.clear()
    elif kind == 7:
        file.unlink()
        return
    else:
        other = files[int(rng.integers(len(files)))].read_bytes()
        content = bytearray(other if other != bytes(content) else other + b"\0")
    if bytes(content) == file.read_bytes():
        content += b"\0"
    file.write_bytes(bytes(content))


def _seal(folder: Path) -> None:
    """Make the manifest's checksums those of the files as they are."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest.pop("files")
    for name in MANIFEST_FILES:
        (folder / name).unlink()
    write_manifest(folder, manifest)


if __name__ == "__main__":
    main()
