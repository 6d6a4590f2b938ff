"""The proximal Bregman response against its definition, and influence with the GGN as its derivative."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import upweight as uw
from problems import DOUBLE, Problem, close, conv, convex, mlp, unflatten, with_parameters
from upweight.errors import InputError, NotConvergedWarning
from upweight.retraining import Recipe, pbrf, train_together

DAMPING = 0.03
GROUPS = [[0], [9], [3, 11, 19]]


def away(problem: Problem) -> Problem:
    """The same problem with its model well away from any optimum."""
    shift = torch.randn(len(problem.theta), generator=torch.Generator().manual_seed(4), dtype=DOUBLE)
    moved = replace(problem, model=with_parameters(problem.model, problem.theta + 0.3 * shift))
    assert jacrev(moved.risk)(moved.theta).norm() > 0.05
    return moved


PROBLEMS = {
    "softmax regression": lambda: convex("softmax"),
    "ridge": lambda: convex("ridge"),
    "network at an optimum": mlp,
    "network at no optimum": lambda: away(mlp()),
}


def response_objective(problem: Problem, theta: Tensor, group: list[int], epsilon: float, weights: Tensor) -> Tensor:
    """The definition, term by term: divergences of the outputs, proximity, and the weighted examples."""

    def outputs(at: Tensor) -> Tensor:
        return functional_call(problem.model, unflatten(problem.model, at), (problem.x,))

    trained = outputs(problem.theta).detach()
    slopes = jacrev(lambda z: problem.compare(z, problem.y).sum())(trained)
    divergences = problem.compare(outputs(theta), problem.y) - problem.compare(trained, problem.y)
    divergences = divergences - (slopes * (outputs(theta) - trained)).flatten(1).sum(1)
    proximity = 0.5 * (problem.l2 + DAMPING) * ((theta - problem.theta) ** 2).sum()
    return weights @ divergences / problem.n + proximity + epsilon * (weights * problem.losses(theta))[group].sum()


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_responses_minimise_the_definition(name: str) -> None:
    problem = PROBLEMS[name]()
    weights = torch.linspace(0.5, 2, problem.n, dtype=DOUBLE)
    found = pbrf(problem.objective(weights=weights), GROUPS, DAMPING)
    assert found.converged
    for theta, group, norm in zip(found.params, GROUPS, found.gradient_norms, strict=True):
        gradient = jacrev(lambda at, g=group: response_objective(problem, at, g, -1 / problem.n, weights))(theta)
        assert gradient.norm() < 1e-9
        assert abs(gradient.norm() - norm) < 1e-12
        start = response_objective(problem, problem.theta, group, -1 / problem.n, weights)
        assert response_objective(problem, theta, group, -1 / problem.n, weights) < start


@pytest.mark.parametrize("name", PROBLEMS)
def test_its_derivative_is_influence_with_the_ggn_wherever_training_stopped(name: str) -> None:
    problem = PROBLEMS[name]()
    objective = problem.objective()

    def difference(epsilon: float) -> Tensor:
        plus, minus = (pbrf(objective, GROUPS, DAMPING, sign * epsilon).params for sign in (1, -1))
        return (plus - minus) / (2 * epsilon)

    step = 2e-3 / problem.n
    extrapolated = (4 * difference(step) - difference(2 * step)) / 3  # cancels the step's second order
    damped = problem.ggn() + DAMPING * torch.eye(len(problem.theta), dtype=DOUBLE)
    gradients = torch.stack([problem.gradients()[group].sum(0) for group in GROUPS])
    close(extrapolated, -torch.linalg.solve(damped, gradients.T).T, rtol=0, atol=3e-7)


def test_the_default_weight_is_that_of_leaving_out() -> None:
    objective = mlp().objective()
    close(pbrf(objective, [4], DAMPING).params, pbrf(objective, [4], DAMPING, -1 / objective.n).params)


def test_for_a_quadratic_without_damping_it_is_retraining() -> None:
    problem = convex("ridge")
    found = pbrf(problem.objective(), GROUPS, 0.0)
    close(found.params, uw.retraining.leave_out(problem.objective(), GROUPS).params, rtol=1e-7, atol=1e-8)


def test_groupings_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = away(mlp())
    together = pbrf(problem.objective(), GROUPS, DAMPING).params
    close(pbrf(problem.objective(batch_size=7), GROUPS, DAMPING).params, together, rtol=1e-6, atol=1e-9)
    monkeypatch.setattr("upweight.retraining.counterfactual.MODEL_ELEMENTS", 1)
    close(pbrf(problem.objective(), GROUPS, DAMPING).params, together, rtol=1e-6, atol=1e-9)


def test_a_convolutional_network_with_damping_in_units_of_its_curvature() -> None:
    objective = conv().objective()
    found = pbrf(objective, torch.tensor([0, 5]), uw.inverse.MeanEigenvalue(20.0))
    assert found.converged
    assert (found.params - objective.params).norm(dim=1).min() > 1e-3


def test_float32_reaches_the_float64_responses() -> None:
    problem = away(mlp())
    exact = pbrf(problem.objective(), GROUPS, DAMPING).params - problem.theta
    rounded = pbrf(problem.objective().to(torch.float32), GROUPS, DAMPING).params - problem.theta
    assert ((rounded - exact).norm(dim=1) / exact.norm(dim=1)).max() < 5e-3


def relu_network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)).to(DOUBLE)


def test_at_a_kink_it_ends_when_the_value_stalls() -> None:
    source = mlp()
    recipe = Recipe(epochs=200, batch_size=source.n, lr=0.3, momentum=0.9, weight_decay=source.l2)
    trained = train_together(
        relu_network, source.objective().loss, (source.x, source.y), [range(source.n)], [11], recipe
    )
    problem = replace(source, model=trained.model(0))
    objective = problem.objective()
    positions = objective.losses().topk(3).indices.tolist()
    with pytest.warns(NotConvergedWarning, match=r"of 3 models stopped at .* kinks"):
        found = pbrf(objective, positions, DAMPING, max_iterations=1000)
    assert found.evaluations.max() < 500
    weights = torch.ones(problem.n, dtype=DOUBLE)
    for theta, position in zip(found.params, positions, strict=True):
        at, start = (
            response_objective(problem, point, [position], -1 / problem.n, weights) for point in (theta, problem.theta)
        )
        directions = torch.randn(20, len(theta), generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
        nearby = [
            response_objective(problem, theta + 0.03 * step / step.norm(), [position], -1 / problem.n, weights)
            for step in directions
        ]
        assert at < start
        assert at < min(nearby)


def test_says_how_far_it_came() -> None:
    with pytest.warns(NotConvergedWarning, match=r"1 of 1 models stopped at"):
        pbrf(mlp().objective(), [2], DAMPING, max_iterations=1)


def test_refuses_a_loss_whose_outputs_are_unknown() -> None:
    problem = mlp()
    whole = problem.objective(loss=uw.losses.Function(lambda model, batch: problem.compare(model(batch[0]), batch[1])))
    with pytest.raises(InputError, match="outputs"):
        pbrf(whole, [0], DAMPING)
    with pytest.raises(InputError, match="at least one position"):
        pbrf(problem.objective(), [], DAMPING)
