"""dualtower: the retrieval stage of a recommender, from interaction logs to served candidates.

The public names below are loaded when they are first used, so that importing the package, and
`dualtower --help` with it, takes a moment rather than the seconds that PyTorch needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dualtower.config import EvaluationConfig as EvaluationConfig
    from dualtower.config import ModelConfig as ModelConfig
    from dualtower.config import RunConfig as RunConfig
    from dualtower.config import TrainingConfig as TrainingConfig
    from dualtower.config import load_config as load_config
    from dualtower.data.dataset import Dataset as Dataset
    from dualtower.data.dataset import Log as Log
    from dualtower.data.dataset import Split as Split
    from dualtower.data.prepare import prepare as prepare
    from dualtower.errors import BundleError as BundleError
    from dualtower.errors import CollapseWarning as CollapseWarning
    from dualtower.errors import ConfigError as ConfigError
    from dualtower.errors import DataError as DataError
    from dualtower.errors import DualtowerError as DualtowerError
    from dualtower.errors import NotFittedError as NotFittedError
    from dualtower.evaluation.evaluate import Evaluation as Evaluation
    from dualtower.evaluation.evaluate import evaluate as evaluate
    from dualtower.fitting import fit as fit
    from dualtower.models.dat import DAT as DAT
    from dualtower.models.ease import EASE as EASE
    from dualtower.models.fm import FM as FM
    from dualtower.models.item_knn import ItemKNN as ItemKNN
    from dualtower.models.mind import MIND as MIND
    from dualtower.models.popularity import Popularity as Popularity
    from dualtower.models.sasrec import SASRec as SASRec
    from dualtower.models.two_tower import TwoTower as TwoTower
    from dualtower.models.wals import WALS as WALS
    from dualtower.models.youtube_dnn import YouTubeDNN as YouTubeDNN
    from dualtower.retrieval.bundle import Bundle as Bundle
    from dualtower.schema import Feature as Feature
    from dualtower.schema import FeatureKind as FeatureKind
    from dualtower.schema import Schema as Schema

_MODULE_OF = {
    "Bundle": "retrieval.bundle",
    "BundleError": "errors",
    "CollapseWarning": "errors",
    "ConfigError": "errors",
    "DAT": "models.dat",
    "DataError": "errors",
    "Dataset": "data.dataset",
    "DualtowerError": "errors",
    "EASE": "models.ease",
    "Evaluation": "evaluation.evaluate",
    "EvaluationConfig": "config",
    "FM": "models.fm",
    "Feature": "schema",
    "FeatureKind": "schema",
    "ItemKNN": "models.item_knn",
    "Log": "data.dataset",
    "MIND": "models.mind",
    "ModelConfig": "config",
    "NotFittedError": "errors",
    "Popularity": "models.popularity",
    "RunConfig": "config",
    "SASRec": "models.sasrec",
    "Schema": "schema",
    "Split": "data.dataset",
    "TrainingConfig": "config",
    "TwoTower": "models.two_tower",
    "WALS": "models.wals",
    "YouTubeDNN": "models.youtube_dnn",
    "evaluate": "evaluation.evaluate",
    "fit": "fitting",
    "load_config": "config",
    "prepare": "data.prepare",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that holds it."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'dualtower' has no attribute {name!r}")
    value = getattr(import_module(f"dualtower.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
