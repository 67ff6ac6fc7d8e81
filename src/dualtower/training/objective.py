"""The loss of one batch: candidates, scores, Eq. 5."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dualtower.config import TrainingConfig
from dualtower.data.dataset import Log
from dualtower.errors import ConfigError
from dualtower.losses.binary_cross_entropy import binary_cross_entropy
from dualtower.losses.category_alignment import RunningCovariances, category_alignment
from dualtower.losses.mimic import mimic
from dualtower.losses.sampled_softmax import sampled_softmax
from dualtower.losses.shares import shares
from dualtower.models.augmented import Learned
from dualtower.models.label_attention import label_aware_attention
from dualtower.models.network import Encoded, Network
from dualtower.models.query_windows import QueryWindows
from dualtower.training.negatives import (
    log_inclusion_in_batch,
    log_inclusion_mixed,
    log_inclusion_uniform,
    uniform_per_positive,
    uniform_pool,
)
from dualtower.training.windows import Batch

FULL_SCORES = 2**27
"""The most scores of one step that `negatives = "full"` may ask for: half a gigabyte of floats."""
RUNNING_NUMBERS = 2**27
"""The most numbers that the running covariances of `ca_momentum` may take, likewise."""


@dataclass(frozen=True)
class ItemBlock:
    """The items that a batch names, each once; the candidates first."""

    items: Tensor
    """Item rows, `[n]`."""
    candidate_count: int
    """How many of them, from the first on, are scored; the rest are only history."""
    positive: Tensor
    """Where each target's item stands among them, `[targets]`."""
    negative: Tensor | None
    """Where each target's own negatives stand, `[targets, S]`; None with shared candidates."""
    shared: Tensor | None
    """Where the shared negatives stand, each once, `[c]`; None with negatives per positive."""
    events: Tensor
    """Where each window event's item stands, `[windows, length]`; −1 for an item that is not among
    them."""


