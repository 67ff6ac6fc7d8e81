"""The training loop: reproducible, resumable, and plain about what goes wrong."""

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dualtower.config import EvaluationConfig
from dualtower.data.dataset import Log
from dualtower.errors import BundleError, CollapseWarning, ConfigError, DataError
from dualtower.fitting import fit
from dualtower.models.dat import DAT
from dualtower.models.table import EmbeddingTable
from dualtower.models.two_tower import TwoTower
from dualtower.schema import Schema
from dualtower.training.co_occurrence import co_occurrence_vectors
from dualtower.training.loop import Validate, train
from dualtower.training.objective import Objective
from dualtower.training.seeds import ITEM_INIT, sub_seed
from dualtower.training.windows import Batch
from tests.helpers import tiny_dataset
from tests.training.runs import (
    PAIRS_LEARNED,
    WINDOWS_LEAVE_OUT,
    dat,
    equal,
    loop,
    same,
    small_dataset,
    small_split,
)

BOTH = pytest.mark.parametrize(
    ("model_settings", "training_settings"),
    [WINDOWS_LEAVE_OUT, PAIRS_LEARNED],
    ids=["windows-leave_out", "pairs-learned"],
)


def trained(
    model_settings: dict[str, Any],
    training_settings: dict[str, Any],
    *,
    validate: Validate | None = None,
    log: Log | None = None,
    **changes: Any,
) -> DAT:
    model = dat(**model_settings)
    config = loop(**{**training_settings, **changes})
    train(model, log or small_split().train, config, validate=validate, progress=False)
    return model


@BOTH
def test_one_seed_gives_one_model(model_settings, training_settings):
    first = trained(model_settings, training_settings)
    torch.rand(5)  # what else draws from torch's generator has no influence
    assert same(first, trained(model_settings, training_settings))
    other = trained(model_settings, training_settings, seed=1)
    assert not np.allclose(first.encode_items(), other.encode_items())


@BOTH
def test_the_loss_falls(model_settings, training_settings):
    model = trained(model_settings, training_settings, epochs=12)
    assert model.record is not None
    losses = [epoch.loss for epoch in model.record.epochs]
    assert len(losses) == 12
    assert losses[-1] < 0.8 * losses[0]


def test_the_global_generator_is_left_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    trained(*WINDOWS_LEAVE_OUT)
    assert torch.equal(torch.rand(4), expected)


def test_items_start_from_what_they_share_and_a_little_chance():
    log, still = small_split().train, {"learning_rate": 1e-9, "table_learning_rate": 1e-9}

    def table(item_init: str) -> torch.Tensor:
        settings = {**WINDOWS_LEAVE_OUT[1], **still, "epochs": 1, "item_init": item_init}
        model = trained(WINDOWS_LEAVE_OUT[0], settings, log=log)
        assert model.network is not None
        assert model.network.item_table is not None
        return model.network.item_table.weight

    drawn, started = table("random"), table("co_occurrence")
    seed = sub_seed(loop().seed, ITEM_INIT)
    shared = co_occurrence_vectors(log, drawn.shape[1], seed, progress=False)
    assert (started - 0.3 * drawn).numpy()[1:] == pytest.approx(shared[1:], abs=1e-5)


def test_items_without_ids_have_nothing_to_start():
    model, settings = {**WINDOWS_LEAVE_OUT[0], "item_id": False}, WINDOWS_LEAVE_OUT[1]
    assert same(trained(model, settings), trained(model, settings, item_init="random"))


class KilledError(Exception):
    pass


def killer(epoch: int) -> Validate:
    """A validation that raises in the given epoch, before its checkpoint is written."""
    calls = []

    def validate(model: TwoTower) -> float:
        calls.append(model)
        if len(calls) == epoch:
            raise KilledError
        return metric(model)

    return validate


def metric(model: TwoTower) -> float:
    """A number that depends on the weights alone, and uses torch's generator besides."""
    torch.rand(3)
    return float(np.abs(model.encode_items()).sum())


