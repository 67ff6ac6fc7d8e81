"""The validated configuration of a run: TOML on disk, pydantic in code."""

import glob
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dualtower.errors import ConfigError
from dualtower.files import read_toml
from dualtower.presets import (
    MODEL_DEFAULTS,
    MODEL_PRESETS,
    TRAINING_DEFAULTS,
    TRAINING_PRESETS,
)
from dualtower.schema import Schema

Preset = Literal["recommended", "paper"]
Precision = Literal["float32", "bfloat16"]
T = TypeVar("T", bound=BaseModel)
_OUTPUT_DIM = 32


class Settings(BaseModel):
    """Base of all parts: unknown fields are errors, values never change after validation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class DataConfig(Settings):
    """Where the tables are and where the encoded dataset goes."""

    interactions: str
    """File, folder or glob of Parquet or CSV: who did what, when."""
    items: str | None = None
    """File, folder or glob of the items table."""
    queries: str | None = None
    """File, folder or glob of the queries (users) table."""
    dataset: str = "dataset"
    """Folder for the encoded dataset that `prepare` writes, which nothing else may be in."""


class FilterConfig(Settings):
    """Which events are kept."""

    min_query_events: int = Field(default=1, ge=1)
    """k-core: queries with fewer events are dropped, to a fixed point with `min_item_events`."""
    min_item_events: int = Field(default=1, ge=1)
    """k-core: items with fewer events are dropped, to a fixed point with `min_query_events`."""
    duplicates: Literal["keep", "first", "last"] = "keep"
    """What happens to repeats of a query-item pair: all kept, or only the first or last event."""


_TIME_SPLIT = ("test_start", "validation_start", "test_days", "validation_days")


class SplitConfig(Settings):
    """How events are divided into training, validation and test."""

    by: Literal["leave_last_out", "time", "column"] = "leave_last_out"
    """Each query's last event (validation: last but one); by time; or the schema's split column."""
    test_start: str | None = None
    """By time: ISO date or datetime (UTC) at which the test period begins."""
    validation_start: str | None = None
    """By time: ISO date or datetime (UTC) at which the validation period begins."""
    test_days: int | None = Field(default=None, ge=1)
    """By time, instead of `test_start`: the test period is the last so many days."""
    validation_days: int | None = Field(default=None, ge=1)
    """By time, instead of `validation_start`: so many days before the test period."""
    validation_share: float | None = Field(default=None, gt=0, lt=1)
    """By column, where the column marks no validation: this share of each query's training events,
    the last ones, rounded up, but never all."""

    @field_validator("test_start", "validation_start", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """TOML has dates and times of its own: without quotes they mean the same."""
        return value.isoformat() if isinstance(value, date) else value

    @model_validator(mode="after")
    def _all_are_read(self) -> "SplitConfig":
        """A setting of another kind of split would do nothing."""
        wanted = dict.fromkeys(_TIME_SPLIT, "time") | {"validation_share": "column"}
        for field, by in wanted.items():
            if getattr(self, field) is not None and self.by != by:
                raise ValueError(
                    f'{field} is for by = "{by}" and does nothing with by = "{self.by}"; '
                    f'set by = "{by}" or leave {field} out'
                )
        return self


class ModelConfig(Settings):
    """The models that learn by steps. Fields left out come from the preset."""

    name: Literal["dat", "two_tower", "fm", "youtube_dnn", "mind", "sasrec"] = "dat"
    """The Dual Augmented Two-tower model; the same towers without augmented vectors; a
    factorization machine, whose `output_dim` factors and bias the index holds (FM); the mean of
    the history through one tower (YouTubeDNN); several interests by dynamic routing (MIND); or
    causal self-attention (SASRec)."""
    preset: Preset = "recommended"
    """`recommended`: what works best; `paper`: the equations to the letter."""
    embedding_dim: int = Field(default=64, ge=1, le=4096)
    """K: length of every feature embedding."""
    output_dim: int = Field(default=_OUTPUT_DIM, ge=1, le=4096)
    """Length of p_u and p_v, the vectors that the index holds."""
    hidden_dims: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = (256, 128)
    """Widths of the tower's layers before the last one; empty makes each tower one linear map."""
    last_relu: bool = False
    """ReLU on the tower's last layer (Eq. 1 to the letter) instead of a linear one."""
    linear_path: bool = True
    """A linear map from the tower's input to its output, added beside the MLP."""
    combine: Literal["sum", "concatenate"] = "sum"
    """How a side's feature embeddings enter its tower."""
    query_id: bool = False
    """Embed the query's id as a feature."""
    item_id: bool = True
    """Embed the item's id as a feature."""
    history: bool = True
    """Feed the query tower the query's past items."""
    history_form: Literal["pools", "mean", "attention"] = "pools"
    """The last item and sums with learned weights by lag; the mean; or causal self-attention."""
    history_length: int = Field(default=50, ge=1, le=10_000)
    """How many of the latest events the history feature and the decayed a_u see."""
    history_pools: int = Field(default=4, ge=1, le=64)
    """How many pooled sums with learned decay by lag the history feature has (`pools`)."""
    attention_blocks: int = Field(default=2, ge=1, le=32)
    """How many blocks of self-attention follow each other (`attention`)."""
    attention_heads: int = Field(default=1, ge=1, le=64)
    """Heads of each block; a divisor of the item embedding's length (`attention`)."""
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on the attention weights and on what each block adds (`attention`)."""
    query_tower: bool = True
    """An MLP from the query's inputs to p_u; without it p_u is their sum."""
    item_vectors: Literal["tower", "embedding", "table"] = "tower"
    """p_v by the item tower; the item embedding itself; or a table of its own, as the weights of a
    softmax over the items are."""
    normalise: bool = True
    """Scale p_u and p_v to unit length, so that scores are cosines; else plain inner products."""
    interests: int = Field(default=4, ge=1, le=64)
    """K: the most interests of a query; one with n events has log2 n, at least one (`mind`)."""
    routing_iterations: int = Field(default=3, ge=1, le=20)
    """How often the routing of events to interests is computed anew (`mind`)."""
    label_attention_power: Annotated[float, Field(ge=0, le=8)] | Literal["hard"] = 2.0
    """p of label-aware attention: 0 trains all interests of a query with each target, more prefers
    the one nearest to it, and with `"hard"` only that one is trained (`mind`)."""
    augmented: Literal["leave_out", "learned", "none"] = "leave_out"
    """AMM: closed form without the example itself; the paper's tables with mimic loss; or off."""
    augmented_query: bool = True
    """Whether the query tower gets a_u."""
    augmented_item: bool = True
    """Whether the item tower gets a_v."""
    augmented_dim: int = Field(default=32, ge=1, le=4096)
    """Length of a_u and a_v. Other than `output_dim`, p is mapped to it by a fixed projection."""
    augmented_fade: float = Field(default=0.6, ge=0, le=1)
    """Between epochs the sums behind a_v shrink to this share (augmented = "leave_out")."""
    lambda_u: float = Field(default=0.5, ge=0)
    """Weight of the mimic loss of a_u in Eq. 5 (augmented = "learned")."""
    lambda_v: float = Field(default=0.5, ge=0)
    """Weight of the mimic loss of a_v in Eq. 5 (augmented = "learned")."""
    lambda_ca: float = Field(default=0.0, ge=0)
    """Weight of the category alignment loss in Eq. 5; 0 switches CAL off."""
    ca_items: Literal["candidates", "positives"] = "candidates"
    """Whose covariances CAL aligns: all item vectors that a batch scores, or its positives'."""
    ca_momentum: float = Field(default=0.0, ge=0, lt=1)
    """How much of a category's covariance over the epoch's earlier batches counts beside this
    batch's; 0: each batch by itself, as in the paper."""
    embedding_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on the embeddings of ids and features, before history pools them."""
    history_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the history's events blanked in training: zeros stand in their place, and the rest
    is not scaled up."""
    layer_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout between the towers' layers."""
    id_dropout: float = Field(default=0.05, ge=0, lt=1)
    """Share of ids and values replaced by the unknown row in training, so that row 0 is trained."""

    @classmethod
    def of(cls, name: str, preset: Preset = "recommended", **overrides: Any) -> Self:
        """The preset's values for model `name`, with `overrides` on top.

        Raises:
            ConfigError: no such preset, or an override is unknown or out of range.
        """
        values = _model_values(name, preset, overrides)
        return validate(cls, {**values, "name": name, "preset": preset, **overrides}, "model")

    @staticmethod
    def fixed_fields(name: str) -> frozenset[str]:
        """The fields that a model fixes by its nature; none of a model that is not trained."""
        return frozenset(MODEL_DEFAULTS.get(name, {}))

    def for_model(self, name: str) -> Self:
        """The same settings for another trained model.

        What either model fixes by its nature (two_tower: no augmented vectors) is taken from the
        other model's own preset; every other setting stays as it is here. Where the item embedding
        is p_v itself, it becomes as long as p_v is here.

        Raises:
            ConfigError: there is no such trained model.
        """
        if name == self.name:
            return self
        if name not in MODEL_DEFAULTS:
            known = ", ".join(MODEL_DEFAULTS)
            raise ConfigError(f"model: {name!r} given; it must be one of {known}")
        preset = type(self).of(name, self.preset)
        fixed = {"name", *MODEL_DEFAULTS[self.name], *MODEL_DEFAULTS[name]}
        values = {field: getattr(preset, field) for field in fixed}
        if preset.item_vectors == "embedding":
            values["embedding_dim"] = self.output_dim
        elif self.item_vectors == "embedding":
            values["embedding_dim"] = preset.embedding_dim
        return validate(type(self), {**self.model_dump(), **values}, "model")


