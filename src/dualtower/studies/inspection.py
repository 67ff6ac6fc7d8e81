"""What a configuration, a dataset or a bundle holds, as plain values."""

import json
from pathlib import Path
from typing import Any

from dualtower.config import load_config
from dualtower.data.dataset import Dataset
from dualtower.errors import BundleError
from dualtower.files import BUNDLE_FORMAT, DATASET_FORMAT, MANIFEST, recover_folder
from dualtower.retrieval.bundle import Bundle


def describe(path: Path) -> dict[str, Any]:
    """Describe what `path` is: a run's TOML file, a dataset's folder or a bundle's.

    Raises:
        BundleError: a folder that is neither, or is damaged.
        ConfigError: a file that is not a valid configuration.
    """
    recover_folder(path)
    if not path.is_dir():
        return _describe_config(path)
    kind = _format_of(path)
    if kind == DATASET_FORMAT:
        return describe_dataset(Dataset.load(path), path)
    if kind == BUNDLE_FORMAT:
        return {"kind": "bundle", "path": str(path), **Bundle.load(path).describe()}
    raise BundleError(f"{path}: neither a dataset nor a bundle; name a folder that dualtower wrote")


def describe_dataset(dataset: Dataset, path: Path) -> dict[str, Any]:
    """Counts, features and origin of a dataset."""
    space = dataset.space()
    return {
        "kind": "dataset",
        "path": str(path),
        "queries": dataset.query_count - 1,
        "items": dataset.item_count - 1,
        "events": dataset.event_count,
        "categories": len(dataset.category_vocabulary) - 1,
        "features": {
            side: {spec.name: spec.kind.value for spec in getattr(space, f"{side}_features")}
            for side in ("query", "item", "context")
        },
        "source": dataset.source,
    }


def _describe_config(path: Path) -> dict[str, Any]:
    config = load_config(path)
    return {
        "kind": "configuration",
        "path": str(path),
        "dataset_exists": Path(config.data.dataset).is_dir(),
        "bundle_exists": Path(config.bundle.path).is_dir(),
        **config.model_dump(mode="json"),
    }


def _format_of(folder: Path) -> str | None:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("format") if isinstance(content, dict) else None
