"""What all models share that learn by steps: a network, its vectors, saving and loading."""

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from dualtower.config import ModelConfig, Preset, validate
from dualtower.data.columns import FeatureColumn, FeatureSpace, QueryBatch
from dualtower.errors import ConfigError, NotFittedError
from dualtower.models.base import VectorModel
from dualtower.models.network import Network
from dualtower.models.record import TrainingRecord

_ENCODE_BLOCK = 4096


class TrainedModel(VectorModel):
    """A model with a `Network`, which `dualtower.fit` trains by the one loop.

    A subclass names itself and may give its network an augmented part or another shape
    (`_make_network`). See `ModelConfig` for every setting.
    """

    augments: ClassVar[bool] = False
    """Whether the model has augmented vectors and category alignment: DAT alone."""
    config: ModelConfig
    record: TrainingRecord | None = None
    """How training went; None before the fit and after loading."""
    network: Network | None = None
    """The network; None before the fit."""

    def __init__(
        self, config: ModelConfig | None = None, *, preset: Preset = "recommended", **overrides: Any
    ) -> None:
        """Choose the settings.

        Args:
            config: all settings; None takes the preset's with `overrides` on top.
            preset: `recommended` or `paper`.
            overrides: fields of `ModelConfig`.

        Raises:
            ConfigError: a setting is unknown, out of range, or does not fit this model.
        """
        self.config = config or ModelConfig.of(self.name, preset, **overrides)
        if self.config.name != self.name:
            raise ConfigError(f"model: name is {self.config.name!r}, the model is {self.name!r}")
        self._check()
        if not self.augments and (self.config.augmented != "none" or self.config.lambda_ca):
            raise ConfigError(
                f"model: {self.name} has no augmented vectors and no category alignment; "
                'set augmented = "none" and lambda_ca = 0; use name = "dat" to have them'
            )

    @property
    def fitted(self) -> bool:
        """Whether the model was trained or loaded."""
        return self.network is not None

    def build(
        self, space: FeatureSpace, item_features: dict[str, FeatureColumn], device: torch.device
    ) -> Network:
        """Make a fresh network for these sizes, with weights from torch's global generator."""
        self.space = space
        self.network = self._make_network(space, item_features).to(device)
        return self.network

    def encode_queries(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """p_u of each query, `[queries, output_dim]`, of unit length with `normalise`.

        A model with several interests gives `[queries, interests, output_dim]`.

        Raises:
            NotFittedError: the model was not trained.
        """
        network = self._fitted_network()
        blocks = [
            network.encode_batch(
                batch.take(np.arange(start, min(start + _ENCODE_BLOCK, len(batch))))
            )
            for start in range(0, len(batch), _ENCODE_BLOCK)
        ]
        if not blocks:
            several = () if network.capsules is None else (self.config.interests,)
            return np.zeros((0, *several, network.cached_vectors.shape[1]), dtype=np.float32)
        vectors: npt.NDArray[np.float32] = torch.cat(blocks).cpu().numpy()
        return vectors

    def encode_items(self) -> npt.NDArray[np.float32]:
        """p_v of every item row, `[items, output_dim]`, of unit length with `normalise`.

        Raises:
            NotFittedError: the model was not trained.
        """
        vectors: npt.NDArray[np.float32] = self._fitted_network().cached_vectors.cpu().numpy()
        return vectors

    @property
    def reads_latest(self) -> int | None:
        """The history's length: older events count in a_u's sum alone."""
        return self.config.history_length

    def encode_new_item(
        self, row: int, query_sum: npt.NDArray[np.floating], count: int
    ) -> npt.NDArray[np.float32] | None:
        """p_v with the mean of its events' p_u as a_v; None where the item tower reads no a_v.

        Raises:
            NotFittedError: the model was not trained.
        """
        network = self._fitted_network()
        if network.augmented is None or not self.config.augmented_item:
            return None
        total = torch.as_tensor(query_sum, dtype=torch.float32, device=network.device)
        vector: npt.NDArray[np.float32] = network.encode_new_item(row, total, count).cpu().numpy()
        return vector

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Weights, tables, sums and the cached item vectors, by name.

        Raises:
            NotFittedError: the model was not trained.
        """
        state = self._fitted_network().state_dict()
        return {name: tensor.cpu().numpy() for name, tensor in state.items()}

    @classmethod
    def from_state(
        cls, config: dict[str, Any], space: FeatureSpace, state: dict[str, npt.NDArray[Any]]
    ) -> Self:
        """The fitted model; the items' features stay in their cached embeddings."""
        model = cls(validate(ModelConfig, config, "model"))
        network = model.build(space, {}, torch.device("cpu"))
        # Torch warns of an array that it may not write to, though it only copies from it here.
        arrays = {name: np.require(array, requirements="W") for name, array in state.items()}
        network.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
        network.eval()
        return model

    def _make_network(
        self, space: FeatureSpace, item_features: dict[str, FeatureColumn]
    ) -> Network:
        return Network(self.config, space, item_features, None)

    def _check(self) -> None:
        """Refuse settings that are not this model's, by a `ConfigError`."""

    def _fitted_network(self) -> Network:
        if self.network is None:
            raise NotFittedError(f"{self.name} was not trained yet; call dualtower.fit first")
        return self.network
