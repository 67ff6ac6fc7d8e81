"""Query-item pairs without history, the paper's own examples."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import Ragged
from dualtower.data.dataset import Log
from dualtower.training.windows import Batch


class Pairs:
    """Deals out the positives of a view in random order, each alone, without its history.

    The order is drawn by query and then by event in blocks, so that no permutation of all the
    events has to be in memory: a block holds `block_batches` batches.
    """

    def __init__(self, log: Log, *, batch_size: int, block_batches: int = 512) -> None:
        self._log = log
        self._batch_size = batch_size
        self._block = batch_size * block_batches

    @property
    def event_count(self) -> int:
        """Positives in one epoch."""
        return self._log.event_count

    def step_count(self) -> int:
        """Batches in one epoch."""
        full, rest = divmod(self.event_count, self._block)
        per_block = -(-self._block // self._batch_size)
        return full * per_block + -(-rest // self._batch_size)

    def epoch(self, seed: int) -> Iterator[Batch]:
        """All positives once, in an order drawn from `seed`."""
        rng = np.random.default_rng(seed)
        queries = rng.permutation(self._log.queries())
        counts = (self._log.end - self._log.start)[queries]
        # Blocks are cut between positives, not between queries: one long log must not unbalance.
        ends = np.cumsum(counts)
        for begin in range(0, self.event_count, self._block):
            stop = min(begin + self._block, self.event_count)
            number = rng.permutation(np.arange(begin, stop))
            owner = np.searchsorted(ends, number, side="right")
            query = queries[owner]
            event = self._log.start[query] + number - (ends - counts)[owner]
            items = self._log.dataset.items[event].astype(np.int64)
            for first in range(0, len(number), self._batch_size):
                part = slice(first, first + self._batch_size)
                yield self._batch(query[part], event[part], items[part])

    def _batch(
        self,
        queries: npt.NDArray[np.int64],
        events: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64],
    ) -> Batch:
        dataset = self._log.dataset
        count = len(queries)
        return Batch(
            queries=queries,
            items=np.zeros((count, 0), dtype=np.int64),
            earlier=Ragged(np.zeros(0, dtype=np.int32), np.zeros(count + 1, dtype=np.int64)),
            window=np.arange(count),
            known=np.zeros(count, dtype=np.int64),
            targets=items,
            fold=0,
            query_features={n: c.take(queries) for n, c in dataset.query_features.items()},
            context={n: c.take(events) for n, c in dataset.context_features.items()},
            weights=None if dataset.weights is None else np.asarray(dataset.weights[events]),
        )
