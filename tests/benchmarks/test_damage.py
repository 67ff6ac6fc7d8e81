from pathlib import Path

from benchmarks.damage import damage


def test_every_damaged_bundle_is_refused_or_answers_rightly(tmp_path: Path) -> None:
    counts, _ = damage(tmp_path, 24, seed=3)
    assert counts["clean"] + counts["answered"] == 24
    assert counts["clean"] >= 12
    assert counts["unclean"] == counts["silent"] == counts["wrong_answers"] == 0
