import pytest

from benchmarks import training
from benchmarks.synthetic import amazon_books_shape
from dualtower.config import Precision, Preset, TrainingConfig
from dualtower.data.dataset import Log
from dualtower.models.dat import DAT


@pytest.mark.filterwarnings("ignore::dualtower.errors.CollapseWarning")
@pytest.mark.parametrize(
    ("preset", "precision"),
    [("paper", "float32"), ("paper", "bfloat16"), ("recommended", "float32")],
)
def test_a_turn_trains_the_preset_on_the_events_asked_for(
    preset: Preset, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[DAT, int, str]] = []
    product = training.train

    def train(model: DAT, log: Log, config: TrainingConfig, **options: object) -> None:
        product(model, log, config, **options)
        trained.append((model, log.event_count, config.precision))

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "TURN_POSITIVES", 200)
    dataset = amazon_books_shape(queries=300, items=50, events=3000)
    turn = training.dualtower_turns(training.Side(preset, 32, precision), dataset, "cpu")
    assert turn() > 0
    ((model, events, used),) = trained
    assert used == precision
    assert model.config.preset == preset
    assert 150 < events <= 200
    assert model.fitted
