"""What removal is when data, weights, losses or damping are other: repeated, doubled, scaled, replaced."""

import torch

import upweight as uw
from problems import DOUBLE, close, convex
from removals import exact


def test_weights_are_what_repeating_examples_does():
    """Weight 2 on an example is that example twice: removal of both is the removal of the weighted one."""
    problem = convex("logistic")
    weights = torch.ones(problem.n, dtype=DOUBLE)
    weights[4] = 2
    repeated = (torch.cat([problem.x, problem.x[4:5]]), torch.cat([problem.y, problem.y[4:5]]))
    n = problem.n
    weighted = exact(problem, weights=weights, l2=0.05 * (n + 1) / n)
    one = weighted.attribute(problem.queries).scores
    both = exact(problem, data=repeated, l2=0.05).group([4, n], problem.queries).scores[:, 0]
    close(one[:, 4], both)


def test_losses_times_c_with_l2_times_c_are_removal_times_c():
    problem, c = convex("ridge"), 3.0
    double = problem.objective(loss=uw.losses.SquaredError(0.5 * c), l2=c * problem.l2)
    one, scaled = (
        uw.Influence(objective, uw.inverse.Dense()).attribute(problem.queries).scores
        for objective in (problem.objective(), double)
    )
    close(scaled, c * one)


def test_damping_is_what_is_added_to_the_curvature(trained):
    identity = torch.eye(len(trained.theta), dtype=DOUBLE)
    for damping in (0.0, 0.01, 1.0):
        influence = uw.Influence(trained.objective(), uw.inverse.Dense(damping=damping))
        inverse = (trained.hessian() + damping * identity).inverse()
        expected = trained.query_gradients() @ inverse @ trained.gradients().T / trained.n
        close(influence.attribute(trained.queries).scores, expected)
        assert influence.attribute(trained.queries).damping == damping


def test_two_copies_of_an_example_have_equal_influence():
    problem = convex("softmax")
    twice = problem.at_optimum(x=torch.cat([problem.x, problem.x[3:4]]), y=torch.cat([problem.y, problem.y[3:4]]))
    scores = exact(twice).attribute(problem.queries).scores
    close(scores[:, 3], scores[:, -1])


def test_doubling_the_data_keeps_theta_and_curvature_and_halves_removal(convex):
    double = convex.objective(data=(torch.cat([convex.x] * 2), torch.cat([convex.y] * 2)))
    close(double.gradient(), torch.zeros(double.p))
    close(uw.curvature.Hessian().of(double).dense(), convex.hessian())
    scores = uw.Influence(double, uw.inverse.Dense()).attribute(convex.queries).scores
    close(scores[:, : convex.n], exact(convex).attribute(convex.queries).scores / 2)
    close(scores[:, convex.n :], scores[:, : convex.n])
