"""Logistic regression of a few features, and the area under the ROC curve."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]


def fit_logistic(features: Floats, labels: Floats) -> Floats:
    """The weights and the bias that make the labels most likely; nothing is regularised.

    Args:
        features: `[rows, features]`; a constant one gets weight 0.
        labels: 0 or 1, `[rows]`, both present.

    Returns:
        `[features + 1]`, the bias last.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1.0
    inputs = np.column_stack([(features - mean) / deviation, np.ones(len(features))])

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = inputs @ weights
        value = float(np.mean(np.logaddexp(0.0, scores) - labels * scores))
        return value, inputs.T @ (expit(scores) - labels) / len(labels)

    found: Any = minimize(loss, np.zeros(inputs.shape[1]), jac=True, options={"gtol": 1e-8})
    weights = found.x[:-1] / deviation
    return np.append(weights, found.x[-1] - weights @ mean)


def scores_of(features: Floats, weights: Floats) -> Floats:
    """The log odds of label 1, `[rows]`.

    Args:
        features: `[rows, features]`.
        weights: what `fit_logistic` gave.
    """
    return np.asarray(features @ weights[:-1] + weights[-1])


def area_under_curve(scores: Floats, labels: Floats) -> float:
    """The chance that a row of label 1 scores above one of label 0; equal scores count half.

    Args:
        scores: `[rows]`.
        labels: 0 or 1, `[rows]`, both present.
    """
    ranks = rankdata(scores)
    positives = float(labels.sum())
    above = float(ranks[labels == 1].sum()) - positives * (positives + 1) / 2
    return above / (positives * (len(labels) - positives))
