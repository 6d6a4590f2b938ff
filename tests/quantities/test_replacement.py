"""Replacing and relabelling examples: differences of gradients."""

import pytest
import torch

from problems import close, convex
from removals import exact


@pytest.mark.parametrize("kind", ["replacement", "relabel"])
def test_replacements_are_differences_of_gradients(kind):
    problem = convex("softmax")
    influence, where = exact(problem), [4, 0, 9]
    labels = (problem.y[where] + 1) % 3
    if kind == "relabel":
        scores = influence.relabel(where, labels, problem.queries)
        x, y = problem.x[where], labels
    else:
        x, y = problem.x[where] + 0.3, labels
        scores = influence.replacement(where, (x, y), problem.queries)
    there = torch.func.jacrev(lambda theta: problem.losses(theta, x, y))(problem.theta)
    difference = problem.gradients()[where] - there
    expected = problem.query_gradients() @ problem.hessian().inverse() @ difference.T / problem.n
    close(scores.scores, expected)
    assert scores.ids.tolist() == where