class TrainingConfig(Settings):
    """The one training loop. Every field has a default from the preset."""

    epochs: int = Field(default=8, ge=1)
    """Passes over the training events; early stopping may end sooner."""
    examples: Literal["windows", "pairs"] = "windows"
    """Windows of ordered logs with history, or query-item pairs without (the paper's setting)."""
    same_time_history: bool = False
    """Whether earlier events of the very same time (one basket) count as a target's history."""
    batch_size: int = Field(default=1024, ge=1, le=1_000_000)
    """Positives per step."""
    loss: Literal["sampled_softmax", "binary_cross_entropy"] = "sampled_softmax"
    """Softmax over sampled candidates, or Eq. 4."""
    negatives: Literal["shared", "in_batch", "mixed", "per_positive", "full"] = "mixed"
    """One uniform pool for the batch; the batch's own targets; both; S uniform per positive; or all
    of the corpus (the full softmax)."""
    negative_count: int = Field(default=512, ge=1, le=1_000_000)
    """Size of the shared pool, or S per positive."""
    logq_correction: Literal["none", "standard", "refined"] = "standard"
    """Subtract the log of each candidate's inclusion probability from its logit (softmax only); or,
    refined, from those of the negatives alone, since the positive is always in the denominator."""
    temperature: float = Field(default=0.1, gt=0)
    """Cosine scores are divided by it before the loss; plain inner products (`normalise = false`)
    learn a scale of their own and are not."""
    item_init: Literal["random", "co_occurrence"] = "co_occurrence"
    """What the embedding of the item ids, if there is one, starts from: random rows, or the leading
    eigenvectors of how often items share a query, with a little randomness."""
    learning_rate: float = Field(default=0.006, gt=0)
    """Peak learning rate of the towers."""
    table_learning_rate: float = Field(default=0.02, gt=0)
    """Peak learning rate of the embedding tables. A row moves only in steps that name it, without
    the long tail of momentum that dense Adam gives a rare row, so it wants larger steps."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Cosine decay to zero over all steps, or constant."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay on the towers."""
    table_weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay on the rows of all tables (learned a_u and a_v too), in the steps that
    name them."""
    validation_metric: str = "mrr"
    """The metric watched after each epoch: mrr, hit_rate@k, recall@k or ndcg@k."""
    validation_queries: int = Field(default=10_000, ge=1)
    """At most so many validation queries are ranked after an epoch (a fixed random choice)."""
    patience: int = Field(default=3, ge=1)
    """Epochs without a better validation metric before training stops."""
    seed: int = Field(default=0, ge=0)
    """The one seed; split by purpose: initial weights, order, negatives, dropout and more."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads; PyTorch's choice without it. 1 where the machine has other work."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    precision: Precision = "float32"
    """What the layers of the towers are computed in while training (the linear path, attention,
    scores, tables and all that is kept stay float32). bfloat16 saves time with wide layers on a
    CPU that has it (AVX512-BF16 or AMX) and costs time on others; fm and sasrec have no such
    layers."""
    checkpoint: str | None = None
    """Folder for a checkpoint after each epoch; a run that finds one there goes on from it."""
    tensorboard: str | None = None
    """Folder for TensorBoard events (needs the tensorboard package)."""

    @classmethod
    def of(cls, preset: Preset = "recommended", **overrides: Any) -> Self:
        """The preset's values, with `overrides` on top.

        Raises:
            ConfigError: no such preset, or an override is unknown or out of range.
        """
        return validate(cls, {**_of_preset(TRAINING_PRESETS, preset), **overrides}, "training")

    def for_model(self, name: str) -> Self:
        """The same settings, but for what model `name` needs by its nature (sasrec: windows)."""
        return self.model_copy(update=TRAINING_DEFAULTS.get(name, {}))


