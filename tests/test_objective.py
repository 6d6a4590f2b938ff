"""R(θ) = (1/n) Σ w_i ℓ_i + ½ Σ λ_k θ_k² and its gradients, with θ chosen, copied and laid out."""

import copy
import math

import pytest
import torch

import upweight as uw
from problems import DOUBLE, close, convex, mlp
from upweight.errors import InputError

SQUARES = uw.losses.SquaredError()


def test_risk_and_gradient_are_those_of_the_plain_formula(trained):
    objective = trained.objective()
    theta = trained.theta + 0.1
    assert objective.risk() == pytest.approx(float(trained.risk(trained.theta)), rel=1e-12)
    assert objective.risk(theta) == pytest.approx(float(trained.risk(theta)), rel=1e-12)
    close(objective.gradient(theta), torch.func.jacrev(trained.risk)(theta))
    close(objective.losses(), trained.losses(trained.theta))
    close(objective.losses(trained.queries, theta), trained.query_losses(theta))
    risks, gradients = objective.risks_and_gradients(torch.stack([theta, trained.theta]))
    close(risks, torch.stack([trained.risk(theta), trained.risk(trained.theta)]))
    close(gradients[0], objective.gradient(theta))


def test_theta_is_laid_out_as_the_models_parameters():
    problem = mlp()
    objective = problem.objective()
    close(objective.params, problem.theta)
    named = objective.layout.unflatten(objective.params)
    assert list(named) == [name for name, _ in problem.model.named_parameters()]
    for name, value in problem.model.named_parameters():
        close(named[name], value.detach())
    rows = torch.stack([objective.params, 2 * objective.params])
    close(objective.layout.flatten(objective.layout.unflatten(rows)), rows)


def test_weights_multiply_examples_and_penalties_multiply_their_parameters():
    problem = convex("softmax")
    weights = torch.linspace(0, 2, problem.n, dtype=DOUBLE)
    objective = problem.objective(weights=weights, l2={"weight": 0.3})
    weight = problem.model.weight.detach()
    expected = weights @ problem.losses(problem.theta) / problem.n + 0.15 * (weight**2).sum()
    assert objective.risk() == pytest.approx(float(expected), rel=1e-12)
    (rows,) = (gradients for _, gradients in objective.example_gradients())
    close(rows, weights[:, None] * problem.gradients())
    vectors = torch.randn(2, objective.p, dtype=DOUBLE)
    close(objective.inner(vectors), vectors @ rows.T)
    close(objective.inner(vectors, [5, 2]), vectors @ rows[[5, 2]].T)


def test_later_patterns_of_penalties_override_earlier_ones():
    objective = mlp().objective(l2={"*": 0.1, "*.bias": 0.0, "2.*": 0.2})
    named = objective.layout.unflatten(objective.l2)
    assert {name: value.unique().tolist() for name, value in named.items()} == {
        "0.weight": [0.1],
        "0.bias": [0.0],
        "2.weight": [0.2],
        "2.bias": [0.2],
    }


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (None, ["0.weight", "0.bias", "2.weight", "2.bias"]),
        (["2.*"], ["2.weight", "2.bias"]),
        ("*.bias", ["0.bias", "2.bias"]),
        (["2.bias", "0.weight"], ["0.weight", "2.bias"]),
        (lambda name, value: value.dim() == 2, ["0.weight", "2.weight"]),
    ],
)
def test_parameters_are_selected_by_name_pattern_or_function(parameters, expected):
    problem = mlp()
    objective = problem.objective(parameters=parameters)
    assert list(objective.layout.names) == expected
    whole = problem.objective()
    named = whole.layout.unflatten(problem.gradients())
    for _, rows in objective.example_gradients():
        close(rows, torch.cat([named[name].flatten(1) for name in expected], 1))


def test_frozen_parameters_are_left_out():
    problem = mlp()
    model = copy.deepcopy(problem.model)
    model[0].requires_grad_(False)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (problem.x, problem.y))
    assert objective.layout.names == ("2.weight", "2.bias")
    assert objective.is_linear


def test_stationarity_has_the_figures_of_the_formula(trained):
    theta = trained.theta + 0.1
    found = trained.objective().at(theta).stationarity()
    rows = torch.func.jacrev(trained.losses)(theta)
    mean = rows.mean(0)
    assert found.gradient_norm == pytest.approx(float((mean + trained.l2 * theta).norm()))
    noise = math.sqrt(float((rows - mean).pow(2).sum(1).mean()) / trained.n)
    assert found.noise == pytest.approx(noise)
    assert found.ratio == pytest.approx(found.gradient_norm / noise)
    assert found.example_scale == pytest.approx(float(rows.pow(2).sum(1).mean().sqrt()) / trained.n)
    assert trained.objective().stationarity().ratio < 1e-8


