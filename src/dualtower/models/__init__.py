"""The models, one a file, by the name they have in configurations and results."""

from dualtower.models.base import Model
from dualtower.models.dat import DAT
from dualtower.models.ease import EASE
from dualtower.models.item_knn import ItemKNN
from dualtower.models.popularity import Popularity
from dualtower.models.two_tower import TwoTower

MODELS: dict[str, type[Model]] = {
    "dat": DAT,
    "two_tower": TwoTower,
    "popularity": Popularity,
    "item_knn": ItemKNN,
    "ease": EASE,
}
