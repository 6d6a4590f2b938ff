"""Warnings stand at the line that called into the package, however deep they arise."""

import _thread
import sys
import threading
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import upweight as uw
from problems import DOUBLE, convex, mlp
from upweight.errors import UpweightWarning, warn


def here() -> int:
    return sys._getframe(1).f_lineno


def far_from_an_optimum() -> int:
    problem = convex("logistic")
    moved = problem.objective().at(torch.full((len(problem.theta),), 3.0, dtype=DOUBLE))
    influence = uw.Influence(moved)
    _, line = influence.attribute(problem.queries), here()
    return line


def through_a_task() -> int:
    problem = convex("logistic")
    moved = problem.objective().at(torch.full((len(problem.theta),), 3.0, dtype=DOUBLE))
    _, line = uw.tasks.explain(uw.Influence(moved), problem.queries), here()
    return line


def no_factors() -> int:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, dtype=DOUBLE))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * torch.special.i0(self.weight)).sum(-1, keepdim=True)

    x = torch.randn(5, 3, dtype=DOUBLE)
    _, line = uw.Objective(Odd(), uw.losses.SquaredError(), (x, x[:, :1])), here()
    return line


def of_a_stopped_solver() -> int:
    problem = mlp()
    influence = uw.Influence(problem.objective(), uw.inverse.CG(uw.curvature.GGN(), max_iterations=1))
    _, line = influence.attribute(problem.queries), here()
    return line


def called_directly() -> int:
    _, line = warn("word", UpweightWarning), here()
    return line


@pytest.mark.parametrize(
    "act",
    [far_from_an_optimum, through_a_task, no_factors, of_a_stopped_solver, called_directly],
    ids=lambda f: f.__name__,
)
def test_a_warning_names_the_users_line(act: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = act()
    ours = [warning for warning in caught if issubclass(warning.category, UpweightWarning)]
    assert ours
    assert {(warning.filename, warning.lineno) for warning in ours} == {(__file__, line)}


def test_a_warning_names_the_users_line_where_nothing_called_the_user() -> None:
    """As in a script: the user's line is the outermost of all, below it a decorator's."""
    problem = convex("logistic")
    moved = problem.objective().at(torch.full((len(problem.theta),), 3.0, dtype=DOUBLE))
    attribute = torch.no_grad()(uw.Influence(moved).attribute)
    done = threading.Event()
    places = []

    def script() -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _, line = attribute(problem.queries), here()
        places.extend((warning.filename, warning.lineno - line) for warning in caught)
        done.set()

    _thread.start_new_thread(script, ())
    assert done.wait(60)
    assert set(places) == {(__file__, 0)}
