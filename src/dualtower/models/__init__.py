"""The models, one a file, by the name they have in configurations and results."""

from dualtower.models.base import Model
from dualtower.models.ease import EASE
from dualtower.models.item_knn import ItemKNN
from dualtower.models.popularity import Popularity

MODELS: dict[str, type[Model]] = {
    "popularity": Popularity,
    "item_knn": ItemKNN,
    "ease": EASE,
}
