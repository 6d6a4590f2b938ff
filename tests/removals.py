"""Exact influence of a small problem, and its refits without some members, in both conventions."""

import pytest
import torch

import upweight as uw
from problems import DOUBLE

CONVENTIONS = pytest.mark.parametrize("renormalize", [False, True], ids=["weights stay 1/n", "mean of the rest"])


def exact(problem, **options):
    return uw.Influence(problem.objective(**options), uw.inverse.Dense())


def refit(problem, members, renormalize):
    """Change of θ̂ and of the queries' losses when the members are left out, by retraining to the optimum."""
    theta = problem.optimum(problem.counts_without(members, renormalize=renormalize))
    return theta - problem.theta, problem.query_losses(theta) - problem.query_losses(problem.theta)


def augmented(problem):
    return torch.cat([problem.x, torch.ones(problem.n, 1, dtype=DOUBLE)], 1)
