"""Leaving groups out, to first, second and Newton order: closed forms and exact refits, in both conventions."""

import numpy as np
import pytest
import torch

import upweight as uw
from problems import DOUBLE, close, convex, unflatten
from removals import CONVENTIONS, augmented, exact, refit
from upweight.errors import InputError

GROUP = [2, 3, 11, 17]


def test_ridge_groups_are_exact_by_their_closed_form_and_by_one_newton_step():
    problem = convex("ridge")
    x, inverse = augmented(problem), problem.hessian().inverse()
    xu, residual = x[GROUP], (problem.model(problem.x).detach()[:, 0] - problem.y)[GROUP]
    p = xu @ inverse @ xu.T / problem.n
    change = inverse @ xu.T @ torch.linalg.solve(torch.eye(len(GROUP), dtype=DOUBLE) - p, residual) / problem.n
    close(refit(problem, GROUP, False)[0], change)
    newton = exact(problem).group(GROUP, problem.queries, order="newton").scores
    close(newton[:, 0], problem.query_losses(problem.theta + change) - problem.query_losses(problem.theta))


@CONVENTIONS
def test_one_newton_step_is_exact_for_quadratics(renormalize):
    problem = convex("ridge")
    _, losses = refit(problem, GROUP, renormalize)
    newton = exact(problem).group(GROUP, problem.queries, order="newton", renormalize=renormalize)
    close(newton.scores[:, 0], losses)


@CONVENTIONS
def test_the_first_order_of_a_group_is_the_sum_of_its_members(trained, renormalize):
    influence = exact(trained)
    single = influence.attribute(trained.queries, renormalize=renormalize).scores
    groups = influence.group([GROUP, [5], range(9)], trained.queries, renormalize=renormalize)
    share = (trained.n - 1) / (trained.n - torch.tensor([4.0, 1, 9], dtype=DOUBLE)) if renormalize else 1
    sums = torch.stack([single[:, GROUP].sum(1), single[:, 5], single[:, :9].sum(1)], 1)
    close(groups.scores, sums * share)
    assert groups.ids.tolist() == [0, 1, 2]


@CONVENTIONS
def test_the_second_order_of_a_group_has_its_closed_form(trained, renormalize):
    n, u = trained.n, len(GROUP)
    identity = torch.eye(len(trained.theta), dtype=DOUBLE)
    inverse, gradients = trained.hessian().inverse(), trained.gradients()[GROUP]
    part = trained.example_hessians()[GROUP].mean(0)
    if renormalize:
        q = u / (n - u)
        first = q * inverse @ (gradients.mean(0) + trained.l2 * trained.theta)
        step = first - q * (identity - inverse @ (part + trained.l2 * identity)) @ first
    else:
        first = inverse @ gradients.sum(0) / n
        step = first + inverse @ (u / n * part) @ first
    got = exact(trained).group(GROUP, trained.queries, order="second", renormalize=renormalize).scores
    close(got[:, 0], trained.query_gradients() @ step)


@CONVENTIONS
def test_the_newton_step_of_a_group_is_solved_with_the_curvature_of_the_rest(trained, renormalize):
    n = trained.n
    counts = trained.counts_without(GROUP, renormalize=renormalize)
    pull = trained.gradients()[GROUP].sum(0)
    if renormalize:
        pull = (pull + len(GROUP) * trained.l2 * trained.theta) / (n - len(GROUP))
    else:
        pull = pull / n
    step = torch.linalg.solve(trained.hessian(counts), pull)
    got = exact(trained).group(GROUP, trained.queries, order="newton", renormalize=renormalize).scores
    moved = trained.query_losses(trained.theta + step) - trained.query_losses(trained.theta)
    linear = exact(trained).objective.is_linear
    close(got[:, 0], moved if linear else trained.query_gradients() @ step)


@CONVENTIONS
@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_higher_orders_are_nearer_to_retraining_than_the_first(name, renormalize):
    problem = convex(name, n=60)
    change, losses = refit(problem, range(0, 60, 5), renormalize)
    influence, members = exact(problem), range(0, 60, 5)

    def errors(measurement, actual):
        found = [
            influence.group(members, problem.queries, order=order, renormalize=renormalize, measurement=measurement)
            for order in ("first", "second", "newton")
        ]
        return [float((each.scores[:, 0] - actual).norm()) for each in found]

    there = torch.func.functional_call(problem.model, unflatten(problem.model, problem.theta + change), problem.query_x)
    actual = (there - problem.model(problem.query_x)).detach()[:, 0]
    of_outputs = errors(lambda model, batch: model(batch[0])[:, 0], actual)  # linear, so that the steps are judged
    assert of_outputs[1] < 0.95 * of_outputs[0]
    assert of_outputs[2] < 0.95 * of_outputs[0]
    of_losses = errors(None, losses)
    assert of_losses[2] < 0.8 * of_losses[0]


def test_groups_are_rows_of_arrays_and_tensors_and_lists_of_either():
    problem = convex("ridge")
    influence = exact(problem)
    rows = [[0, 1], [2, 5]]
    expected = influence.group(rows, problem.queries).scores
    for form in (np.array(rows), torch.tensor(rows), [torch.tensor(row) for row in rows], tuple(map(tuple, rows))):
        close(influence.group(form, problem.queries).scores, expected)
    for form in ([0, 1], np.array([0, 1]), torch.tensor([0, 1]), range(2), [torch.tensor(0), torch.tensor(1)]):
        close(influence.group(form, problem.queries).scores, expected[:, :1])


def test_orders_beyond_the_first_need_the_objectives_own_curvature():
    problem = convex("ridge")
    solver = uw.inverse.Dense().fit(uw.curvature.Matrix(problem.hessian()))
    influence = uw.Influence(problem.objective(), solver)
    close(influence.attribute(problem.queries).scores, exact(problem).attribute(problem.queries).scores)
    with pytest.raises(InputError, match="need an inverse fitted to the objective"):
        influence.group(GROUP, problem.queries, order="second")
