"""I_pert,loss against replacement by a moved example, retraining on it, and the closed form."""

import pytest
import torch

from problems import DOUBLE, close, convex, mlp
from removals import exact
from upweight.errors import InputError

INDEX = 6


def query(problem):
    return problem.query_x[:1], problem.query_y[:1]


@pytest.mark.parametrize("problem", [convex("logistic"), convex("softmax"), mlp()], ids=["logistic", "softmax", "mlp"])
def test_perturbation_is_the_limit_of_replacement(problem):
    influence = exact(problem)
    gradient = influence.perturbation(INDEX, query(problem)).gradient
    assert gradient.shape == problem.x[INDEX].shape
    step = 1e-5
    for k in range(3):
        scores = []
        for sign in (1, -1):
            moved = problem.x[INDEX : INDEX + 1].clone()
            moved[0, k] += sign * step
            examples = (moved, problem.y[INDEX : INDEX + 1])
            scores.append(influence.replacement([INDEX], examples, query(problem)).scores[0, 0])
        # replacement is the change at weight 1/n
        close(gradient[k] / problem.n, (scores[0] - scores[1]) / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["ridge", "logistic", "softmax"])
def test_perturbation_is_the_finite_difference_of_retraining_on_the_moved_example(name):
    problem, step = convex(name), 1e-4
    perturbation = exact(problem).perturbation(INDEX, query(problem))
    for k in range(3):
        losses = []
        for sign in (1, -1):
            x = problem.x.clone()
            x[INDEX, k] += sign * step
            theta = problem.at_optimum(x=x).theta
            losses.append(problem.query_losses(theta)[0])
        change = torch.zeros(3, dtype=DOUBLE)
        change[k] = 2 * step
        assert perturbation.predicted_change(change) == pytest.approx(float(losses[0] - losses[1]), rel=1e-5, abs=1e-12)


def test_several_queries_are_averaged():
    problem = convex("softmax")
    influence = exact(problem)
    single = [
        influence.perturbation(INDEX, (problem.query_x[i : i + 1], problem.query_y[i : i + 1])).gradient
        for i in range(5)
    ]
    close(influence.perturbation(INDEX, problem.queries).gradient, torch.stack(single).mean(0))


def test_the_quantity_says_the_unit_of_the_measurement():
    problem = convex("softmax")
    quantity = exact(problem).perturbation(INDEX, query(problem), measurement="margin").quantity
    assert quantity.unit == "nats per unit of input"
    assert "1/n" in quantity.words


@pytest.mark.parametrize("wrt", ["x", 5, 1])
def test_an_input_that_cannot_be_moved_is_refused(wrt):
    problem = convex("softmax")
    with pytest.raises(InputError, match=r"wrt: .* names no floating-point tensor of the batch; those are \[0\]"):
        exact(problem).perturbation(INDEX, query(problem), wrt=wrt)