class EvaluationConfig(Settings):
    """How models are compared."""

    cutoffs: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(
        default=(10, 50, 100), min_length=1
    )
    """The k of hit_rate@k, recall@k, ndcg@k and coverage@k."""
    exclude_seen: bool = True
    """Leave items of the query's history out of the ranking."""
    same_time_history: bool = False
    """Whether earlier events of a target's very time count as its history; a run takes the value of
    `training.same_time_history`."""
    cold_events: int = Field(default=5, ge=1)
    """Queries and items with fewer training events than this are cold."""
    baselines: tuple[
        Literal[
            "popularity",
            "item_knn",
            "ease",
            "wals",
            "two_tower",
            "fm",
            "youtube_dnn",
            "mind",
            "sasrec",
        ],
        ...,
    ] = ("popularity", "item_knn")
    """Models fitted and evaluated beside the main one."""


class IndexConfig(Settings):
    """The nearest-neighbour index."""

    kind: Literal["auto", "flat", "ivf", "hnsw", "compressed"] = "auto"
    """Which index; auto chooses by the corpus's size."""
    recall_queries: int = Field(default=1_000, ge=1)
    """How many queries the index's recall against exact search is measured on at build."""
    recall_at: int = Field(default=100, ge=1)
    """The k of that recall."""


