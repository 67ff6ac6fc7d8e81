"""Ranks and top items of models that give scores for every item, a block of queries at a time."""

import numpy as np
import numpy.typing as npt
import torch

from dualtower.data.columns import QueryBatch
from dualtower.errors import DataError
from dualtower.evaluation.pairs import Pairs
from dualtower.models.base import Model

BLOCK_SCORES = 1 << 23
"""How many scores a block may hold (32 MiB)."""
COMPARED_SCORES = 1 << 20
"""How many scores are compared with their targets at a time."""


class ScoreRanker:
    """Ranks a corpus for blocks of queries from the scores that the model itself computes."""

    def __init__(self, model: Model, corpus: npt.NDArray[np.int64], item_count: int) -> None:
        """Keep what is needed to score.

        Args:
            model: a fitted model.
            corpus: the item rows that compete.
            item_count: rows of the item vocabulary, which is the width of the model's scores.
        """
        self._model = model
        self._corpus = corpus
        self._item_count = item_count
        self.queries_per_block = max(1, min(2048, BLOCK_SCORES // item_count))

    def prepare(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """Scores of the corpus, `[queries, corpus]`.

        Raises:
            DataError: the scores have another shape than `[queries, items]`, or one is NaN.
        """
        scores = np.asarray(self._model.score(batch), dtype=np.float32)
        name, expected = self._model.name, (len(batch), self._item_count)
        if scores.shape != expected:
            raise DataError(
                f"model {name}: score gave an array of shape {scores.shape}; "
                f"it must be [queries, items] = {expected}"
            )
        scores = scores[:, self._corpus]
        if np.isnan(scores).any():
            query, column = np.argwhere(np.isnan(scores))[0]
            raise DataError(
                f"model {name}: the score of item row {self._corpus[column]} for query row "
                f"{batch.rows[query]} is NaN; every score must be a number"
            )
        return scores

    def rank(
        self, prepared: npt.NDArray[np.float32], targets: Pairs, seen: Pairs
    ) -> npt.NDArray[np.float64]:
        """The rank of every target among the corpus less the seen items.

        Args:
            prepared: scores from `prepare`, `[queries, corpus]`.
            targets: pairs to rank; none is among `seen`.
            seen: pairs to leave out of the ranking.

        Returns:
            `[targets]`, from 1; equal scores count as half.
        """
        ranks = np.empty(len(targets))
        rows = max(1, COMPARED_SCORES // prepared.shape[1])
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            queries = targets.query[part]
            own = prepared[queries, targets.column[part]]
            scores = prepared[queries]
            better = np.count_nonzero(scores > own[:, None], axis=1)
            equal = np.count_nonzero(scores == own[:, None], axis=1) - 1
            columns = seen.of_queries(queries)
            row = columns.row_of_value()
            seen_scores = prepared[queries[row], columns.values]
            better -= np.bincount(row[seen_scores > own[row]], minlength=len(queries))
            equal -= np.bincount(row[seen_scores == own[row]], minlength=len(queries))
            ranks[part] = 1 + better + equal / 2
        return ranks

    def top(
        self, prepared: npt.NDArray[np.float32], seen: Pairs, count: int
    ) -> npt.NDArray[np.int64]:
        """The best `count` columns of every query, best first; -1 where the corpus has no more.

        Args:
            prepared: scores from `prepare`, `[queries, corpus]`.
            seen: pairs to leave out.
            count: how many.
        """
        places = seen.query, seen.column
        seen_scores = prepared[places]
        prepared[places] = -np.inf
        best = torch.topk(torch.from_numpy(prepared), min(count, prepared.shape[1]))
        prepared[places] = seen_scores
        columns = np.full((len(prepared), count), -1, dtype=np.int64)
        found = torch.where(best.values == -torch.inf, -1, best.indices)
        columns[:, : found.shape[1]] = found.numpy()
        return columns
