"""What differs on a GPU: skipped where there is none, so run by hand on a machine that has one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from dualtower.config import TrainingConfig
from dualtower.data.dataset import Dataset
from dualtower.evaluation.ranking import rank_targets
from dualtower.fitting import fit
from dualtower.models import MODELS, query_windows
from dualtower.models.query_windows import QueryWindows
from dualtower.models.record import EpochRecord
from dualtower.models.trained import TrainedModel
from dualtower.retrieval.bundle import Bundle
from dualtower.training.loop import Validate, _examples, train
from dualtower.training.objective import Objective
from tests.helpers import leave_last_out_by_hand, tiny_dataset
from tests.models.test_contract import SETTINGS, TRAINING, checkerboard

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TRAINED = [name for name, kind in MODELS.items() if issubclass(kind, TrainedModel)]
STILL = {"embedding_dropout": 0.0, "attention_dropout": 0.0, "id_dropout": 0.0}
ON_CUDA = TRAINING.model_copy(update={"device": "cuda"})


def steps(
    name: str,
    settings: dict[str, Any],
    config: TrainingConfig,
    device: torch.device,
    dataset: Dataset | None = None,
) -> dict[str, torch.Tensor]:
    """Losses, gradients and state of three steps on `device`, from weights drawn on the CPU."""
    log = (dataset or checkerboard()).everything()
    space, features = log.dataset.space(), log.dataset.item_features
    model = MODELS[name](**{**SETTINGS[name], **STILL, **settings})
    torch.manual_seed(0)
    start = model.build(space, features, CPU).state_dict()
    network = model.build(space, features, device)
    network.load_state_dict(start)
    network.train()
    objective = Objective(network, config, log, seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, fused=True)
    found = {}
    for number, batch in zip(range(3), _examples(model, log, config).epoch(0), strict=False):
        optimizer.zero_grad()
        loss, queries = objective(batch)
        loss.backward()
        for part, parameter in network.named_parameters():
            if parameter.grad is not None:
                found[f"{number}/{part}"] = parameter.grad.clone()
        optimizer.step()
        for table in network.tables():
            table.update(0.01, weight_decay=0.1)
        objective.observe(batch, queries)
        found[f"{number}/loss"] = loss.detach()
    network.settle()
    return {key: value.cpu() for key, value in (found | network.state_dict()).items()}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in TRAINED),
        ("dat", {"augmented": "learned", "lambda_ca": 0.5, "ca_momentum": 0.9}),
    ],
)
def test_steps_are_those_of_the_cpu(name: str, settings: dict[str, Any]):
    """With the batch's own negatives and without dropout: a GPU draws other numbers."""
    config = TRAINING.for_model(name).model_copy(update={"negatives": "in_batch"})
    on_cpu, on_cuda = (steps(name, settings, config, device) for device in (CPU, CUDA))
    assert_close(on_cuda, on_cpu, rtol=1e-3, atol=1e-5)


def mixed_lengths() -> Dataset:
    """Logs of 2 to 40 events, a long one among any ten, of 16 items."""
    lengths = [2, 3, 40, 2, 5, 9, 3, 20] * 3
    logs = [
        [1 + (5 * query + 3 * event) % 16 for event in range(length)]
        for query, length in enumerate(lengths)
    ]
    return tiny_dataset(logs, item_count=17)


def test_windows_too_large_for_one_part_are_divided_there(monkeypatch: pytest.MonkeyPatch):
    config = TRAINING.for_model("dat").model_copy(update={"negatives": "in_batch"})
    on_cpu = steps("dat", {}, config, CPU, mixed_lengths())
    parts: list[int] = []
    divided = QueryWindows._divided

    def noted(windows: QueryWindows) -> list[tuple[torch.Tensor, QueryWindows]]:
        found = divided(windows)
        parts.append(len(found))
        return found

    monkeypatch.setattr(query_windows, "_FEW_ON_A_GPU", 0)
    monkeypatch.setattr(QueryWindows, "_divided", noted)
    on_cuda = steps("dat", {}, config, CUDA, mixed_lengths())
    assert max(parts) > 1
    assert_close(on_cuda, on_cpu, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_fitted_there_it_finds_the_right_items_here(name: str, tmp_path: Path):
    split = leave_last_out_by_hand(checkerboard())
    model = MODELS[name](**SETTINGS[name])
    fit(model, split.train_and_validation, training=ON_CUDA, progress=False)
    queries = split.test.queries()
    ranks = rank_targets(model, split.test, queries, progress=False).ranks
    assert set(ranks.tolist()) <= {1.0, 1.5, 2.0}
    bundle = Bundle.build(model, split.train_and_validation, progress=False)
    bundle.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle").model
    batch = split.test.requests(queries)
    assert loaded.score(batch) == pytest.approx(model.score(batch), rel=1e-3, abs=1e-4)


def test_a_run_that_was_cut_off_goes_on_there(tmp_path: Path):
    log = checkerboard().everything()
    config = ON_CUDA.model_copy(update={"epochs": 4, "checkpoint": str(tmp_path / "cut")})
    seen: list[float] = []

    def cut_off_in_the_third_epoch(model: TrainedModel) -> float:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(1.0 + len(seen))
        return seen[-1]

    def epochs(config: TrainingConfig, validate: Validate) -> list[EpochRecord]:
        model = MODELS["dat"](**SETTINGS["dat"])
        train(model, log, config, validate=validate, progress=False)
        return model.record.epochs

    with pytest.raises(KeyboardInterrupt):
        epochs(config, cut_off_in_the_third_epoch)
    resumed = epochs(config, lambda model: 3.0)
    whole = epochs(config.model_copy(update={"checkpoint": None}), lambda model: 3.0)
    assert [epoch.metric for epoch in resumed] == [1.0, 2.0, 3.0, 3.0]
    losses = [[epoch.loss for epoch in run] for run in (resumed, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_bfloat16_learns_there_too():
    split = leave_last_out_by_hand(checkerboard())
    model = MODELS["two_tower"](**SETTINGS["two_tower"])
    config = ON_CUDA.model_copy(update={"precision": "bfloat16"})
    fit(model, split.train_and_validation, training=config, progress=False)
    assert model.network.item_tower.product_type == torch.bfloat16
    ranks = rank_targets(model, split.test, split.test.queries(), progress=False).ranks
    assert set(ranks.tolist()) <= {1.0, 1.5, 2.0}