def test_theta_is_copied_when_the_objective_is_made():
    problem = mlp()
    model = copy.deepcopy(problem.model)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (problem.x, problem.y), l2=problem.l2)
    before = [objective.outputs(), objective.losses(), objective.gradient(), objective.params.clone()]
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1)
    for later in (objective, objective.replace(batch_size=3)):
        after = [later.outputs(), later.losses(), later.gradient(), later.params]
        for was, now in zip(before, after, strict=True):
            close(now, was)


def test_another_theta_and_another_precision_come_with_a_copy_of_the_model():
    problem = mlp()
    objective = problem.objective()
    moved = objective.at(objective.params + 1)
    close(moved.params, objective.params + 1)
    close(moved.losses(), problem.losses(problem.theta + 1))
    close(moved.outputs(), moved.model(problem.x).detach())
    single = objective.to(torch.float32)
    assert single.dtype == single.data.take([0])[0].dtype == torch.float32
    assert single.data.take([0])[1].dtype == torch.long
    assert objective.to(DOUBLE) is objective
    close(problem.theta, objective.params)


@pytest.mark.parametrize("indices", [[3, 1], (3, 1), torch.tensor([3, 1]), range(1, 4, 2), torch.tensor([[3], [1]])])
def test_positions_are_read_from_anything_that_lists_them(indices):
    expected = {1: [3], 2: [3, 1]}
    got = convex("ridge").objective().positions(indices).tolist()
    assert got in ([3, 1], [1, 3], expected[1])


def test_a_mask_selects_where_it_is_true():
    mask = torch.zeros(24, dtype=torch.bool)
    mask[[5, 2]] = True
    assert convex("ridge").objective().positions(mask).tolist() == [2, 5]
    assert convex("ridge").objective().positions(mask.numpy()).tolist() == [2, 5]


def test_outputs_are_those_of_the_model_as_the_loss_sees_them():
    problem = mlp()
    close(problem.objective().outputs(), problem.model(problem.x).detach())
    close(problem.objective(batch_size=4).outputs(problem.queries), problem.model(problem.query_x).detach())


def test_what_an_objective_is_can_be_read():
    assert repr(convex("softmax").objective()) == (
        "Objective(Linear, CrossEntropy, n=24, p=12, l2=[0.05], float64 on cpu)"
    )
    assert "l2=none" in repr(convex("softmax").objective(l2=0.0))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (3, r"give a list of positions, such as \[3\] or \[3, 5\]; got 3 of 0 dimensions"),
        ([[1, 2], [3, 4]], "of 2 dimensions"),
        ([], "at least one whole-number position below n=24"),
        ([0.5], "whole-number position"),
        ([1 + 2j], "whole-number position"),
        (None, "whole-number position"),
        (["a"], "whole-number position"),
        ([24], r"must be in 0 … 23; got 24 … 24"),
        ([-1, 2], r"must be in 0 … 23; got -1 … 2"),
        ([3, 4, 3], "3 is named 2 times"),
        ([True, False], "mask"),
    ],
)
def test_positions_that_name_no_example_are_refused(indices, message):
    with pytest.raises(InputError, match=f"indices: .*{message}"):
        convex("ridge").objective().positions(indices)


def test_another_precision_keeps_the_copied_parameters_when_the_model_trains_on():
    model = torch.nn.Linear(2, 1, dtype=torch.float64)
    objective = uw.Objective(model, uw.losses.SquaredError(), (torch.ones(3, 2), torch.ones(3)))
    before = objective.params.clone()
    with torch.no_grad():
        model.weight.add_(1)
    torch.testing.assert_close(objective.to(torch.float32).params, before.float())


@pytest.mark.parametrize(("n", "expected"), [(1, [0, 0]), (2, [0, 1]), (3, [0, 1, 2]), (24, [0, 12, 23])])
def test_derivatives_are_checked_on_examples_from_all_over_the_data(n, expected):
    x = torch.arange(n, dtype=DOUBLE)[:, None]
    objective = uw.Objective(torch.nn.Linear(1, 1, dtype=DOUBLE), SQUARES, (x, x), l2=0.1)
    assert objective.problem.probe()[0].flatten().tolist() == expected


@pytest.mark.parametrize("position", [0, -1])
def test_coverage_looks_at_the_first_example_and_the_last(position):
    x = torch.ones(100, 2, dtype=DOUBLE)
    x[:, 1] = 0
    x[position, 1] = 1  # the only one that the second layer hears of

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))

        def forward(self, x):
            return self.first(x[:, :1]) + self.second(x[:, 1:])

    targets = torch.full((100, 1), 9.0, dtype=DOUBLE)
    model = Two().double()
    model.second.requires_grad_(False)
    norms = {part.name: part.norm for part in uw.Objective(model, SQUARES, (x, targets), l2=0.1).coverage().parts}
    assert norms["second.weight"] > 0
