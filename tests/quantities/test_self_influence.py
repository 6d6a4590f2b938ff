"""Self-influence: the diagonal of a positive kernel, and the removal of an example seen by itself."""

import pytest
import torch

import upweight as uw
from problems import DOUBLE, close, convex
from removals import CONVENTIONS, exact


def test_self_influence_is_the_diagonal_of_a_symmetric_positive_kernel(trained):
    influence = exact(trained)
    kernel = influence.attribute((trained.x, trained.y)).scores
    close(kernel, kernel.T)
    assert torch.linalg.eigvalsh(kernel)[0] > -1e-12
    own = influence.self_influence()
    close(own.scores, kernel.diagonal())
    assert (own.scores >= 0).all()
    close(influence.self_influence(train=[3, 1]).scores, kernel.diagonal()[[3, 1]])


@CONVENTIONS
@pytest.mark.parametrize("weighted", [False, True])
def test_self_influence_is_the_removal_of_an_example_seen_by_itself(weighted, renormalize):
    problem = convex("softmax")
    weights = torch.linspace(0, 3, problem.n, dtype=DOUBLE) if weighted else None
    objective = problem.objective(weights=weights)
    influence = uw.Influence(objective, uw.inverse.Dense())
    whole = influence.attribute((problem.x, problem.y), renormalize=renormalize).scores
    close(influence.self_influence(renormalize=renormalize).scores, whole.diagonal())
