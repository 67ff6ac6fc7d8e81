"""Eq. 5 on a batch against a naive composition, one pair after the other."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dualtower.config import TrainingConfig
from dualtower.data.columns import QueryBatch, Ragged, take_ranges
from dualtower.data.dataset import Dataset
from dualtower.errors import ConfigError
from dualtower.losses.category_alignment import category_alignment
from dualtower.models.augmented import Learned
from dualtower.models.network import Network
from dualtower.models.query_windows import QueryWindows
from dualtower.training.negatives import uniform_per_positive, uniform_pool
from dualtower.training.objective import FULL_SCORES, Objective, check
from dualtower.training.pairs import Pairs
from dualtower.training.windows import Batch, Windows
from tests.training.runs import PAIRS_LEARNED, dat, loop, small_dataset

SEED = 11
STILL = {"embedding_dropout": 0.0, "attention_dropout": 0.0, "id_dropout": 0.0}
SASREC = {
    "history_form": "attention",
    "query_tower": False,
    "item_vectors": "embedding",
    "normalise": False,
}
CPU = torch.device("cpu")


@dataclass
class Case:
    """A network in training mode, a batch, and the settings of its loss."""

    dataset: Dataset
    network: Network
    config: TrainingConfig
    batch: Batch

    def objective(self) -> Objective:
        return Objective(self.network, self.config, self.dataset.everything(), SEED)

    def loss(self) -> Tensor:
        return self.objective()(self.batch)[0]


def case(model: dict[str, Any] | None = None, **training: Any) -> Case:
    """A batch of windows after a little history in the augmented vectors, or one of pairs."""
    dataset = small_dataset()
    torch.manual_seed(0)
    settings = {"history_length": 4, **STILL, **(model or {})}
    network = dat(**settings).build(dataset.space(), dataset.item_features, CPU)
    network.train()
    config = loop(**{"batch_size": 24, "negative_count": 8, **training})
    log = dataset.everything()
    if config.examples == "pairs":
        batch = next(iter(Pairs(log, batch_size=config.batch_size).epoch(0)))
        return Case(dataset, network, config, batch)
    windows = Windows(
        log,
        history_length=4 if network.reads_events else 0,
        target_length=5,
        batch_size=config.batch_size,
        folds=4,
        seed=0,
    )
    if network.augmented is not None:
        for fold in range(4):
            items = torch.randint(1, 21, (30,))
            network.augmented.observe(items, torch.randn(30, 8), fold)
    batch = max(windows.epoch(0), key=lambda batch: len(batch.earlier.values))
    with torch.no_grad():
        every = torch.arange(21)
        inputs = network.item_inputs(every)
        network.cached_inputs.copy_(inputs)
        network.cached_vectors.copy_(network.encode_item(every, inputs, batch.fold).vectors)
    return Case(dataset, network, config, batch)


def item_vector(case: Case, item: int) -> Tensor:
    rows = torch.tensor([item])
    network = case.network
    return network.encode_item(rows, network.item_inputs(rows), case.batch.fold).vectors[0]


def query_vector(case: Case, target: int) -> Tensor:
    """p_u of one target alone, from its query's log."""
    batch, network = case.batch, case.network
    window = int(batch.window[target])
    earlier = batch.earlier.take(np.array([window])).values
    past = np.concatenate([earlier, batch.items[window, : batch.known[target]]])
    latest, rest = past[-4:], past[:-4]
    rows = torch.arange(21)
    inputs = network.item_inputs(rows)
    one = np.array([window])
    windows = QueryWindows(
        queries=torch.from_numpy(batch.queries[one]),
        events=torch.from_numpy(latest.astype(np.int64))[None],
        present=torch.ones(1, len(latest), dtype=torch.bool),
        earlier=take_ranges(rest, np.array([0]), np.array([len(rest)])),
        window=torch.tensor([0]),
        known=torch.tensor([len(latest)]),
        query_features={},
        context={},
    )
    if len(latest) == 0:
        windows = QueryWindows(
            **{
                **vars(windows),
                "events": torch.zeros(1, 1, dtype=torch.long),
                "present": torch.zeros(1, 1, dtype=torch.bool),
            }
        )
    return network.encode_query(windows, inputs, network.cached_vectors).vectors[0]


