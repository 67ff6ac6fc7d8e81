"""Item k-nearest neighbours: cosine similarity of items by the queries they share."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy import sparse

from dualtower.config import Settings
from dualtower.data.columns import FeatureSpace, QueryBatch
from dualtower.data.dataset import Log
from dualtower.errors import NotFittedError
from dualtower.models.base import SolvedModel
from dualtower.models.interactions import history_matrix, interaction_matrix
from dualtower.progress import progress_bar

_BLOCK_SIMILARITIES = 1 << 24
"""How many similarities are dense at a time (64 MiB)."""


class ItemKNNConfig(Settings):
    """Settings of item-kNN; `dualtower.studies.floors` tries a grid of them."""

    neighbours: int = Field(default=400, ge=1)
    """How many most similar items of each item are kept."""
    shrinkage: float = Field(default=10.0, ge=0)
    """Added to the cosine's denominator; the larger, the less rare items met by chance count."""
    decay: float = Field(default=0.8, gt=0, le=1)
    """Weight of a history event relative to the next later one; 1 makes all events equal."""


class ItemKNN(SolvedModel):
    """Scores an item by its summed similarity to the items of the query's history.

    The similarity of items i and j is c_ij / (sqrt(c_i c_j) + shrinkage), where c counts distinct
    queries with the item or with both (Sarwar et al. 2001; shrinkage as in Dacrema et al. 2019).
    """

    name = "item_knn"
    settings = ItemKNNConfig
    config: ItemKNNConfig
    _similarity: sparse.csr_array | None = None

    @property
    def fitted(self) -> bool:
        """Whether the model was solved or loaded."""
        return self._similarity is not None

    def solve(self, log: Log, *, progress: bool = True) -> None:
        """Find every item's neighbours, a block of items at a time."""
        self.space = log.dataset.space()
        interactions = interaction_matrix(log)
        by_item = interactions.T.tocsr()
        norms = np.sqrt(np.diff(by_item.indptr)).astype(np.float32)
        count = by_item.shape[0]
        kept = min(self.config.neighbours, count)
        rows = max(1, _BLOCK_SIMILARITIES // count)
        blocks = []
        with progress_bar("Finding neighbours", count, "items", shown=progress) as bar:
            for start in range(0, count, rows):
                part = slice(start, start + rows)
                similarity = (by_item[part] @ interactions).toarray()
                size = len(similarity)
                # The small floor avoids 0 / 0 for items without events.
                scale = norms[part, None] * norms[None, :] + np.float32(self.config.shrinkage)
                similarity /= np.maximum(scale, np.float32(1e-9))
                similarity[np.arange(size), start + np.arange(size)] = 0
                best = torch.topk(torch.from_numpy(similarity), kept, sorted=False)
                offsets = np.arange(0, size * kept + 1, kept)
                block = sparse.csr_array(
                    (best.values.numpy().ravel(), best.indices.numpy().ravel(), offsets),
                    shape=(size, count),
                )
                block.eliminate_zeros()
                block.sort_indices()
                blocks.append(block)
                bar.advance(size)
        self._similarity = sparse.csr_array(sparse.vstack(blocks, format="csr"))

    def score(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """Summed similarities, `[queries, items]`; 0 for items that are nobody's neighbour.

        Raises:
            NotFittedError: the model was not trained.
        """
        similarity = self._fitted_similarity()
        history = history_matrix(batch, similarity.shape[0], self.config.decay)
        scores: npt.NDArray[np.float32] = (history @ similarity).toarray()
        return scores

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """The sparse similarities: `values`, `neighbours` and `offsets` by item row."""
        similarity = self._fitted_similarity()
        return {
            "values": similarity.data,
            "neighbours": similarity.indices.astype(np.int32),
            "offsets": similarity.indptr.astype(np.int64),
        }

    @classmethod
    def from_state(
        cls, config: dict[str, Any], space: FeatureSpace, state: dict[str, npt.NDArray[Any]]
    ) -> Self:
        """The fitted model from what `state` gave."""
        model = cls(**config)
        model.space = space
        model._similarity = sparse.csr_array(
            (state["values"], state["neighbours"], state["offsets"]),
            shape=(space.item_count, space.item_count),
        )
        return model

    def _fitted_similarity(self) -> sparse.csr_array:
        if self._similarity is None:
            raise NotFittedError("item_knn was not trained: call dualtower.fit first")
        return self._similarity
