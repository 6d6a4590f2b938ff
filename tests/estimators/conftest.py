from dataclasses import dataclass

import numpy as np
import pytest


@dataclass(frozen=True)
class Problem:
    """Overlapping classes on features of unequal scale and mean, so that intercepts and penalties matter."""

    X: np.ndarray
    two: np.ndarray
    three: np.ndarray
    number: np.ndarray
    weights: np.ndarray
    new: np.ndarray


@pytest.fixture(scope="session")
def problem() -> Problem:
    rng = np.random.default_rng(0)
    n = 60
    X, new = (rng.normal(size=(m, 4)) * [1, 2, 0.5, 1] + [0.5, 0, 0, 1] for m in (n, 7))
    score = X[:, 0] + 0.5 * rng.normal(size=n)
    two = np.where(score > 0.3, "spam", "ham")
    three = np.digitize(score, [-0.2, 0.9]) * 10
    return Problem(X, two, three, score + 0.3 * X[:, 1], rng.uniform(0.2, 2, n), new)
