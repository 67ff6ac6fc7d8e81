from pathlib import Path

import pytest

from dualtower.config import BundleConfig, DataConfig, RunConfig
from dualtower.errors import ConfigError
from dualtower.studies.run import changed, fit_bundle


def test_a_bundle_that_would_hold_the_dataset_is_refused_before_anything_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = RunConfig(data=DataConfig(interactions="none.csv", dataset="out/data"))
    message = r"data\.dataset = .* is in the folder of bundle\.path"
    for bundle in (Path("out"), tmp_path / "out"):
        with pytest.raises(ConfigError, match=message):
            changed(config, bundle=bundle)
    assert changed(config, bundle=Path("out/bundle")).bundle.path == "out/bundle"
    nested = config.model_copy(update={"bundle": BundleConfig(path="out")})
    with pytest.raises(ConfigError, match=message):
        fit_bundle(nested, "train", print)