def negatives(case: Case) -> list[list[int]]:
    """The negatives of every target, its own item and its window's history left out."""
    config, batch = case.config, case.batch
    corpus = torch.arange(1, 21)
    generator = torch.Generator().manual_seed(SEED)
    targets = torch.from_numpy(batch.targets)
    if config.negatives == "per_positive":
        drawn = uniform_per_positive(corpus, targets, config.negative_count, generator)
        return drawn.tolist()
    shared: set[int] = set()
    if config.negatives == "full":
        shared |= set(corpus.tolist())
    elif config.negatives != "in_batch":
        shared |= set(uniform_pool(corpus, config.negative_count, generator).tolist())
    if config.negatives in ("in_batch", "mixed"):
        shared |= set(batch.targets.tolist())
    left = []
    for target, item in enumerate(batch.targets.tolist()):
        window, known = batch.window[target], batch.known[target]
        history = set(batch.items[window, :known].tolist())
        left.append(sorted(shared - history - {item}))
    return left


def log_inclusion(case: Case, item: int, *, positive: bool) -> float:
    """log q by the formula, or 0 where no correction applies."""
    config = case.config
    refined = config.logq_correction == "refined"
    if config.logq_correction == "none" or (positive and refined) or config.negatives == "full":
        return 0.0
    if config.negatives in ("shared", "per_positive") and not refined:
        return 0.0
    if config.negatives == "per_positive":
        return math.log(config.negative_count / 19)
    share = (case.dataset.items == item).mean()
    absent = (1 - share) ** (config.batch_size - (1 if refined else 0))
    if config.negatives == "shared":
        absent = 1
    if config.negatives != "in_batch":
        absent *= (1 - 1 / 20) ** config.negative_count
    return math.log(1 - absent)


def naive_loss(case: Case) -> Tensor:
    total, pairs = torch.zeros(()), 0
    vectors = [item_vector(case, item) for item in range(21)]
    for target, others in enumerate(negatives(case)):
        item = int(case.batch.targets[target])
        query = query_vector(case, target)

        def logit(row: int, query: Tensor = query) -> Tensor:
            temperature = case.config.temperature if case.network.config.normalise else 1.0
            return query @ vectors[row] / temperature

        if case.config.loss == "binary_cross_entropy":
            total = total - torch.nn.functional.logsigmoid(logit(item))
            for other in others:
                total = total - torch.log(1 - torch.sigmoid(logit(other)))
        else:
            own = logit(item) - log_inclusion(case, item, positive=True)
            rest = [logit(row) - log_inclusion(case, row, positive=False) for row in others]
            logits = torch.stack([own, *rest])
            total = total - logits.log_softmax(0)[0]
        pairs += 1
    if case.config.loss == "binary_cross_entropy":
        pool = case.config.negative_count
        if case.config.negatives == "shared":
            generator = torch.Generator().manual_seed(SEED)
            pool = len(set(uniform_pool(torch.arange(1, 21), pool, generator).tolist()))
        return total / (pairs * (1 + pool))
    return total / pairs


SOFTMAX = [
    {"negatives": negatives, "logq_correction": logq}
    for negatives in ("shared", "in_batch", "mixed", "per_positive", "full")
    for logq in ("none", "standard", "refined")
]
BCE = [
    {"loss": "binary_cross_entropy", "negatives": negatives, "temperature": 1.0}
    for negatives in ("shared", "per_positive")
]


def named(settings: dict[str, Any]) -> str:
    return "-".join(str(value) for value in settings.values())