@BOTH
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_killed_run_goes_on_to_the_same_model(
    model_settings, training_settings, epoch: int, tmp_path: Path
):
    settings = {**training_settings, "epochs": 4, "patience": 9, "item_init": "co_occurrence"}
    whole = trained(model_settings, settings, validate=metric)
    folder = str(tmp_path / "checkpoint")
    with pytest.raises(KilledError):
        trained(model_settings, settings, validate=killer(epoch), checkpoint=folder)
    resumed = trained(model_settings, settings, validate=metric, checkpoint=folder)
    assert same(whole, resumed)
    assert whole.record is not None
    assert resumed.record is not None
    assert [e.metric for e in whole.record.epochs] == [e.metric for e in resumed.record.epochs]
    assert [e.loss for e in whole.record.epochs] == [e.loss for e in resumed.record.epochs]
    assert whole.record.best_epoch == resumed.record.best_epoch


@pytest.mark.parametrize("setting", [{"precision": "bfloat16"}, {"table_weight_decay": 0.5}])
def test_settings_of_the_loop_reach_the_step(setting):
    plain, changed = trained(*WINDOWS_LEAVE_OUT), trained(*WINDOWS_LEAVE_OUT, **setting)
    one, other = plain.encode_items(), changed.encode_items()
    assert not np.allclose(one, other, rtol=0, atol=1e-5)
    assert np.abs(one - other).mean() < 0.2


def test_a_decay_that_would_take_all_of_a_row_is_refused():
    with pytest.raises(ConfigError, match=r"table_weight_decay is 1; .* below 10"):
        trained(*WINDOWS_LEAVE_OUT, table_learning_rate=0.1, table_weight_decay=10.0)


def test_a_finished_run_is_taken_as_it_is(tmp_path: Path):
    settings = {**WINDOWS_LEAVE_OUT[1], "checkpoint": str(tmp_path / "checkpoint")}
    first = trained(WINDOWS_LEAVE_OUT[0], settings)
    again = trained(WINDOWS_LEAVE_OUT[0], settings)
    assert same(first, again)
    assert first.record == again.record


def test_what_is_taken_up_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = loop(**WINDOWS_LEAVE_OUT[1], epochs=2, checkpoint=str(tmp_path / "kept"))
    for _ in range(2):
        train(dat(**WINDOWS_LEAVE_OUT[0]), small_split().train, config, progress=True)
    told = capsys.readouterr().err
    assert told == f"Going on after epoch 2 of 2, from {tmp_path / 'kept'}\n"


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path):
    folder = str(tmp_path / "checkpoint")
    trained(*WINDOWS_LEAVE_OUT, epochs=1, checkpoint=folder)
    with pytest.raises(ConfigError, match=r"another run: training\.seed was 0 and is 1;"):
        trained(*WINDOWS_LEAVE_OUT, epochs=1, seed=1, checkpoint=folder)
    with pytest.raises(ConfigError, match=r"another run: .*model\.history_length was 4 and is 5"):
        trained({"history_length": 5}, WINDOWS_LEAVE_OUT[1], epochs=1, checkpoint=folder)
    other = small_dataset(seed=1).leave_last_out().train
    with pytest.raises(ConfigError, match="another run: its events, features or categories were"):
        trained(*WINDOWS_LEAVE_OUT, epochs=1, log=other, checkpoint=folder)


@pytest.mark.parametrize("change", ["values", "none", "times", "order", "categories"])
def test_a_checkpoint_of_other_features_is_refused(change: str, tmp_path: Path):
    """Same events; without the check another feature's weights are taken, or none fit."""
    folder = str(tmp_path / "checkpoint")
    split = small_split()
    trained(*WINDOWS_LEAVE_OUT, epochs=1, log=split.train, checkpoint=folder)
    dataset = split.train.dataset
    colour = dataset.item_features["colour"]
    other = {
        "values": {"item_features": {"colour": replace(colour, values=colour.values[::-1])}},
        "none": {"item_features": {}},
        "times": {"times": np.arange(dataset.event_count)},
        "order": {"schema": dataset.schema.model_copy(update={"unordered": True})},
        "categories": {"item_categories": np.ones_like(dataset.item_categories)},
    }[change]
    log = replace(split.train, dataset=replace(dataset, **other))
    with pytest.raises(ConfigError, match="another run: its events, features or categories were"):
        trained(*WINDOWS_LEAVE_OUT, epochs=1, log=log, checkpoint=folder)


def test_threads_and_tensorboard_may_differ(tmp_path: Path):
    folder = str(tmp_path / "checkpoint")
    threads = torch.get_num_threads()
    trained(*WINDOWS_LEAVE_OUT, epochs=1, checkpoint=folder)
    trained(*WINDOWS_LEAVE_OUT, epochs=1, checkpoint=folder, threads=threads)


