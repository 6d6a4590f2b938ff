"""What attacks climb by: I_pert through a network and solves with retrained Hessians, against retraining."""

from __future__ import annotations

import pytest
import torch

import upweight as uw
from attacked import small
from problems import DOUBLE, close
from upweight.tasks.attacks.subject import Subject
from upweight.tasks.attacks.together import inverted, retrained_hessians, solve


@pytest.mark.parametrize("classes", [2, 3])
def test_i_pert_through_the_network_is_the_finite_difference_of_retraining(classes: int) -> None:
    problem = small(classes)
    objective = problem.top()
    subject = Subject.of(objective, problem.network, problem.images)
    query = objective.queries(problem.queries).take([1])
    direction = subject.influence.query_solution(query)[0].x[0]
    position = torch.tensor([5])
    levels = subject.levels(position).requires_grad_()
    features = subject.features(levels)
    slopes = subject.perturbation(objective.params, direction, position, subject.examples(position, features))
    gradient = subject.through(levels, features, slopes)[0, 0]
    step = 2e-3
    for at in ((0, 0), (2, 3), (4, 4)):
        losses = []
        for sign in (1, -1):
            moved = problem.images.double()
            moved[5, 0, *at] += sign * step
            losses.append(float(problem.top(moved).losses(query)))
        assert float(gradient[at]) / problem.n == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_solves_with_the_retrained_hessians_equal_those_of_the_changed_objectives(classes: int) -> None:
    problem = small(classes)
    objective = problem.top()
    subject = Subject.of(objective, problem.network, problem.images)
    groups = [torch.tensor([0, 3]), torch.tensor([3, 9])]
    moved = [subject.examples(group, subject.features(subject.levels(group) + 1)) for group in groups]
    joined = tuple(torch.cat(column) for column in zip(*moved, strict=True))
    params = uw.retraining.replace(objective, groups, joined).params
    vectors = torch.randn(2, objective.p, dtype=DOUBLE)
    hessians = retrained_hessians(objective, params, groups, moved)
    solver = inverted(subject.influence.solver)
    for start in (None, torch.randn(2, objective.p, dtype=DOUBLE)):
        found = solve(hessians, vectors, solver, start, tolerance=1e-12)
        for row, group in enumerate(groups):
            levels = problem.images.double()
            levels[group] += 1
            changed = problem.top(levels)
            close(params[row], changed.params, rtol=1e-6, atol=1e-8)
            expected = uw.inverse.Dense().fit(changed).solve(vectors[row : row + 1]).x[0]
            close(found[row], expected, rtol=1e-6, atol=1e-7)
