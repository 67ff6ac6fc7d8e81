import pytest

from benchmarks import training
from benchmarks.synthetic import amazon_books_shape
from dualtower.config import Preset
from dualtower.data.dataset import Log
from dualtower.models.dat import DAT


@pytest.mark.filterwarnings("ignore::dualtower.errors.CollapseWarning")
@pytest.mark.parametrize("preset", ["paper", "recommended"])
def test_a_turn_trains_the_preset_on_the_events_asked_for(
    preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[DAT, int]] = []
    product = training.train

    def train(model: DAT, log: Log, *arguments: object, **options: object) -> None:
        product(model, log, *arguments, **options)
        trained.append((model, log.event_count))

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "TURN_POSITIVES", 200)
    dataset = amazon_books_shape(queries=300, items=50, events=3000)
    turn = training.dualtower_turns(preset, 32, dataset)
    assert turn() > 0
    ((model, events),) = trained
    assert model.config.preset == preset
    assert 150 < events <= 200
    assert model.fitted