def test_the_number_of_threads_is_set_for_the_training_alone():
    before, meanwhile = torch.get_num_threads(), []
    count = before + 1

    def validate(_: object) -> float:
        meanwhile.append(torch.get_num_threads())
        return 0.0

    trained(*WINDOWS_LEAVE_OUT, epochs=1, threads=count, validate=validate)
    assert meanwhile == [count]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_is_refused(name: str, tmp_path: Path):
    folder = tmp_path / "checkpoint"
    trained(*WINDOWS_LEAVE_OUT, epochs=1, checkpoint=str(folder))
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: damaged"):
        trained(*WINDOWS_LEAVE_OUT, epochs=1, checkpoint=str(folder))


def test_a_folder_of_other_files_is_never_replaced(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="exists and was not written by dualtower"):
        trained(*WINDOWS_LEAVE_OUT, epochs=1, checkpoint=str(tmp_path))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_checkpoint_with_a_file_of_others_is_refused_before_the_first_epoch(tmp_path: Path):
    folder = tmp_path / "checkpoint"
    trained(*WINDOWS_LEAVE_OUT, epochs=1, checkpoint=str(folder))
    (folder / "thesis.txt").write_text("years of work")

    def never(model: TwoTower) -> float:
        raise AssertionError("an epoch was trained")

    with pytest.raises(ConfigError, match=r"holds thesis\.txt, which dualtower did not write"):
        trained(*WINDOWS_LEAVE_OUT, epochs=2, validate=never, checkpoint=str(folder))


def test_the_best_epoch_s_weights_are_kept():
    values = iter([0.1, 0.5, 0.3, 0.5, 0.2, 0.9])
    seen = {}

    def validate(model: TwoTower) -> float:
        seen[len(seen) + 1] = {name: array.copy() for name, array in model.state().items()}
        return next(values)

    model = trained(*WINDOWS_LEAVE_OUT, epochs=6, patience=3, validate=validate)
    assert model.record is not None
    assert len(model.record.epochs) == 5, "three epochs without a better one than the second"
    assert [epoch.metric for epoch in model.record.epochs] == [0.1, 0.5, 0.3, 0.5, 0.2]
    assert model.record.best_epoch == 2
    state = model.state()
    learned = [n for n in state if "tower" in n or n.endswith("table.weight")]
    assert len(learned) > 4
    assert all(equal(state[name], seen[2][name]) for name in learned)
    assert not equal(state["item_table.weight"], seen[5]["item_table.weight"])


def test_without_validation_the_last_epoch_counts():
    model = trained(*WINDOWS_LEAVE_OUT)
    assert model.record is not None
    assert [epoch.epoch for epoch in model.record.epochs] == [1, 2, 3]
    assert [epoch.metric for epoch in model.record.epochs] == [None] * 3
    assert model.record.best_epoch is None
    assert all(epoch.positives_per_second > 0 for epoch in model.record.epochs)


@BOTH
@pytest.mark.parametrize("id_dropout", [0.0, 0.2])
def test_rows_that_no_batch_names_read_the_unknown(model_settings, training_settings, id_dropout):
    """Items 21 … 24 are neither in the log nor in the corpus; query 2 has no event in the view.

    Where ids are hidden the unknown is trained itself; where they never are, it is the mean of the
    trained rows."""
    dataset = tiny_dataset([[1, 2, 3, 4, 5, 6], [7, 8, 9]], item_count=25)
    end = dataset.offsets[1:].copy()
    end[2] = dataset.offsets[2]
    log = Log(dataset, dataset.offsets[:-1], end, np.arange(1, 21))
    model = dat(**{**model_settings, "id_dropout": id_dropout, "lambda_ca": 0.0})
    train(model, log, loop(**training_settings, epochs=4), progress=False)
    after = model.state()
    tables = {"item_table.weight": range(21, 25)}
    if "query_table.weight" in after:
        tables |= {
            "query_table.weight": [2],
            "augmented.queries.weight": [2],
            "augmented.items.weight": range(21, 25),
        }
    for name, untouched in tables.items():
        for row in untouched:
            assert equal(after[name][row], after[name][0])
        only_one = len(after[name]) - len(list(untouched)) == 2
        assert only_one or not equal(after[name][1], after[name][0])
        if id_dropout == 0:
            trained_rows = [row for row in range(1, len(after[name])) if row not in untouched]
            mean = after[name][trained_rows].mean(0)
            np.testing.assert_allclose(after[name][0], mean, rtol=0, atol=1e-6)


