"""Leaving one example out: predictions against exact refits, in both conventions."""

import pytest
import torch

from problems import DOUBLE, close, convex
from removals import CONVENTIONS, exact, refit


@CONVENTIONS
@pytest.mark.parametrize("name", ["ridge", "logistic", "softmax"])
def test_removal_predicts_leave_one_out_in_its_own_convention_and_not_in_the_other(name, renormalize):
    problem = convex(name, n=60)
    predicted = exact(problem).attribute(problem.queries, renormalize=renormalize).scores

    left_out = range(0, problem.n, 4)

    def error(convention):
        actual = torch.stack([refit(problem, i, convention)[1] for i in left_out], 1)
        return float((predicted[:, left_out] - actual).norm() / actual.norm())

    assert error(renormalize) < 0.25
    assert error(renormalize) < error(not renormalize)


@CONVENTIONS
@pytest.mark.parametrize("name", ["ridge", "logistic", "softmax"])
def test_removal_is_the_derivative_of_leaving_out(name, renormalize):
    """Downweighting the example by a share t of its leaving, the change of the loss per t as t → 0 is removal."""
    problem = convex(name)
    predicted = exact(problem).attribute(problem.queries, renormalize=renormalize).scores
    base, n, t = torch.full((problem.n,), 1 / problem.n, dtype=DOUBLE), problem.n, 1e-5
    for i in (0, 5, 13):
        direction = problem.counts_without(i, renormalize=renormalize) - base
        if renormalize:  # 1/(n−1) − 1/n on the others is first order in leaving out
            gradient = problem.gradients()
            pull = -(gradient[i] + problem.l2 * problem.theta) / (n - 1)
            close(direction @ gradient, pull)  # the same pull, since Σ∇(ℓ + reg) = 0
        losses = [problem.query_losses(problem.optimum(base + sign * t * direction)) for sign in (1, -1)]
        slope = (losses[0] - losses[1]) / (2 * t)
        close(predicted[:, i], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_gradients_sum_to_minus_n_lambda_theta_and_influences_to_zero(name, l2):
    problem = convex(name, n=60, l2=l2)
    objective = problem.objective()
    total = torch.cat([gradients for _, gradients in objective.example_gradients()]).sum(0)
    close(total, -problem.n * l2 * problem.theta)
    influence = exact(problem)
    zeros = torch.zeros(5, dtype=DOUBLE)
    close(influence.attribute(problem.queries, renormalize=True).scores.sum(1), zeros, atol=1e-12)
    plain = influence.attribute(problem.queries).scores.sum(1)
    expected = -l2 * problem.query_gradients() @ torch.linalg.solve(problem.hessian(), problem.theta)
    close(plain, expected)
    assert (plain.abs().max() < 1e-12) == (l2 == 0)


def test_logistic_influence_has_the_closed_form_of_the_paper():
    problem = convex("logistic")
    sign, query_sign = (2 * y.double() - 1 for y in (problem.y, problem.query_y))
    theta, inverse = problem.theta, problem.hessian().inverse()
    left = query_sign * torch.sigmoid(-query_sign * (problem.query_x @ theta))
    right = sign * torch.sigmoid(-sign * (problem.x @ theta))
    expected = -left[:, None] * right * (problem.query_x @ inverse @ problem.x.T)
    scores = exact(problem).attribute(problem.queries, quantity="upweight").scores
    close(scores, expected)


def test_upweight_is_minus_n_times_removal(trained):
    influence = exact(trained)
    up = influence.attribute(trained.queries, quantity="upweight").scores
    close(influence.attribute(trained.queries).scores, -up / trained.n)
    expected = -trained.query_gradients() @ trained.hessian().inverse() @ trained.gradients().T
    close(up, expected)


def test_parameters_are_the_finite_difference_of_upweighting(trained):
    influence, step = exact(trained), 1e-4
    rows = influence.parameters([1, 4])
    for row, i in zip(rows, (1, 4), strict=True):
        counts = torch.full((trained.n,), 1 / trained.n, dtype=DOUBLE)
        thetas = []
        for share in (step, -step, 2 * step, -2 * step):
            moved = counts.clone()
            moved[i] += share
            thetas.append(trained.optimum(moved))
        # Fourth order, so that the truncation is below 1e-8
        slope = (8 * (thetas[0] - thetas[1]) - (thetas[2] - thetas[3])) / (12 * step)
        close(row, slope, rtol=1e-8, atol=1e-8)
