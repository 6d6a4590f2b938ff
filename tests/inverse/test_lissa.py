"""LiSSA is the Neumann series, unbiased by single examples, at a scale and depth that it finds."""

import math

import numpy as np
import pytest
import torch

import upweight as uw
from problems import DOUBLE, close, convex
from solvers import exact, spd
from upweight.curvature import Matrix
from upweight.errors import DivergedError
from upweight.inverse import LiSSA
from upweight.inverse.lissa import largest_eigenvalue


def neumann(matrix, vectors, scale, depth):
    values, q = torch.linalg.eigh(matrix)
    return vectors @ q @ torch.diag((1 - (1 - values / scale) ** (depth + 1)) / values) @ q.T


@pytest.mark.parametrize("depth", [1, 7, 60])
@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_lissa_is_the_neumann_series(depth, damping):
    matrix, vectors = spd(), torch.randn(3, 12, dtype=DOUBLE)
    inverse = LiSSA(batch_size=None, repeats=2, scale=3.0, depth=depth, damping=damping)
    expected = neumann(matrix + damping * torch.eye(12), vectors, 3.0, depth)
    close(inverse.fit(Matrix(matrix)).solve(vectors).x, expected)


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_the_damping_of_lissa_is_not_multiplied_by_its_scale(damping):
    matrix, vectors = spd(), torch.randn(3, 12, dtype=DOUBLE)
    answers = [
        LiSSA(batch_size=None, repeats=1, scale=scale, depth=4000, damping=damping).fit(Matrix(matrix)).solve(vectors).x
        for scale in (2.0, 10.0)
    ]
    for answer in answers:
        close(answer, exact(matrix, vectors, damping), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("scale", "converges"), [(0.95, False), (1.05, True)])
def test_lissa_converges_below_twice_its_scale_and_is_refused_beyond(scale, converges):
    matrix, vectors = spd(), torch.randn(3, 12, dtype=DOUBLE)  # the largest eigenvalue is 2
    solver = LiSSA(batch_size=None, repeats=1, scale=scale, depth=1000).fit(Matrix(matrix))
    if converges:
        close(solver.solve(vectors).x, exact(matrix, vectors))
    else:
        with pytest.raises(DivergedError, match=r"LiSSA diverged .*scale 0.95.*larger scale"):
            solver.solve(vectors)


@pytest.mark.usefixtures("unchecked")  # for speed
def test_lissa_by_single_examples_is_unbiased_and_knows_its_error():
    problem = convex("logistic")
    vectors = problem.query_gradients()[:1]
    settings = {"batch_size": 1, "scale": 6.0, "depth": 10}
    objective = problem.objective()
    series = neumann(problem.hessian(), vectors, 6.0, 10)
    solution = LiSSA(repeats=150, **settings).fit(objective).solve(vectors)
    spread = solution.repeats.std(0) / math.sqrt(150)
    assert ((solution.x - series).abs() < 4 * spread).all()
    # Many small runs: the error they have is, on the whole, the error they say.
    errors, said = [], []
    for seed in range(20):
        run = LiSSA(repeats=8, seed=1000 * seed, **settings).fit(objective).solve(vectors)
        errors.append(float((run.x - series).norm() / run.x.norm()))
        said.append(float(run.report.standard_error[0]))
    ratio = math.sqrt(np.mean(np.square(errors)) / np.mean(np.square(said)))
    assert 0.6 < ratio < 1.5


def test_lissa_finds_a_scale_and_depth_that_converge():
    problem = convex("ridge")
    solver = LiSSA(batch_size=None, repeats=1, bias=1e-6).fit(problem.objective())
    assert solver.settings.scale > torch.linalg.eigvalsh(problem.hessian())[-1] / 2
    vectors = problem.query_gradients()
    close(solver.solve(vectors).x, exact(problem.hessian(), vectors), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("extreme", [7.0, -7.0])
def test_the_largest_eigenvalue_is_found_by_its_size(extreme):
    matrix = torch.diag(torch.tensor([0.5, extreme, 1.0, -2.0], dtype=DOUBLE))
    assert largest_eigenvalue(Matrix(matrix), None, torch.Generator().manual_seed(0)) == pytest.approx(7.0, rel=1e-4)


def test_without_curvature_the_largest_eigenvalue_is_taken_as_one():
    assert largest_eigenvalue(Matrix(torch.zeros(3, 3, dtype=DOUBLE)), None, torch.Generator()) == 1.0


def test_the_seed_decides_lissa():
    problem = convex("logistic")
    objective, vectors = problem.objective(), problem.query_gradients()
    settings = {"batch_size": 4, "repeats": 2, "depth": 30, "scale": 4.0}
    one, same, other = (LiSSA(seed=seed, **settings).fit(objective).solve(vectors).x for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_scale_of_lissa_follows_its_damping_unless_it_was_given():
    operator = Matrix(spd())
    found, given = (
        LiSSA(scale=scale, batch_size=None, damping=0.1).fit(operator).with_damping(0.7).settings.scale
        for scale in (None, 5.0)
    )
    assert found == LiSSA(batch_size=None, damping=0.7).fit(operator).settings.scale
    assert given == 5.0


def test_lissa_does_not_choose_millions_of_steps_for_a_tiny_penalty():
    model = torch.nn.Linear(2, 1, dtype=torch.float64)
    x = torch.eye(2, dtype=torch.float64).repeat(4, 1)
    objective = uw.Objective(model, uw.losses.SquaredError(), (x, x[:, 0]), l2=1e-9)
    assert uw.inverse.LiSSA(batch_size=None).fit(objective).settings.depth == 50_000
