"""Counterfactual models against refits by plain Newton, one at a time."""

import pytest
import torch

import upweight as uw
from problems import DOUBLE, Problem, close, convex, mlp
from upweight.errors import InputError, NotConvergedWarning

GROUPS = [[0], [7], [3, 11, 19], [20]]


@pytest.mark.parametrize("renormalize", [False, True])
def test_leaving_out_equals_refitting_without(convex: Problem, renormalize: bool) -> None:
    found = uw.retraining.leave_out(convex.objective(), GROUPS, renormalize=renormalize)
    expected = [convex.optimum(convex.counts_without(group, renormalize=renormalize)) for group in GROUPS]
    close(found.params, torch.stack(expected), rtol=1e-7, atol=1e-8)
    assert found.converged
    assert (found.gradient_norms <= found.tolerances).all()


def test_the_reported_gradient_norm_is_that_of_the_counterfactual_objective() -> None:
    problem = convex("softmax")
    found = uw.retraining.leave_out(problem.objective(), GROUPS, tolerance=1e-4)
    for theta, group, norm in zip(found.params, GROUPS, found.gradient_norms, strict=True):
        counts = problem.counts_without(group)
        point = theta.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(problem.risk(point, counts), point)
        close(norm, gradient.norm(), rtol=1e-6)


def test_many_at_once_equal_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = convex("logistic").objective()
    together = uw.retraining.leave_out(objective, list(range(10)))
    alone = torch.cat([uw.retraining.leave_out(objective, [i]).params for i in range(10)])
    close(together.params, alone, rtol=1e-7, atol=1e-9)
    monkeypatch.setattr("upweight.retraining.counterfactual.MODEL_ELEMENTS", 1)
    close(uw.retraining.leave_out(objective, list(range(10))).params, alone, rtol=1e-7, atol=1e-9)


def test_weights_leave_with_their_example() -> None:
    problem = convex("logistic")
    weights = torch.linspace(0.5, 2, problem.n, dtype=DOUBLE)
    objective = uw.retraining.fit(problem.objective(weights=weights))
    found = uw.retraining.leave_out(objective, [[2, 5]])
    without = weights.clone()
    without[[2, 5]] = 0
    close(found.params[0], problem.optimum(without / problem.n), rtol=1e-7, atol=1e-8)


def test_relabelling_equals_refitting_on_the_other_labels() -> None:
    problem = convex("softmax")
    changed = (problem.y[[1, 4]] + 1) % 3
    found = uw.retraining.relabel(problem.objective(), [1, 4], changed)
    for theta, index, label in zip(found.params, (1, 4), changed, strict=True):
        labels = problem.y.clone()
        labels[index] = label
        close(theta, problem.at_optimum(y=labels).theta, rtol=1e-7, atol=1e-8)


def test_replacing_an_example_by_itself_changes_nothing() -> None:
    problem = convex("ridge")
    found = uw.retraining.replace(problem.objective(), [3], (problem.x[3:4], problem.y[3:4]))
    close(found.params[0], problem.theta, atol=1e-9)


def test_a_float32_factor_preconditions_float64() -> None:
    problem = convex("softmax")
    factor = uw.inverse.Dense().fit(problem.objective().to(torch.float32))
    found = uw.retraining.leave_out(problem.objective(), GROUPS, solver=factor)
    expected = torch.stack([problem.optimum(problem.counts_without(group)) for group in GROUPS])
    close(found.params, expected, rtol=1e-7, atol=1e-8)


def test_a_network_goes_to_a_minimum_nearby() -> None:
    problem = mlp()
    found = uw.retraining.leave_out(problem.objective(), [[0], [9]], tolerance=1e-9)
    for theta, group in zip(found.params, ([0], [9]), strict=True):
        counts = problem.counts_without(group)
        point = theta.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(problem.risk(point, counts), point)
        assert gradient.norm() <= 2e-9
        assert problem.risk(theta, counts) < problem.risk(problem.theta, counts)


def test_the_first_step_is_the_influence_functions_own() -> None:
    problem = convex("ridge")
    with pytest.warns(NotConvergedWarning, match=r"1 of 1 models stopped at ‖∇R‖ up to"):
        found = uw.retraining.leave_out(problem.objective(), [4], max_iterations=1)
    step = -uw.Influence(problem.objective()).parameters([4])[0] / problem.n
    close(found.params[0] - problem.theta, step, rtol=1e-8)


@pytest.mark.parametrize(("groups", "words"), [([], "at least one group"), ([range(24)], "all 24"), ([[99]], "0 … 23")])
def test_refuses_impossible_groups(groups: list, words: str) -> None:
    with pytest.raises(InputError, match=words):
        uw.retraining.leave_out(convex("ridge").objective(), [list(g) for g in groups])


def test_refuses_replacements_that_do_not_match() -> None:
    problem = convex("ridge")
    with pytest.raises(InputError, match="one for each of the 2"):
        uw.retraining.replace(problem.objective(), [1, 2], (problem.x[:1], problem.y[:1]))


def test_replacing_groups_equals_refitting_on_the_other_examples_wherever_it_starts() -> None:
    problem = convex("softmax")
    groups = [[1, 4], [4], [9, 2, 0]]
    moved = torch.cat([problem.x[group] for group in groups]) + 1
    labels = torch.cat([problem.y[group] for group in groups])
    expected = []
    for group, part in zip(groups, moved.split([2, 1, 3]), strict=True):
        x = problem.x.clone()
        x[group] = part
        expected.append(problem.at_optimum(x=x).theta)
    elsewhere = problem.theta + 0.1 * torch.randn(3, len(problem.theta), dtype=DOUBLE)
    for start in (None, elsewhere):
        found = uw.retraining.replace(problem.objective(), groups, (moved, labels), start=start)
        close(found.params, torch.stack(expected), rtol=1e-7, atol=1e-8)