class BundleConfig(Settings):
    """Where the trained model goes."""

    path: str = "bundle"
    """Folder of the bundle, which nothing else may be in."""


class RunConfig(Settings):
    """One run, from tables to bundle."""

    data: DataConfig
    columns: Schema = Schema()
    """The user's column names and features."""
    filter: FilterConfig = FilterConfig()
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    index: IndexConfig = IndexConfig()
    bundle: BundleConfig = BundleConfig()

    @model_validator(mode="after")
    def _split_column_is_read(self) -> Self:
        """Beside another split the column's marks would do nothing but put the events in order."""
        if self.columns.split is not None and self.split.by != "column":
            raise ValueError(
                f"columns.split names the column {self.columns.split!r}, whose marks split.by = "
                f'"{self.split.by}" does not follow: it would train on events marked test; set '
                'split.by = "column" or leave columns.split out'
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _evaluate_as_trained(cls, values: Any) -> Any:
        """What counts as history in training does in evaluation, unless it is said otherwise."""
        if not isinstance(values, dict):
            return values
        training, evaluation = values.get("training", {}), values.get("evaluation", {})
        if isinstance(training, TrainingConfig):
            training = training.model_dump(include={"same_time_history"})
        if not (isinstance(training, dict) and isinstance(evaluation, dict)):
            return values
        taken = {name: training[name] for name in ("same_time_history",) if name in training}
        return {**values, "evaluation": {**taken, **evaluation}}

    @model_validator(mode="before")
    @classmethod
    def _fill_presets(cls, values: Any) -> Any:
        """Fields that the user leaves out come from the preset that the model table names."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        model, training = values.get("model", {}), values.get("training", {})
        if isinstance(model, ModelConfig):
            name: Any = model.name
            preset: Any = model.preset
        elif isinstance(model, dict):
            name, preset = model.get("name", "dat"), model.get("preset", "recommended")
            if preset in tuple(MODEL_PRESETS) and name in tuple(MODEL_DEFAULTS):
                values["model"] = {**_model_values(name, preset, model), **model}
        else:
            return values
        if preset in tuple(TRAINING_PRESETS) and isinstance(training, dict):
            needed = TRAINING_DEFAULTS.get(name, {}) if isinstance(name, str) else {}
            values["training"] = {**TRAINING_PRESETS[preset], **needed, **training}
        return values


def _of_preset(presets: Mapping[str, dict[str, Any]], preset: str) -> dict[str, Any]:
    if preset not in presets:
        raise ConfigError(f"preset: {preset!r} given; it must be one of {', '.join(presets)}")
    return presets[preset]


def _model_values(name: str, preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What preset and model set, for a model of which `given` is given."""
    values = {**_of_preset(MODEL_PRESETS, preset), **MODEL_DEFAULTS.get(name, {})}
    if {**values, **given}.get("item_vectors") == "embedding":  # then it is as long as p_v
        values["embedding_dim"] = given.get("output_dim", _OUTPUT_DIM)
    return values


def validate(kind: type[T], values: Any, where: str) -> T:
    """Validate `values` as `kind`; all faults in one message, each with field and remedy.

    Raises:
        ConfigError: a field is missing, unknown, of the wrong type or out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            field = ".".join(str(part) for part in fault["loc"])
            message = fault["msg"].removeprefix("Value error, ")
            if not fault["loc"]:  # what was given is the whole configuration
                lines.append(f"  {message}")
            elif fault["type"] == "extra_forbidden":
                lines.append(f"  {field}: no such setting")
            else:
                lines.append(f"  {field}: {message} (given: {fault['input']!r})")
        raise ConfigError(f"{where} is not valid:\n" + "\n".join(lines)) from None


def load_config(path: str | Path) -> RunConfig:
    """Read a run's TOML configuration.

    Relative paths in it are relative to the file's folder and come back absolute.

    Raises:
        ConfigError: no such file, not TOML, or a setting that is not valid.
    """
    file = Path(path)
    values = read_toml(file, "no such file; `dualtower init TABLES` writes one")
    config = _absolute(validate(RunConfig, values, str(file)), file.resolve().parent)
    check_apart(config)
    return config


def check_apart(config: RunConfig) -> None:
    """Check that no folder that a run replaces as a whole holds another that it writes.

    Args:
        config: its relative paths are taken as seen from the working directory.

    Raises:
        ConfigError: one of them would take with it what else is written there.
    """
    replaced = {
        "data.dataset": config.data.dataset,
        "bundle.path": config.bundle.path,
        "training.checkpoint": config.training.checkpoint,
    }
    written = {**replaced, "training.tensorboard": config.training.tensorboard}
    for outer, folder in replaced.items():
        for inner, other in written.items():
            if inner == outer or folder is None or other is None:
                continue
            if Path(other).resolve().is_relative_to(Path(folder).resolve()):
                raise ConfigError(
                    f"{inner} = {other!r} is in the folder of {outer} = {folder!r}, which is "
                    "replaced as a whole; give each a folder of its own"
                )


def _absolute(config: RunConfig, folder: Path) -> RunConfig:
    tables = ("interactions", "items", "queries")
    paths = {
        "data": (*tables, "dataset"),
        "training": ("checkpoint", "tensorboard"),
        "bundle": ("path",),
    }

    def absolute(name: str, value: str) -> str:
        is_glob = name in tables and glob.has_magic(value) and not (folder / value).exists()
        base = glob.escape(str(folder)) if is_glob else str(folder)
        return os.path.normpath(Path(base) / value)

    update = {}
    for section, names in paths.items():
        part = getattr(config, section)
        given = {name: getattr(part, name) for name in names}
        found = {name: absolute(name, value) for name, value in given.items() if value is not None}
        update[section] = part.model_copy(update=found)
    return config.model_copy(update=update)