def test_an_empty_log():
    dataset = small_dataset()
    log = Log(dataset, dataset.offsets[:-1], dataset.offsets[:-1], np.arange(1, 21))
    with pytest.raises(DataError, match="no events; check filter and split"):
        trained(*WINDOWS_LEAVE_OUT, log=log)


def test_a_loss_that_is_no_number_says_what_to_do():
    model = dat(**WINDOWS_LEAVE_OUT[0])
    config = loop(**{**WINDOWS_LEAVE_OUT[1], "learning_rate": 1e30, "table_learning_rate": 1e30})
    with pytest.raises(DataError, match=r"loss is (nan|inf) at step \d+; lower learning_rate"):
        train(model, small_split().train, config, progress=False)
    assert not model.fitted


@pytest.mark.parametrize("name", ["abacus", "meta", "mps"])
def test_what_is_no_device(name: str):
    with pytest.raises(ConfigError, match=f"'{name}' is no device; use cpu, cuda or auto"):
        trained(*WINDOWS_LEAVE_OUT, device=name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_here():
    with pytest.raises(ConfigError, match="cuda is not available here"):
        trained(*WINDOWS_LEAVE_OUT, device="cuda")


def test_tensorboard_files_appear(tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = trained(*WINDOWS_LEAVE_OUT, tensorboard=str(tmp_path / "board"), validate=metric)
    assert model.record is not None
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert set(events.Tags()["scalars"]) == {
        "training/loss",
        "training/positives_per_second",
        "validation/mrr",
    }
    losses = [(event.step, event.value) for event in events.Scalars("training/loss")]
    expected = [(epoch.epoch, pytest.approx(epoch.loss)) for epoch in model.record.epochs]
    assert losses == expected


def test_without_the_tensorboard_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        trained(*WINDOWS_LEAVE_OUT, tensorboard=str(tmp_path))


def test_a_model_that_dies_is_warned_of_once_in_plain_words():
    """With the last layer's bias far below zero, ReLU switches the towers off for good."""

    class Dead(DAT):
        def build(self, *arguments: Any) -> Any:
            network = super().build(*arguments)
            with torch.no_grad():
                network.item_tower.layers[-1].bias.fill_(-100.0)
            return network

    model = Dead(dat(**PAIRS_LEARNED[0], last_relu=True, linear_path=False).config)
    config = loop(**PAIRS_LEARNED[1])
    with pytest.warns(CollapseWarning, match="100% of the item vectors are zero") as caught:
        train(model, small_split().train, config, progress=False)
    assert len(caught) == 1
    assert model.record is not None
    assert model.record.collapsed


@BOTH
def test_a_healthy_model_is_not_warned_of(model_settings, training_settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        model = trained(model_settings, training_settings)
    assert model.record is not None
    assert not model.record.collapsed


def test_a_log_of_one_item_is_refused():
    log = tiny_dataset([[1, 1], [1]]).everything()
    with pytest.raises(ConfigError, match=r"the corpus has 1 item\(s\); two are needed"):
        trained(*WINDOWS_LEAVE_OUT, log=log)


def test_alignment_without_categories_is_warned_of():
    alone = tiny_dataset([[1, 2, 3], [2, 3, 1]]).everything()
    with pytest.warns(UserWarning, match="lambda_ca is 1, .* have no categories"):
        trained({**WINDOWS_LEAVE_OUT[0], "lambda_ca": 1.0}, WINDOWS_LEAVE_OUT[1], log=alone)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trained({**WINDOWS_LEAVE_OUT[0], "lambda_ca": 1.0}, WINDOWS_LEAVE_OUT[1], epochs=1)


def test_a_model_of_tables_alone_trains_and_goes_on_after_a_kill(tmp_path: Path):
    settings = {
        **{"query_tower": False, "item_vectors": "embedding", "history_form": "mean"},
        **{"embedding_dim": 8, "output_dim": 8, "history_length": 4},
    }
    log = replace(small_split().train, dataset=replace(small_dataset(), item_features={}))

    def fitted(epochs: int, **changes: str) -> TwoTower:
        model = TwoTower(**settings)
        train(model, log, loop(epochs=epochs, **WINDOWS_LEAVE_OUT[1], **changes), progress=False)
        assert model.network is not None
        assert not list(model.network.parameters())
        return model

    whole = fitted(4)
    assert whole.record is not None
    losses = [epoch.loss for epoch in whole.record.epochs]
    assert losses[-1] < losses[0]
    again = fitted(4, checkpoint=str(tmp_path / "checkpoint"))
    assert same(whole, again)
    assert same(whole, fitted(4, checkpoint=str(tmp_path / "checkpoint")))


@pytest.mark.parametrize(
    ("events", "exclude_seen"), [("none", True), ("test", True), ("validation", False)]
)
def test_a_checkpoint_that_was_validated_otherwise_is_refused(
    events: str, exclude_seen: bool, tmp_path: Path
):
    parts = small_split()
    config = loop(**WINDOWS_LEAVE_OUT[1], epochs=1, checkpoint=str(tmp_path / "checkpoint"))

    views = {"none": None, "validation": parts.validation, "test": parts.test}

    def fitted(events: str, exclude_seen: bool) -> None:
        fit(
            dat(**WINDOWS_LEAVE_OUT[0]),
            parts.train,
            validation=views[events],
            training=config,
            evaluation=EvaluationConfig(exclude_seen=exclude_seen),
            progress=False,
        )

    fitted("validation", True)
    fitted("validation", True)
    with pytest.raises(ConfigError, match="another run: it was validated on other events"):
        fitted(events, exclude_seen)


def test_batches_are_small_where_they_are_asked_to_be(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    step = Objective.__call__

    def counted(self: Objective, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(batch.targets))
        return step(self, batch)

    monkeypatch.setattr(Objective, "__call__", counted)
    trained({"history_length": 100}, {"batch_size": 3, "negative_count": 8}, epochs=1)
    assert max(sizes) <= 6


def test_the_cosine_schedule_starts_at_the_peak_and_ends_near_zero(monkeypatch):
    rates = []
    update = EmbeddingTable.update

    def watched(self: EmbeddingTable, rate: float, **options: float) -> None:
        rates.append(rate)
        update(self, rate, **options)

    monkeypatch.setattr(EmbeddingTable, "update", watched)
    trained({**WINDOWS_LEAVE_OUT[0], "id_dropout": 0.0}, WINDOWS_LEAVE_OUT[1])
    assert rates[0] == loop().table_learning_rate
    assert sorted(rates, reverse=True) == rates
    assert rates[-1] < 0.05 * rates[0]


@BOTH
def test_weights_reach_the_loss(model_settings, training_settings):
    split = small_split()
    dataset = replace(split.train.dataset, weights=np.ones(192, dtype=np.float32))
    even = replace(split.train, dataset=dataset)
    plain = trained(model_settings, training_settings)
    model = trained(model_settings, training_settings, log=even)
    assert np.allclose(model.encode_items(), plain.encode_items(), atol=1e-4)
    weights = np.random.default_rng(0).random(192).astype(np.float32)
    uneven = replace(split.train, dataset=replace(dataset, weights=weights))
    model = trained(model_settings, training_settings, log=uneven)
    assert not np.allclose(model.encode_items(), plain.encode_items(), atol=1e-2)


def test_weights_that_are_all_zero_are_refused():
    split = small_split()
    weights = np.zeros(192, dtype=np.float32)
    weights[split.test.start[1:]] = 1.0
    dataset = replace(split.train.dataset, weights=weights, schema=Schema(weight="stars"))
    with pytest.raises(DataError, match=r"'stars' weighs every training event 0"):
        trained(*WINDOWS_LEAVE_OUT, log=replace(split.train, dataset=dataset))


class Largest(TorchDispatchMode):
    """Remembers the most elements that a tensor had that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_a_basket_of_20_000_events_needs_no_matrix_of_its_square():
    items = np.random.default_rng(0).integers(1, 30, 20_010)
    times = np.repeat(np.arange(11), [1] * 5 + [20_000] + [1] * 5)
    plain = tiny_dataset([items.tolist(), [1, 2, 3]], item_count=30)
    log = replace(plain, times=np.concatenate([times, np.arange(3)])).everything()
    settings = {"batch_size": 4_000, "negative_count": 8, "epochs": 1}
    with Largest() as largest:
        trained({"history_length": 500, "history_pools": 1}, settings, log=log)
    assert largest.elements <= 20_000**2 / 100
