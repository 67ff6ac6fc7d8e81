"""Ranks and top items of models with vectors, by matrix products in blocks that stay in cache.

The score matrix never exists as a whole: a tile of `ROWS x COLUMNS` scores is computed, compared
with the targets' scores, counted and overwritten.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from dualtower.data.columns import QueryBatch
from dualtower.errors import DataError
from dualtower.evaluation.pairs import Pairs
from dualtower.models.base import VectorModel
from dualtower.threads import torch_threads

ROWS = 256
"""Queries of a tile."""
COLUMNS = 1024
"""Items of a tile: with `ROWS`, one megabyte of scores."""
GROUP = 16
"""Items of a tile, equally far apart, whose best score stands for them in the first round of
`VectorRanker.top`: maxima of neighbours would take twice as long."""
TILES = 256
"""Tiles whose best scores of groups `VectorRanker.top` holds at a time: with `ROWS`, 16 megabytes
for each thread, however large the corpus is."""
RESCORED_ROWS = 8
"""Queries whose best groups are scored again at a time, few enough to stay in cache."""


class VectorRanker:
    """Ranks a corpus of item vectors for blocks of queries, by inner product.

    Items whose vectors are identical are scored once and counted as often as they occur, so that
    they tie whatever the rounding of the matrix product.
    """

    queries_per_block = 4096
    """How many queries are encoded at a time."""

    def __init__(self, model: VectorModel, corpus: npt.NDArray[np.int64]) -> None:
        """Encode the items.

        Args:
            model: a fitted model.
            corpus: the item rows that compete.

        Raises:
            DataError: an item vector holds NaN or infinity.
        """
        self._model = model
        self._corpus_size = len(corpus)
        vectors = np.asarray(model.encode_items(), dtype=np.float32)[corpus]
        _check_finite(vectors, model.name, "item")
        padding = -len(vectors) % COLUMNS
        self._padded = torch.from_numpy(np.pad(vectors, ((0, padding), (0, 0))))
        first, group_of_column, sizes = _identical_rows(vectors)
        if len(first) == len(vectors):
            self._distinct = self._padded[: len(vectors)]
            self._group_of_column = np.arange(len(vectors))
            self._sizes = torch.ones(len(vectors))
        else:
            self._distinct = torch.from_numpy(vectors[first])
            self._group_of_column = group_of_column
            self._sizes = torch.from_numpy(sizes.astype(np.float32))

    def prepare(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """Query vectors, `[queries, interests, dim]`.

        Raises:
            DataError: a query vector holds NaN or infinity.
        """
        vectors = np.asarray(self._model.encode_queries(batch), dtype=np.float32)
        _check_finite(vectors, self._model.name, "query")
        return vectors[:, None, :] if vectors.ndim == 2 else vectors

    def rank(
        self, prepared: npt.NDArray[np.float32], targets: Pairs, seen: Pairs
    ) -> npt.NDArray[np.float64]:
        """The rank of every target among the corpus less the seen items.

        Args:
            prepared: query vectors from `prepare`, `[queries, interests, dim]`.
            targets: pairs to rank; none is among `seen`.
            seen: pairs to leave out of the ranking.

        Returns:
            `[targets]`, from 1; equal scores count as half.
        """
        vectors = torch.from_numpy(prepared)
        ranks = np.empty(len(targets))

        def rank_part(start: int) -> None:
            part = slice(start, start + ROWS)
            ranks[part] = self._rank_rows(vectors, targets.query[part], targets.column[part], seen)

        _in_threads(rank_part, range(0, len(targets), ROWS))
        return ranks

    def top(
        self, prepared: npt.NDArray[np.float32], seen: Pairs, count: int
    ) -> npt.NDArray[np.int64]:
        """The best `count` columns of every query, best first; -1 where the corpus has no more.

        Exact: the groups with the `count` best maxima hold the `count` best items.

        Args:
            prepared: query vectors from `prepare`, `[queries, interests, dim]`.
            seen: pairs to leave out.
            count: how many; with 0 the result has no columns.
        """
        vectors = torch.from_numpy(prepared)
        best = np.full((len(vectors), count), -1, dtype=np.int64)
        if count == 0:
            return best

        def top_part(start: int) -> None:
            rows = np.arange(start, min(start + ROWS, len(vectors)))
            found = self._top_rows(vectors[start : start + ROWS], seen, rows, count)
            best[rows, : found.shape[1]] = found

        _in_threads(top_part, range(0, len(vectors), ROWS))
        return best

    def _rank_rows(
        self,
        vectors: torch.Tensor,
        queries: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
        seen: Pairs,
    ) -> npt.NDArray[np.float64]:
        rows = len(queries)
        block = vectors[torch.from_numpy(queries)].transpose(0, 1).contiguous()
        own_group = self._group_of_column[columns]
        own_vectors = self._distinct[torch.from_numpy(own_group)]
        own_score = _scores(block, own_vectors, torch.empty(rows, rows)).diagonal()[:, None].clone()

        seen_columns = seen.of_queries(queries)
        seen_row = seen_columns.row_of_value()
        seen_group = self._group_of_column[seen_columns.values]
        # A sign is +1 for a better score than the target's, -1 for a worse one, 0 for an equal one.
        # Those of the target's own group and of seen items are picked up to be taken out again.
        pair_row = np.concatenate([np.arange(rows), seen_row])
        pair_group = np.concatenate([own_group, seen_group])
        order = np.argsort(pair_group, kind="stable")
        pair_row, pair_group = pair_row[order], pair_group[order]
        sorted_signs = np.empty(len(order), dtype=np.float32)

        better_less_worse = torch.zeros(rows, dtype=torch.float64)
        buffers = torch.empty(2, rows * COLUMNS)
        for start in range(0, len(self._distinct), COLUMNS):
            items = self._distinct[start : start + COLUMNS]
            signs = _tile(block, items, buffers).sub_(own_score).sign_()
            better_less_worse += signs @ self._sizes[start : start + COLUMNS]
            first, last = np.searchsorted(pair_group, (start, start + COLUMNS))
            if last > first:
                places = pair_row[first:last], pair_group[first:last] - start
                sorted_signs[first:last] = signs.numpy()[places]

        pair_signs = np.empty_like(sorted_signs)
        pair_signs[order] = sorted_signs
        own_signs, seen_signs = pair_signs[:rows], pair_signs[rows:]
        seen_signs[seen_group == own_group[seen_row]] = 0
        own_total = self._sizes.numpy()[own_group].astype(np.float64) * own_signs
        seen_total = np.bincount(seen_row, weights=seen_signs, minlength=rows)
        others = self._corpus_size - 1 - seen_columns.lengths()
        balance = better_less_worse.numpy() - own_total - seen_total
        ranks: npt.NDArray[np.float64] = 1 + (others + balance) / 2
        return ranks

    def _top_rows(
        self, vectors: torch.Tensor, seen: Pairs, rows: npt.NDArray[np.int64], count: int
    ) -> npt.NDArray[np.int64]:
        block = vectors.transpose(0, 1).contiguous()
        columns = seen.of_queries(rows)
        order = np.argsort(columns.values, kind="stable")
        seen_row, seen_column = columns.row_of_value()[order], columns.values[order]
        groups, tiles = COLUMNS // GROUP, len(self._padded) // COLUMNS
        maxima = torch.empty(len(vectors), min(TILES, tiles) * groups)
        buffers = torch.empty(2, len(vectors) * COLUMNS)
        best, chosen = torch.empty(len(vectors), 0), torch.empty(len(vectors), 0, dtype=torch.long)
        for tile in range(tiles):
            start = tile * COLUMNS
            scores = _tile(block, self._padded[start : start + COLUMNS], buffers)
            scores[:, self._corpus_size - start :] = -torch.inf
            first, last = np.searchsorted(seen_column, (start, start + COLUMNS))
            scores.numpy()[seen_row[first:last], seen_column[first:last] - start] = -np.inf
            held = (tile % TILES + 1) * groups
            maxima[:, held - groups : held] = scores.view(-1, GROUP, groups).amax(1)
            if held == TILES * groups or tile + 1 == tiles:
                found = torch.topk(maxima[:, :held], min(count, held), sorted=False)
                first_group = (tile + 1) * groups - held
                best = torch.cat([best, found.values], 1)
                chosen = torch.cat([chosen, found.indices + first_group], 1)
                if best.shape[1] > count:
                    best, places = torch.topk(best, count, sorted=False)
                    chosen = chosen.gather(1, places)
        return self._rescore(vectors, chosen, columns.row_of_value(), columns.values, count)

    def _rescore(
        self,
        vectors: torch.Tensor,
        chosen: torch.Tensor,
        seen_row: npt.NDArray[np.int64],
        seen_column: npt.NDArray[np.int32],
        count: int,
    ) -> npt.NDArray[np.int64]:
        """The best columns among the `chosen` groups `[rows, groups]` of each query."""
        kept, dim, groups = chosen.shape[1], vectors.shape[2], COLUMNS // GROUP
        first = chosen // groups * COLUMNS + chosen % groups
        columns = (first[:, :, None] + groups * torch.arange(GROUP)).view(len(vectors), -1)
        candidates = torch.empty(len(vectors), kept * GROUP)
        buffer = torch.empty(RESCORED_ROWS * kept * GROUP, dim)
        for start in range(0, len(vectors), RESCORED_ROWS):
            part = slice(start, start + RESCORED_ROWS)
            rows = columns[part].reshape(-1)
            items = torch.index_select(self._padded, 0, rows, out=buffer[: len(rows)])
            items = items.view(-1, kept * GROUP, dim)
            candidates[part] = torch.bmm(items, vectors[part].transpose(1, 2)).amax(2)
        candidates[columns >= self._corpus_size] = -torch.inf

        # The chosen groups of all queries in ascending order, to find those with seen items.
        order = np.argsort(chosen.numpy(), axis=1)
        group_count = len(self._padded) // GROUP
        of_row = np.arange(len(vectors))[:, None] * group_count
        keys = (np.take_along_axis(chosen.numpy(), order, axis=1) + of_row).ravel()
        tile, within = np.divmod(seen_column, COLUMNS)
        wanted = seen_row * group_count + tile * groups + within % groups
        found_at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        among = keys[found_at] == wanted
        seen_slot = order.ravel()[found_at[among]]
        places = seen_row[among], seen_slot * GROUP + within[among] // groups
        candidates.numpy()[places] = -np.inf

        best = torch.topk(candidates, min(count, candidates.shape[1]))
        found = torch.gather(columns, 1, best.indices)
        found[best.values == -torch.inf] = -1
        return found.numpy()


def _in_threads(work: Callable[[int], None], starts: range) -> None:
    """Call `work` for every start on as many threads as PyTorch would use, each on its own.

    The operations on one tile are too short to be shared among threads: they would spend their
    time waiting for one another, above all on a machine with other work.
    """
    threads = torch.get_num_threads()
    with torch_threads(1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, starts))


def _tile(block: torch.Tensor, items: torch.Tensor, buffers: torch.Tensor) -> torch.Tensor:
    """Scores `[rows, items]` in the first buffer; the second is for further interests."""
    size, shape = block.shape[1] * len(items), (block.shape[1], len(items))
    return _scores(block, items, buffers[0, :size].view(shape), buffers[1, :size].view(shape))


def _scores(
    block: torch.Tensor,
    items: torch.Tensor,
    out: torch.Tensor,
    spare: torch.Tensor | None = None,
) -> torch.Tensor:
    """Inner products `[rows, items]` of `block` `[interests, rows, dim]`; the best interest's."""
    torch.mm(block[0], items.T, out=out)
    for interest in block[1:]:
        other = torch.mm(interest, items.T, out=torch.empty_like(out) if spare is None else spare)
        torch.maximum(out, other, out=out)
    return out


def _identical_rows(
    vectors: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First row of each distinct vector, the distinct vector of each row, and how often each is."""
    plain = np.ascontiguousarray(vectors + np.float32(0))  # -0.0 becomes 0.0
    as_bytes = plain.view(np.dtype((np.void, plain.itemsize * plain.shape[1]))).ravel()
    _, first, group, sizes = np.unique(
        as_bytes, return_index=True, return_inverse=True, return_counts=True
    )
    return first, group, sizes


def _check_finite(vectors: npt.NDArray[np.float32], model: str, side: str) -> None:
    if np.isfinite(vectors).all():
        return
    wrong = np.flatnonzero(~np.isfinite(vectors.reshape(len(vectors), -1)).all(axis=1))
    raise DataError(
        f"model {model}: {len(wrong):,} of {len(vectors):,} {side} vectors hold NaN or infinity "
        f"(first at position {wrong[0]}); the training diverged: try a lower learning rate"
    )
