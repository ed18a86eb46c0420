"""Logistic regression: scikit-learn's solution, and classes that can be separated."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from reprise.probing.logistic import fit_logistic


def test_logistic_regression_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(200, 5))
    y = (x[:, 0] + rng.normal(size=200) > 0.3).astype(float)
    theirs = LogisticRegression(C=1 / 3.0, tol=1e-10, max_iter=1000).fit(x, y)
    ours = fit_logistic(np.c_[np.ones(200), x], y, np.r_[0.0, np.full(5, 3.0)])
    np.testing.assert_allclose(ours, np.r_[theirs.intercept_, theirs.coef_[0]], atol=1e-4)


def test_logistic_regression_survives_separable_classes() -> None:
    x = np.c_[np.ones(40), np.repeat([-1.0, 1.0], 20) * 50].astype(np.float32)
    coef = fit_logistic(x, np.repeat([0.0, 1.0], 20), np.array([0.0, 1.0]))
    assert np.isfinite(coef).all() and coef[1] > 0
