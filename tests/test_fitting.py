"""`fit`: one verb for every model, with validation by any metric."""

import numpy as np
import pytest

import dualtower as dt
from dualtower.config import EvaluationConfig, TrainingConfig
from dualtower.data.columns import QueryBatch
from dualtower.data.dataset import Log, Split
from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.evaluate import evaluate
from dualtower.models.base import Model
from dualtower.models.popularity import Popularity
from tests.helpers import leave_last_out_by_hand, tiny_dataset
from tests.training.runs import WINDOWS_LEAVE_OUT, dat, loop, small_split


@pytest.fixture(scope="module")
def split() -> Split:
    return small_split()


def test_a_closed_form_is_solved_and_the_model_itself_comes_back(split: Split):
    model = Popularity()
    assert dt.fit(model, split.train) is model
    assert model.fitted


def test_the_training_settings_are_those_of_the_model_s_preset(
    split: Split, monkeypatch: pytest.MonkeyPatch
):
    given = []
    monkeypatch.setattr(
        "dualtower.fitting.train", lambda model, log, config, **_: given.append(config)
    )
    dt.fit(dt.DAT(), split.train)
    dt.fit(dt.DAT(preset="paper"), split.train)
    assert given == [TrainingConfig.of("recommended"), TrainingConfig.of("paper")]


@pytest.mark.parametrize("name", ["mrr", "hit_rate@3", "recall@7", "ndcg@2"])
def test_the_metric_is_that_of_the_evaluation(split: Split, name: str):
    settings = loop(**WINDOWS_LEAVE_OUT[1], validation_metric=name, patience=9)
    model = dat(**WINDOWS_LEAVE_OUT[0], augmented="none")
    dt.fit(model, split.train, validation=split.validation, training=settings, progress=False)
    assert model.record is not None
    assert model.record.metric_name == name
    values = [epoch.metric for epoch in model.record.epochs]
    assert len(values) == 3
    assert model.record.best_epoch == int(np.argmax(values)) + 1
    cutoff = int(name.partition("@")[2] or 10)
    config = dt.RunConfig.model_validate(
        {"data": {"interactions": "x"}, "evaluation": {"cutoffs": (cutoff,)}}
    ).evaluation
    result = evaluate(model, split.validation, config=config, progress=False)
    assert result.metrics[name] == pytest.approx(max(values))


@pytest.mark.parametrize(
    "name",
    ["map", "mrr@5", "hit_rate", "hit_rate@0", "ndcg@x", "recall@-1", "", "hit_rate@²", "ndcg@010"],
)
def test_what_is_no_metric_is_named_with_what_is(split: Split, name: str):
    with pytest.raises(ConfigError, match=r"validation_metric: .* is not a metric; use mrr, hit_r"):
        dt.fit(
            dat(),
            split.train,
            validation=split.validation,
            training=loop(validation_metric=name),
            progress=False,
        )


def test_repeats_count_in_validation_where_seen_items_are_kept():
    """Every validation target is in its history: all would be dropped by default."""
    split = leave_last_out_by_hand(tiny_dataset([[1, 2, 3, 1, 2], [2, 3, 1, 3, 1]]))
    # With this rate the ranks are the same before and after a_v is made exact.
    settings = loop(batch_size=4, negative_count=2, epochs=1, table_learning_rate=0.06)
    with pytest.raises(DataError, match=r"no query has a target to rank.*exclude_seen = false"):
        dt.fit(dat(), split.train, validation=split.validation, training=settings, progress=False)
    kept = EvaluationConfig(exclude_seen=False)
    model = dt.fit(
        dat(),
        split.train,
        validation=split.validation,
        training=settings,
        evaluation=kept,
        progress=False,
    )
    assert model.record is not None
    found = evaluate(model, split.validation, config=kept, progress=False)
    assert model.record.epochs[0].metric == pytest.approx(found.metrics["mrr"])


def test_an_empty_validation_is_none(split: Split):
    nothing = Log(split.train.dataset, split.test.end, split.test.end, split.test.corpus)
    model = dat(**WINDOWS_LEAVE_OUT[0])
    settings = loop(**{**WINDOWS_LEAVE_OUT[1], "epochs": 1})
    dt.fit(model, split.train, validation=nothing, training=settings, progress=False)
    assert model.record is not None
    assert model.record.epochs[0].metric is None


@pytest.mark.parametrize("model", [dat(), Popularity()])
def test_an_empty_log(split: Split, model: Model):
    empty = Log(split.train.dataset, split.test.end, split.test.end, split.test.corpus)
    with pytest.raises(DataError, match="the training log has no events; check filter and split"):
        dt.fit(model, empty, progress=False)


def test_a_model_that_can_be_neither_solved_nor_trained(split: Split):
    class Stub(Popularity):
        pass

    class Neither(Model):
        name = "neither"
        fitted = False
        from_state = Stub.from_state

        def score(self, batch: QueryBatch):
            raise NotImplementedError

        def state(self):
            return {}

    with pytest.raises(ConfigError, match="Neither has neither a solve nor a training loss"):
        dt.fit(Neither(), split.train)


def test_the_paper_s_preset_warns_when_it_collapses(split: Split):
    """To the letter it dies or not, by chance and data; either way the record tells which."""
    model = dt.DAT(preset="paper", embedding_dim=8, output_dim=8, augmented_dim=8)
    settings = TrainingConfig.of("paper", epochs=3, learning_rate=0.3, device="cpu")
    with pytest.warns(dt.CollapseWarning, match=r"Eq\. 1 to the letter.*preset = \"recommended\""):
        dt.fit(model, split.train, training=settings, progress=False)
    assert model.record is not None
    assert model.record.collapsed


@pytest.mark.parametrize("shown", [False, True])
def test_validation_shows_the_history_that_training_shows(
    split: Split, monkeypatch: pytest.MonkeyPatch, shown: bool
):
    given = []

    def watched(model: Model, log: Log, metric: str, *, config: EvaluationConfig, **_: int):
        given.append(config)
        return 0.0

    monkeypatch.setattr("dualtower.fitting.validation_metric", watched)
    training = loop(**WINDOWS_LEAVE_OUT[1], epochs=1, same_time_history=shown)
    dt.fit(dat(), split.train, validation=split.validation, training=training, progress=False)
    assert given == [EvaluationConfig(same_time_history=shown)]
