"""The presets, and what each model fixes by its nature: values, for `dualtower.config`."""

from typing import Any

MODEL_PRESETS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {
        "embedding_dim": 32,
        "last_relu": True,
        "linear_path": False,
        "combine": "concatenate",
        "query_id": True,
        "history": False,
        "augmented": "learned",
        "lambda_ca": 1.0,
        "embedding_dropout": 0.0,
        "id_dropout": 0.0,
    },
}
"""What a preset sets of a model, where it is not the default of the field."""

MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "dat": {},
    "two_tower": {"augmented": "none", "lambda_ca": 0.0},
    "fm": {
        "augmented": "none",
        "lambda_ca": 0.0,
        "combine": "sum",
        "history_form": "mean",
        "query_tower": False,
        "item_vectors": "embedding",
        "normalise": False,
    },
    "mind": {"augmented": "none", "lambda_ca": 0.0},
    "sasrec": {
        "augmented": "none",
        "lambda_ca": 0.0,
        "combine": "sum",
        "query_id": False,
        "history": True,
        "history_form": "attention",
        "query_tower": False,
        "item_vectors": "embedding",
        "normalise": False,
    },
    "youtube_dnn": {
        "augmented": "none",
        "lambda_ca": 0.0,
        "query_id": False,
        "history": True,
        "history_form": "mean",
        "item_vectors": "table",
        "normalise": False,
    },
}
"""What each trained model fixes by its nature, whatever the preset."""

TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {
        "examples": "pairs",
        "batch_size": 256,
        "loss": "binary_cross_entropy",
        "negatives": "per_positive",
        "negative_count": 4,
        "logq_correction": "none",
        "temperature": 1.0,
        "item_init": "random",
        "learning_rate": 0.001,
        "table_learning_rate": 0.001,
        "schedule": "constant",
    },
}
"""What a preset sets of the training loop, likewise."""

TRAINING_DEFAULTS: dict[str, dict[str, Any]] = {
    "youtube_dnn": {"examples": "windows"},
    "mind": {"examples": "windows"},
    "sasrec": {"examples": "windows"},
}
"""What a model needs of the training by its nature, whatever the preset: here, a history."""