class Objective:
    """Computes Eq. 5 on a batch, and hands the positives to the augmented vectors afterwards."""

    def __init__(self, network: Network, config: TrainingConfig, log: Log, seed: int) -> None:
        self._network = network
        self._config = config
        self._device = network.device
        self._corpus = torch.from_numpy(np.asarray(log.corpus, dtype=np.int64)).to(self._device)
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self._categories = torch.from_numpy(np.array(log.dataset.item_categories)).to(self._device)
        self._slots = torch.full((network.item_count,), -1, device=self._device)
        self._log_inclusion = self._inclusion(log)
        self._temperature = config.temperature if network.config.normalise else 1.0
        self._covariances = self._running_covariances()

    def start_epoch(self, seed: int) -> None:
        """Start the negatives' randomness and CAL's running covariances anew.

        So an epoch does not depend on the last, and need not be found in a checkpoint.
        """
        self._generator.manual_seed(seed)
        if self._covariances is not None:
            self._covariances.clear()

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of a batch, a scalar, and its targets' p_u without gradient."""
        network, model = self._network, self._network.config
        block = self._items(batch)
        rows, events, held = block.items, block.events, None
        if network.item_outputs is not None and network.reads_events:
            # p_v are rows of a table of their own; an embedding takes a step where it is read.
            held, events = _held(block)
            rows = rows[held]
        embedded = network.item_inputs(rows)
        inputs = network.drop(embedded)
        # Dropout belongs to what a tower reads; an embedding that is p_v itself stays whole.
        item, read = self._encode_items(
            batch, block, embedded if network.item_tower is None else inputs
        )
        if held is not None and network.reads_past:
            read = read[held]
        query = network.encode_query(self._windows(batch, events), inputs, read)
        vectors = self._chosen(query, item.vectors, block.positive)
        weights = None if batch.weights is None else self._to(batch.weights)
        loss = self._retrieval_loss(batch, block, vectors, item.vectors, weights)
        if isinstance(network.augmented, Learned):
            loss = loss + self._mimic(block, query, item, weights)
        if model.lambda_ca:
            loss = loss + model.lambda_ca * self._alignment(block, item.vectors)
        return loss, vectors.detach()

    def observe(self, batch: Batch, query_vectors: Tensor) -> None:
        """Tell the augmented vectors which p_u met which item."""
        if self._network.augmented is not None:
            targets = torch.from_numpy(batch.targets).to(self._device)
            self._network.augmented.observe(targets, query_vectors, batch.fold)

    @torch.no_grad()
    def query_vectors(self, batch: Batch) -> Tensor:
        """p_u of a batch's targets from the cached items, without dropout."""
        windows = self._windows(batch, self._to(batch.items))
        network = self._network
        return network.encode_query(windows, network.cached_inputs, network.cached_vectors).vectors

    def _items(self, batch: Batch) -> ItemBlock:
        """Find the batch's distinct items: targets and negatives first, then the history's."""
        config, slots = self._config, self._slots
        targets, events = self._to(batch.targets), self._to(batch.items)
        named = [targets]
        own = None
        if config.negatives == "per_positive":
            own = uniform_per_positive(
                self._corpus, targets, config.negative_count, self._generator
            )
            named.append(own.flatten())
        elif config.negatives in ("shared", "mixed"):
            named.append(uniform_pool(self._corpus, config.negative_count, self._generator))
        elif config.negatives == "full":
            named.append(self._corpus)
        candidates, places = self._distinct(torch.cat(named))
        slots[candidates] = torch.arange(len(candidates), device=self._device)
        items = candidates
        if self._network.reads_events:
            flat = events.flatten()
            rest = self._distinct(flat[slots[flat] < 0])[0]
            slots[rest] = torch.arange(len(rest), device=self._device) + len(candidates)
            items = torch.cat([candidates, rest])
        standing = slots[events]
        slots[items] = -1
        shared = None
        if config.negatives == "shared":
            shared = torch.unique(places[len(targets) :])
        elif config.negatives in ("in_batch", "mixed", "full"):
            shared = torch.arange(len(candidates), device=self._device)
        return ItemBlock(
            items=items,
            candidate_count=len(candidates),
            positive=places[: len(targets)],
            negative=None if own is None else places[len(targets) :].view(own.shape),
            shared=shared,
            events=standing,
        )

    def _distinct(self, items: Tensor) -> tuple[Tensor, Tensor]:
        if self._network.item_table is not None:
            return self._network.item_table.distinct(items)
        rows, places = torch.unique(items, return_inverse=True)
        return rows, places

    def _encode_items(
        self, batch: Batch, block: ItemBlock, inputs: Tensor
    ) -> tuple[Encoded, Tensor]:
        """The candidates as the item tower gives them, and the p_v that a_u reads.

        The mimic loss stops the gradient into p, the retrieval loss does not: as a learned a_u is
        trained through its tower's input, a closed-form one passes that gradient on to the p_v
        that it is the mean of. Without it a_u alone learns little (docs/model.md).
        """
        network, count = self._network, block.candidate_count
        if not network.reads_past:
            item = network.encode_item(block.items[:count], inputs[:count], batch.fold)
            return item, item.vectors  # nothing reads the second
        whole = network.encode_item(block.items, inputs, batch.fold)
        network.cached_vectors[block.items] = whole.vectors.detach()
        augmented = None if whole.augmented is None else whole.augmented[:count]
        return Encoded(whole.vectors[:count], augmented), whole.vectors

    def _chosen(self, query: Encoded, items: Tensor, positive: Tensor) -> Tensor:
        """The vector that is scored for each target, `[targets, output_dim]`.

        Of several interests, what label-aware attention makes of them for the target's vector.
        """
        if query.interests is None:
            return query.vectors
        model = self._network.config
        scaled = functional.embedding(positive, items) / self._temperature
        pooled = label_aware_attention(
            query.vectors, query.interests, scaled, model.label_attention_power
        )
        return functional.normalize(pooled, dim=-1) if model.normalise else pooled

    def _windows(self, batch: Batch, events: Tensor) -> QueryWindows:
        return QueryWindows(
            queries=self._to(batch.queries),
            events=events,
            present=self._to(batch.items > 0),
            earlier=batch.earlier,
            window=self._to(batch.window),
            known=self._to(batch.known),
            query_features=batch.query_features,
            context=batch.context,
        )

    def _retrieval_loss(
        self,
        batch: Batch,
        block: ItemBlock,
        queries: Tensor,
        items: Tensor,
        weights: Tensor | None,
    ) -> Tensor:
        temperature = self._temperature
        if block.negative is not None:
            places = torch.cat([block.positive[:, None], block.negative], dim=1)
            named = items.index_select(0, places.flatten()).view(*places.shape, -1)
            # Of matrices this small a batched product takes twice as long.
            scores = (named * (queries / temperature).unsqueeze(1)).sum(2)
            if self._config.loss == "binary_cross_entropy":
                return binary_cross_entropy(scores[:, 0], scores[:, 1:], weights)
            if self._log_inclusion is not None:
                drawn = block.items[block.negative]
                scores = scores - functional.pad(self._log_inclusion[drawn], (1, 0))
            own = scores.new_zeros(len(scores), dtype=torch.long)
            if weights is None:
                return functional.cross_entropy(scores, own)
            losses = functional.cross_entropy(scores, own, reduction="none")
            return shares(weights, len(losses)) @ losses
        assert block.shared is not None
        excluded = self._excluded(batch, block)
        positives = functional.embedding(block.positive, items)
        if self._config.loss == "binary_cross_entropy":
            scaled = queries / temperature
            negative = scaled @ items[block.shared].T
            # An excluded pair gets a score at which its loss and its gradient are zero.
            negative = negative.index_put(excluded, negative.new_tensor(-1e4))
            return binary_cross_entropy((scaled * positives).sum(1), negative, weights)
        correction = self._log_inclusion
        rows = block.items[: block.candidate_count]
        of_positives = correction if self._config.logq_correction == "standard" else None
        return sampled_softmax(
            queries,
            positives,
            items if len(block.shared) == len(items) else items[block.shared],
            temperature=temperature,
            excluded=excluded,
            positive_log_inclusion=(
                None if of_positives is None else of_positives[rows[block.positive]]
            ),
            candidate_log_inclusion=None if correction is None else correction[rows[block.shared]],
            weights=weights,
        )

    def _excluded(self, batch: Batch, block: ItemBlock) -> tuple[Tensor, Tensor]:
        """Pairs (target, shared candidate) to leave out: its own item, and its history's.

        By ascending target. Only events whose item is a shared candidate are gone through: each
        target gets those among the first events of its window that it may see.
        """
        assert block.shared is not None
        column = torch.full((block.candidate_count + 1,), -1, device=self._device)
        column[block.shared] = torch.arange(len(block.shared), device=self._device)
        own = column[block.positive]
        if not batch.items.shape[1]:
            inside = (own >= 0).nonzero()[:, 0]
            return inside, own[inside]
        window, known = self._to(batch.window), self._to(batch.known)
        last = block.candidate_count
        standing = column[torch.where(block.events < last, block.events, last)]
        shown = standing >= 0
        before = functional.pad(shown.cumsum(1), (1, 0))
        seen = before[window, known]
        first = functional.pad(before[:, -1].cumsum(0), (1, 0))[window]
        counts = seen + (own >= 0)
        row = torch.repeat_interleave(counts)
        place = torch.arange(len(row), device=self._device) - (counts.cumsum(0) - counts)[row]
        of_own = place >= seen[row]
        # One more at the end, so that there is something to read where no event is shown.
        of_events = functional.pad(standing[shown], (0, 1))
        chosen = of_events[(first[row] + place).masked_fill_(of_own, 0)]
        return row, torch.where(of_own, own[row], chosen)

    def _alignment(self, block: ItemBlock, items: Tensor) -> Tensor:
        """loss_CA of Eq. 5 (Eq. 3) on the candidates or, each once, the positives."""
        rows = block.items[: block.candidate_count]
        if self._network.config.ca_items == "positives":
            chosen = torch.unique(block.positive)
            rows, items = rows[chosen], items[chosen]
        categories = self._categories[rows]
        known = categories > 0
        return category_alignment(items[known], categories[known].long(), self._covariances)

    def _running_covariances(self) -> RunningCovariances | None:
        model = self._network.config
        if not model.lambda_ca or not model.ca_momentum:
            return None
        count = int(self._categories.max()) + 1
        if count * model.output_dim**2 > RUNNING_NUMBERS:
            raise ConfigError(
                f"model: ca_momentum keeps output_dim² = {model.output_dim**2:,} numbers for each "
                f"of {count - 1:,} categories, more than {RUNNING_NUMBERS:,}; set ca_momentum = 0, "
                "or name a coarser category"
            )
        return RunningCovariances(count, model.output_dim, model.ca_momentum, self._device)

    def _mimic(
        self, block: ItemBlock, query: Encoded, item: Encoded, weights: Tensor | None
    ) -> Tensor:
        """λ1 loss_u + λ2 loss_v of Eq. 5 (Eq. 2)."""
        model, project = self._network.config, self._network.augmented.project  # type: ignore[union-attr]
        per_positive = self._config.negative_count if block.negative is not None else 0
        loss = query.vectors.new_zeros(())
        if query.augmented is not None and model.lambda_u:
            target = project(item.vectors.detach().index_select(0, block.positive))
            loss = loss + model.lambda_u * mimic(query.augmented, target, per_positive, weights)
        if item.augmented is not None and model.lambda_v:
            fed = item.augmented.index_select(0, block.positive)
            target = project(query.vectors.detach())
            loss = loss + model.lambda_v * mimic(fed, target, per_positive, weights)
        return loss

    def _inclusion(self, log: Log) -> Tensor | None:
        """Log of how likely each item row is to be among a positive's negatives, `[items]`.

        None where no correction is asked for, or where the standard one is the same for every
        candidate and cancels. For the refined one the positive itself is no draw: the batch's
        other positives are.
        """
        config, corpus_size = self._config, len(self._corpus)
        if config.logq_correction == "none" or config.loss != "sampled_softmax":
            return None
        if config.negatives == "full":
            return None  # every candidate is certain
        refined = config.logq_correction == "refined"
        if config.negatives in ("shared", "per_positive") and not refined:
            return None
        others = max(1, config.batch_size - refined)
        share = torch.from_numpy(log.item_counts() / max(1, log.event_count))
        if config.negatives == "in_batch":
            inclusion = log_inclusion_in_batch(share, others)
        elif config.negatives == "mixed":
            inclusion = log_inclusion_mixed(share, others, corpus_size, config.negative_count)
        elif config.negatives == "shared":
            pool = log_inclusion_uniform(corpus_size, config.negative_count)
            inclusion = torch.full_like(share, pool)
        else:  # drawn with replacement and kept as often as drawn: how often is expected
            expected = config.negative_count / (corpus_size - 1)
            inclusion = torch.full_like(share, math.log(expected))
        return inclusion.float().to(self._device)

    def _to(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def _held(block: ItemBlock) -> tuple[Tensor, Tensor]:
    """Which of the block's items the windows hold, `[n]`, and each event's place among those."""
    held = torch.zeros(len(block.items), dtype=torch.bool, device=block.items.device)
    held[block.events] = True
    return held, (held.cumsum(0) - 1)[block.events]


def check(config: TrainingConfig, network: Network, corpus_size: int) -> None:
    """Refuse settings that contradict each other, or a full softmax over too large a corpus.

    Raises:
        ConfigError: names the two settings and what would be right.
    """
    if config.examples == "pairs" and network.capsules is not None:
        raise ConfigError(
            'training: examples = "pairs" gives no history, and mind finds its interests there; '
            'set examples = "windows"'
        )
    if config.examples == "pairs" and network.reads_events:
        raise ConfigError(
            'training: examples = "pairs" gives no history, but the model reads it; set '
            'history = false and augmented = "learned" or "none", or examples = "windows"'
        )
    if config.examples == "pairs" and network.augmented is not None and network.augmented.folds > 1:
        raise ConfigError(
            'training: examples = "pairs" mixes all queries in a batch, so that '
            'augmented = "leave_out" would have nothing left; set augmented = "learned" or "none", '
            'or examples = "windows"'
        )
    if config.loss == "binary_cross_entropy" and config.negatives in ("in_batch", "mixed"):
        raise ConfigError(
            f'training: loss = "binary_cross_entropy" with negatives = "{config.negatives}" has no '
            'defined weighting; use negatives = "per_positive" or "shared"'
        )
    if corpus_size < 2:
        raise ConfigError(
            f"training: an item is told from others, and the corpus has {corpus_size} item(s); two "
            "are needed"
        )
    if config.negatives == "in_batch" and config.batch_size == 1:
        raise ConfigError(
            'training: negatives = "in_batch" of batch_size = 1 are none; set a larger batch_size, '
            'or negatives = "mixed"'
        )
    if config.negatives == "full" and config.batch_size * corpus_size > FULL_SCORES:
        raise ConfigError(
            f'training: negatives = "full" scores all {corpus_size:,} items of the corpus for each '
            f"of batch_size = {config.batch_size:,} positives, more than {FULL_SCORES:,} scores a "
            f"step; set batch_size to at most {FULL_SCORES // corpus_size:,}, or negatives = "
            '"mixed"'
        )
    lost = config.table_learning_rate * config.table_weight_decay
    if lost >= 1:
        raise ConfigError(
            f"training: table_learning_rate · table_weight_decay is {lost:g}; a row would lose all "
            "of its value in a step; set table_weight_decay below "
            f"{1 / config.table_learning_rate:g}"
        )
