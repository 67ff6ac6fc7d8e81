import numpy as np
import pytest
import torch

from dualtower.studies.logistic import area_under_curve, fit_logistic, scores_of


def made_up(rows: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Two features of very different size, and labels that follow them."""
    random = np.random.default_rng(5)
    features = np.column_stack([random.normal(100, 10, rows), random.uniform(0, 0.01, rows)])
    odds = 0.1 * (features[:, 0] - 100) - 300 * (features[:, 1] - 0.003)
    return features, (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.float64)


def test_the_weights_are_those_that_newton_finds() -> None:
    features, labels = made_up()
    inputs = torch.tensor(np.column_stack([features, np.ones(len(features))]))
    weights = torch.zeros(3, dtype=torch.float64)
    target = torch.tensor(labels)
    for _ in range(30):
        chance = torch.sigmoid(inputs @ weights)
        curvature = inputs.T @ (inputs * (chance * (1 - chance))[:, None])
        weights += torch.linalg.solve(curvature, inputs.T @ (target - chance))
    found = fit_logistic(features, labels)
    assert found == pytest.approx(weights.numpy(), rel=1e-4)
    assert scores_of(features, found) == pytest.approx((inputs @ weights).numpy(), abs=1e-4)


def test_one_feature_of_two_values_by_hand() -> None:
    # Of four rows at 0 one is a 1, of four at 1 three are: log odds -ln 3 and ln 3.
    features = np.repeat([[0.0], [1.0]], 4, axis=0)
    labels = np.array([1, 0, 0, 0, 1, 1, 1, 0], dtype=np.float64)
    assert fit_logistic(features, labels) == pytest.approx([2 * np.log(3), -np.log(3)], rel=1e-5)


def test_a_constant_feature_has_no_weight() -> None:
    features, labels = made_up(200)
    with_constant = np.column_stack([features[:, :1], np.full(200, 7.0)])
    alone = fit_logistic(features[:, :1], labels)
    assert fit_logistic(with_constant, labels) == pytest.approx([alone[0], 0, alone[1]], abs=1e-4)


def test_the_area_is_the_share_of_ordered_pairs() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 6, 60).astype(np.float64)
    labels = random.integers(0, 2, 60).astype(np.float64)
    gaps = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    assert area_under_curve(scores, labels) == pytest.approx(
        ((gaps > 0) + 0.5 * (gaps == 0)).mean()
    )
    assert area_under_curve(np.array([3.0, 1.0, 2.0]), np.array([1.0, 0.0, 0.0])) == 1
