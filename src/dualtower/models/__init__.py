"""The models, one a file, by the name they have in configurations and results."""

from dualtower.models.base import Model, SolvedModel
from dualtower.models.dat import DAT
from dualtower.models.ease import EASE
from dualtower.models.fm import FM
from dualtower.models.item_knn import ItemKNN
from dualtower.models.mind import MIND
from dualtower.models.popularity import Popularity
from dualtower.models.sasrec import SASRec
from dualtower.models.trained import TrainedModel
from dualtower.models.two_tower import TwoTower
from dualtower.models.wals import WALS
from dualtower.models.youtube_dnn import YouTubeDNN

TRAINED: dict[str, type[TrainedModel]] = {
    "dat": DAT,
    "two_tower": TwoTower,
    "fm": FM,
    "youtube_dnn": YouTubeDNN,
    "mind": MIND,
    "sasrec": SASRec,
}
"""Models that learn by steps, all by the one training loop."""

SOLVED: dict[str, type[SolvedModel]] = {
    "popularity": Popularity,
    "item_knn": ItemKNN,
    "ease": EASE,
    "wals": WALS,
}
"""Models with a closed form or a solver of their own."""

MODELS: dict[str, type[Model]] = {**TRAINED, **SOLVED}