@pytest.mark.parametrize("training", [*SOFTMAX, *BCE], ids=named)
@pytest.mark.parametrize(
    "model",
    [
        {},
        {"history": False},
        {"augmented": "none"},
        {"augmented_item": False, "item_id": False},
        {"history": False, "query_id": True, "augmented": "none"},
        {"history_form": "attention", "normalise": False},
        {"augmented": "none", **SASREC},
        {"augmented": "none", "history_form": "mean", "item_vectors": "table"},
        {"augmented_item": False, "item_vectors": "table"},
    ],
    ids=[
        "full",
        "no-history",
        "no-augmented",
        "features-only",
        "reads-no-events",
        "attention",
        "no-towers",
        "softmax-weights",
        "softmax-weights-with-a_u",
    ],
)
def test_the_loss_of_windows(model: dict[str, Any], training: dict[str, Any]):
    made = case(model, **training)
    assert_close(made.loss(), naive_loss(made), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [*SOFTMAX, *BCE], ids=named)
def test_the_loss_of_pairs(training: dict[str, Any]):
    model = {"history": False, "query_id": True, "augmented": "none"}
    made = case(model, examples="pairs", **training)
    assert_close(made.loss(), naive_loss(made), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("augmented", ["none", "leave_out"])
def test_an_embedding_that_no_history_reads_takes_no_step(augmented: str):
    """Where p_v has a table of its own: not even by the momentum of steps before."""
    settings = {"augmented": augmented, "augmented_item": False, "item_vectors": "table"}
    made = case(settings, negatives="full", batch_size=4)
    table, outputs = made.network.item_table, made.network.item_outputs
    assert table is not None
    assert outputs is not None
    table(torch.arange(21)).sum().backward()
    table.update(0.1)
    before, own = table.weight.clone(), outputs.weight.clone()
    made.loss().backward()
    table.update(0.1)
    outputs.update(0.1)
    moved = set((table.weight != before).any(1).nonzero().flatten().tolist())
    assert moved == set(made.batch.items.flatten().tolist())
    assert len(moved) < 20
    assert (outputs.weight != own).any(1)[1:].all()


def test_history_and_own_items_are_indeed_among_the_candidates():
    """So that the comparisons above do test their exclusion."""
    made = case(negatives="mixed")
    shared = set(made.batch.targets.tolist())
    history = [
        shared & set(made.batch.items[window, :known].tolist())
        for window, known in zip(made.batch.window, made.batch.known, strict=True)
    ]
    assert sum(map(bool, history)) > 10
    assert len(made.batch.earlier.values) > 0


LEARNED = {"history": False, "query_id": True, "augmented": "learned"}


@pytest.mark.parametrize(("negatives", "pairs_per_positive"), [("shared", 1), ("per_positive", 9)])
@pytest.mark.parametrize("batch_size", [24, 8], ids=["", "batch-is-dim"])
def test_the_mimic_losses_are_equation_2(negatives: str, pairs_per_positive: int, batch_size: int):
    """Also where the batch is as large as the dimension, and broadcasting would go unnoticed."""
    settings = {"examples": "pairs", "negatives": negatives, "batch_size": batch_size}
    made = case({**LEARNED, "lambda_u": 0.25, "lambda_v": 2.0}, **settings)
    without = case({**LEARNED, "lambda_u": 0.0, "lambda_v": 0.0}, **settings)
    augmented = made.network.augmented
    assert isinstance(augmented, Learned)
    loss_u = loss_v = torch.zeros(())
    for target, item in enumerate(made.batch.targets.tolist()):
        a_u = augmented.queries.weight[made.batch.queries[target]]
        a_v = augmented.items.weight[item]
        loss_u = loss_u + (a_u - item_vector(made, item)).square().sum()
        loss_v = loss_v + (a_v - query_vector(made, target)).square().sum()
    count = pairs_per_positive * batch_size
    assert_close(made.loss() - without.loss(), 0.25 * loss_u / count + 2.0 * loss_v / count)


def gradients(model: dict[str, Any]) -> dict[str, Tensor]:
    """Of every parameter, and of every table as its first moments after one step."""
    made = case({**LEARNED, **model}, examples="pairs")
    made.loss().backward()
    found = {name: value.grad for name, value in made.network.named_parameters()}
    for name, module in made.network.named_modules():
        if module in made.network.tables():
            module.update(0.1)
            found[name] = module.optimizer_state()["moments"][:, :8]
    return found


@pytest.mark.parametrize(
    ("weights", "only"),
    [
        ({"lambda_u": 1.0, "lambda_v": 0.0}, "augmented.queries"),
        ({"lambda_u": 0.0, "lambda_v": 1.0}, "augmented.items"),
    ],
    ids=["loss_u", "loss_v"],
)
def test_the_mimic_loss_moves_the_augmented_vector_and_nothing_else(
    weights: dict[str, float], only: str
):
    without = gradients({"lambda_u": 0.0, "lambda_v": 0.0})
    moved = gradients(weights)
    assert without.keys() == moved.keys()
    differing = [
        name for name in moved if not torch.allclose(moved[name], without[name], atol=1e-7)
    ]
    assert differing == [only]


def test_augmented_vectors_also_learn_through_the_tower_s_input():
    without = gradients({"lambda_u": 0.0, "lambda_v": 0.0})
    assert without["augmented.queries"].abs().sum() > 0
    assert without["augmented.items"].abs().sum() > 0


def test_augmented_tables_share_nothing_with_the_id_tables():
    tables = case(LEARNED, examples="pairs").network.tables()
    assert len(tables) == 5  # two of ids, two augmented, one of the feature
    assert len({table.weight.data_ptr() for table in tables}) == 5


@pytest.mark.parametrize("augmented_dim", [5, 8, 12])
def test_the_vector_compared_is_the_vector_fed(augmented_dim: int):
    made = case({**LEARNED, "augmented_dim": augmented_dim}, examples="pairs")
    fed: dict[str, Tensor] = {}
    for side in ("query_tower", "item_tower"):
        getattr(made.network, side).register_forward_pre_hook(
            lambda module, inputs, side=side: fed.update({side: inputs[0]})
        )
    made.loss()
    augmented = made.network.augmented
    assert isinstance(augmented, Learned)
    rows = torch.from_numpy(made.batch.queries)
    assert torch.equal(fed["query_tower"][:, -augmented_dim:], augmented.queries.weight[rows])
    distinct = set(map(tuple, fed["item_tower"][:, -augmented_dim:].tolist()))
    table = augmented.items.weight.tolist()
    assert distinct <= set(map(tuple, table))


@pytest.mark.parametrize("ca_items", ["candidates", "positives"])
def test_category_alignment_takes_every_item_of_known_category_once(ca_items: str):
    """All candidates; or the targets alone, without the drawn items."""
    made = case({"lambda_ca": 0.5, "ca_items": ca_items}, negatives="mixed")
    without = case(negatives="mixed")
    items = set(made.batch.targets.tolist())
    pool = uniform_pool(torch.arange(1, 21), 8, torch.Generator().manual_seed(SEED)).tolist()
    assert not items.issuperset(pool)
    if ca_items == "candidates":
        items.update(pool)
    vectors = torch.stack([item_vector(made, item) for item in sorted(items)])
    categories = torch.tensor(made.dataset.item_categories[sorted(items)]).long()
    expected = 0.5 * category_alignment(vectors, categories)
    assert expected > 0.001
    assert_close(made.loss() - without.loss(), expected, rtol=1e-3, atol=1e-5)


def test_running_covariances_count_from_the_second_batch_of_an_epoch_on():
    by_itself = case({"lambda_ca": 0.5}, negatives="in_batch")
    running = case({"lambda_ca": 0.5, "ca_momentum": 0.9}, negatives="in_batch")
    objective = running.objective()
    assert_close(objective(running.batch)[0], by_itself.loss())
    with torch.no_grad():
        for made in (running, by_itself):
            for weight in made.network.item_tower.layers[-1].parameters():
                weight.mul_(3)
    assert not torch.allclose(objective(running.batch)[0], by_itself.loss())
    objective.start_epoch(SEED)
    assert_close(objective(running.batch)[0], by_itself.loss())


def test_running_covariances_of_too_many_categories_are_refused(monkeypatch):
    monkeypatch.setattr("dualtower.training.objective.RUNNING_NUMBERS", 200)
    made = case({"lambda_ca": 0.5, "ca_momentum": 0.9})
    with pytest.raises(ConfigError, match=r"ca_momentum keeps output_dim² = 64 numbers for each"):
        made.objective()


def test_items_of_unknown_category_are_left_out_of_the_alignment():
    made = case({"lambda_ca": 0.5})
    made.dataset.item_categories[:] = 0
    assert_close(made.loss(), case().loss())


def test_a_batch_does_not_depend_on_what_its_own_queries_did():
    """The whole loss, bit for bit, before and after their p_u (here: absurd ones) are taken in."""
    made = case()
    before = made.loss()
    absurd = torch.full((len(made.batch.targets), 8), 1e4)
    made.objective().observe(made.batch, absurd)
    assert torch.equal(made.loss(), before)
    other_fold = Batch(**{**vars(made.batch), "fold": (made.batch.fold + 1) % 4})
    made.objective().observe(other_fold, absurd)
    assert not torch.allclose(made.loss(), before)


def test_a_target_s_own_vector_does_not_enter_its_query():
    """Whatever item a target is, and whatever follows it, its p_u is the same bit for bit."""
    made = case()
    objective = made.objective()
    before = objective.query_vectors(made.batch)
    for target in range(0, len(made.batch.targets), 5):
        window, known = made.batch.window[target], made.batch.known[target]
        items = made.batch.items.copy()
        behind = items[window, known:]
        items[window, known:] = np.where(behind > 0, behind % 20 + 1, 0)
        changed = Batch(**{**vars(made.batch), "items": items})
        assert torch.equal(objective.query_vectors(changed)[target], before[target])


@pytest.mark.parametrize(
    "model",
    [{}, {"history": False}, {"augmented": "none"}, {"augmented_dim": 5}, {"query_id": True}],
    ids=named,
)
def test_training_and_serving_give_the_same_query_vectors(model: dict[str, Any]):
    """p_u of a window's target is that of a request whose history is what came before it."""
    made = case(model)
    made.network.settle()
    made.network.eval()
    windows = Windows(
        made.dataset.everything(),
        history_length=4,
        target_length=5,
        batch_size=64,
        folds=4,
        seed=0,
    )
    for batch in windows.epoch(0):
        vectors = made.objective().query_vectors(batch)
        queries = batch.queries[batch.window]
        lengths = batch.earlier.lengths()[batch.window] + batch.known
        start = made.dataset.offsets[queries]
        request = made.dataset.everything().requests(queries)
        request = type(request)(
            **{
                **vars(request),
                "history": take_ranges(made.dataset.items, start, start + lengths),
            }
        )
        assert_close(vectors, made.network.encode_batch(request))


@pytest.mark.parametrize(
    ("model", "training", "words"),
    [
        ({}, {"examples": "pairs"}, ['examples = "pairs"', "history = false"]),
        (
            {"history": False},
            {"examples": "pairs"},
            ['examples = "pairs"', 'augmented = "learned"'],
        ),
        (
            {"history": False, "augmented_query": False, "query_id": True},
            {"examples": "pairs"},
            ['examples = "pairs"', 'augmented = "leave_out"'],
        ),
        ({}, {"loss": "binary_cross_entropy", "negatives": "mixed"}, ["binary_cross", '"mixed"']),
        (
            {},
            {"loss": "binary_cross_entropy", "negatives": "in_batch"},
            ["binary_cross_entropy", '"in_batch"', '"per_positive"'],
        ),
    ],
)
def test_settings_that_contradict_each_other_are_both_named(model, training, words):
    dataset = small_dataset()
    network = dat(**model).build(dataset.space(), dataset.item_features, CPU)
    with pytest.raises(ConfigError) as caught:
        check(loop(**training), network, dataset.item_count)
    assert all(word in str(caught.value) for word in words)


def test_negatives_are_the_same_again_in_an_epoch_of_the_same_seed():
    made = case(negatives="shared")
    objective = made.objective()
    first = objective(made.batch)[0]
    assert not torch.equal(objective(made.batch)[0], first)
    objective.start_epoch(SEED)
    assert torch.equal(objective(made.batch)[0], first)


def test_own_items_are_left_out_where_no_event_before_them_is_a_candidate():
    made = case(negatives="shared")
    objective = made.objective()
    found = objective._items(made.batch)
    nowhere = replace(found, shared=found.positive[:1], events=torch.full_like(found.events, -1))
    row, column = objective._excluded(made.batch, nowhere)
    same = torch.nonzero(found.positive == found.positive[0])[:, 0]
    assert row.tolist() == same.tolist()
    assert column.tolist() == [0] * len(same)


def with_weights(made: Case, weights: np.ndarray) -> Case:
    batch = Batch(**{**vars(made.batch), "weights": weights.astype(np.float32)})
    return Case(made.dataset, made.network, made.config, batch)


def only_target(made: Case, target: int) -> Tensor:
    """The loss where one target alone has a weight: that target's own part."""
    return with_weights(made, np.eye(len(made.batch.targets))[target]).loss()


@pytest.mark.parametrize("training", [*SOFTMAX, *BCE], ids=named)
@pytest.mark.parametrize("batch_size", [24, 8], ids=["", "batch-is-dim"])
def test_the_loss_is_the_weighted_mean_over_the_positives(
    training: dict[str, Any], batch_size: int
):
    made = case({**LEARNED, "lambda_v": 2.0}, examples="pairs", batch_size=batch_size, **training)
    weights = np.random.default_rng(0).random(len(made.batch.targets))
    parts = torch.stack([only_target(made, target) for target in range(batch_size)])
    assert_close(parts.mean(), made.loss(), rtol=1e-4, atol=1e-5)
    expected = (torch.from_numpy(weights).float() * parts).sum() / weights.sum()
    assert_close(with_weights(made, weights).loss(), expected, rtol=1e-4, atol=1e-5)
    assert_close(with_weights(made, 2 * weights).loss(), with_weights(made, weights).loss())


def test_a_weight_of_zero_takes_the_positive_s_gradient_away():
    """With negatives of its own, nothing else of the batch reads the target's query."""
    made = case(LEARNED, examples="pairs", negatives="per_positive")
    queries = made.batch.queries
    dropped = queries[0]
    with_weights(made, np.where(queries == dropped, 0.0, 1.0)).loss().backward()
    for table in (made.network.query_table, made.network.augmented.queries):
        table.update(0.1)
        moments = table.optimizer_state()["moments"][:, :8]
        assert (moments[dropped] == 0).all()
        assert (moments[np.setdiff1d(queries, dropped)] != 0).any(1).all()


def test_an_embedding_that_is_an_item_s_vector_is_not_dropped():
    """Of all that the loss reads only the history's copy of it is."""
    made = case({"augmented": "none", **SASREC, "embedding_dropout": 0.5})
    fed: list[Tensor] = []
    encode = made.network.encode_item
    made.network.encode_item = lambda items, inputs, fold=None: (  # type: ignore[method-assign]
        fed.append(inputs) or encode(items, inputs, fold)
    )
    made.network.history.register_forward_pre_hook(lambda module, inputs: fed.append(inputs[0]))
    made.loss()
    vectors, history = fed
    assert (vectors != 0).all()
    dropped = (history == 0).all(-1).logical_not()[..., None] & (history == 0)
    assert 0.3 < dropped.sum() / (history.shape[-1] * (history != 0).any(-1).sum()) < 0.7


@pytest.mark.parametrize("same_time_history", [True, False])
@pytest.mark.parametrize(
    "model",
    [
        {},
        {"history_form": "attention"},
        {"history_form": "attention", "attention_blocks": 3, "attention_heads": 4},
        {"history_form": "mean", "augmented": "none", "item_vectors": "table"},
        {"augmented": "none", **SASREC},
    ],
    ids=["pools", "attention", "deep", "mean", "sasrec"],
)
def test_a_target_in_a_window_gets_the_vector_of_a_request(
    model: dict[str, Any], same_time_history: bool
):
    """Whatever stands in the window before and behind what the target may see."""
    rng = np.random.default_rng(0)
    dataset = small_dataset()
    times = np.cumsum(rng.integers(0, 2, size=len(dataset.items)))
    dataset = replace(dataset, times=times.astype(np.int64))
    log = dataset.everything()
    torch.manual_seed(0)
    network = dat(history_length=4, **model).build(dataset.space(), dataset.item_features, CPU)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network.eval()
    network.settle()
    objective = Objective(network, loop(), log, SEED)
    windows = Windows(
        log,
        history_length=4,
        target_length=3,
        batch_size=50,
        folds=1,
        seed=0,
        same_time_history=same_time_history,
    )
    for batch in windows.epoch(0):
        past = [
            [
                *batch.earlier.take(np.array([window])).values.tolist(),
                *batch.items[window, :known].tolist(),
            ]
            for window, known in zip(batch.window, batch.known, strict=True)
        ]
        requests = QueryBatch(
            batch.queries[batch.window],
            Ragged(
                np.array([item for items in past for item in items], dtype=np.int32),
                np.cumsum([0, *map(len, past)]).astype(np.int64),
            ),
            {},
            {},
        )
        assert max(map(len, past)) > 8
        assert_close(objective.query_vectors(batch), network.encode_batch(requests))


@pytest.mark.parametrize("negatives", ["shared", "in_batch", "mixed", "per_positive", "full"])
def test_a_corpus_without_another_item_has_no_negatives(negatives: str):
    dataset = small_dataset()
    network = dat().build(dataset.space(), dataset.item_features, CPU)
    config = loop(negatives=negatives, negative_count=4)
    check(config, network, 2)
    with pytest.raises(ConfigError, match=r"the corpus has 1 item\(s\); two are needed"):
        check(config, network, 1)


@pytest.mark.parametrize("examples", ["windows", "pairs"])
def test_a_positive_alone_in_its_batch_has_no_negatives_there(examples: str):
    dataset = small_dataset()
    network = dat(**PAIRS_LEARNED[0]).build(dataset.space(), dataset.item_features, CPU)
    check(loop(examples=examples, negatives="in_batch", batch_size=2), network, 20)
    with pytest.raises(ConfigError, match=r"in_batch.* of batch_size = 1 are none"):
        check(loop(examples=examples, negatives="in_batch", batch_size=1), network, 20)


def test_a_full_softmax_over_too_many_scores_is_refused_with_what_would_fit():
    dataset = small_dataset()
    network = dat().build(dataset.space(), dataset.item_features, CPU)
    config = loop(negatives="full", batch_size=1000)
    check(config, network, FULL_SCORES // 1000)
    with pytest.raises(ConfigError, match=r'full" scores all 268,435 .* batch_size to at most 500'):
        check(config, network, FULL_SCORES // 500)
