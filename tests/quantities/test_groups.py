"""Second and Newton orders of groups under every inverse."""

from __future__ import annotations

import warnings

import pytest
import torch

import upweight as uw
from problems import close, convex, mlp
from upweight.errors import NotConvergedWarning

GROUP = [2, 3, 11, 17]
DELTA = 0.05
GGN = uw.curvature.GGN
INVERSES = {
    "Arnoldi": uw.inverse.Arnoldi(6, GGN(), damping=DELTA),
    "CG": uw.inverse.CG(GGN(), damping=DELTA),
    "CG with a preconditioner": uw.inverse.CG(GGN(), damping=DELTA, preconditioner=uw.inverse.EKFAC()),
    "DataInf": uw.inverse.DataInf(damping=DELTA),
    "Dense": uw.inverse.Dense(GGN(), damping=DELTA),
    "Dense by eigenvalues": uw.inverse.Dense(GGN(), damping=DELTA, method="eigen"),
    "Diagonal": uw.inverse.Diagonal(damping=DELTA),
    "Dual": uw.inverse.Dual(damping=DELTA),
    "Dual of the Fisher": uw.inverse.Dual(uw.curvature.Fisher(2), damping=DELTA),
    "Dual of few rows": uw.inverse.Dual(damping=DELTA, rows=5),
    "EKFAC": uw.inverse.EKFAC(damping=DELTA),
    "EKFAC without penalty": uw.inverse.EKFAC(damping=DELTA, penalized=False),
    "KFAC": uw.inverse.KFAC(damping=DELTA),
    "KFAC by eigenvalues": uw.inverse.KFAC(damping=DELTA, damping_rule="eigenvalue"),
    "LSMR": uw.inverse.LSMR(GGN(), damping=DELTA),
    "LiSSA": uw.inverse.LiSSA(GGN(), damping=DELTA, batch_size=None, repeats=1),
    "Nystrom": uw.inverse.Nystrom(6, GGN(), damping=DELTA),
}


@pytest.mark.parametrize("renormalize", [False, True], ids=["weights stay 1/n", "mean of the rest"])
@pytest.mark.parametrize("name", INVERSES)
@pytest.mark.parametrize("kind", ["softmax", "mlp"])
def test_one_newton_step_is_the_same_under_every_inverse_and_a_second_order_lies_there_too(kind, name, renormalize):
    problem = convex("softmax") if kind == "softmax" else mlp()
    n, u, p = problem.n, len(GROUP), len(problem.theta)
    counts = problem.counts_without(GROUP, renormalize=renormalize)
    rest = problem.ggn_of(counts) + (problem.l2 + DELTA) * torch.eye(p, dtype=torch.float64)
    pull = problem.gradients()[GROUP].sum(0)
    pull = (pull + u * problem.l2 * problem.theta) / (n - u) if renormalize else pull / n
    step = torch.linalg.solve(rest, pull)

    influence = uw.Influence(problem.objective(), INVERSES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotConvergedWarning)
        found = influence.group(GROUP, problem.queries, order="newton", renormalize=renormalize).scores[:, 0]
    moved = problem.query_losses(problem.theta + step) - problem.query_losses(problem.theta)
    close(found, moved if kind == "softmax" else problem.query_gradients() @ step, rtol=1e-7, atol=1e-10)

    # second: the inverse's own, twice, with the group's share of the GGN between
    whole = problem.ggn_of(torch.full((n,), 1 / n, dtype=torch.float64)) + problem.l2 * torch.eye(
        p, dtype=torch.float64
    )
    undamped = rest - DELTA * torch.eye(p, dtype=torch.float64)
    first = influence.solve(pull[None]).x
    second = first + influence.solve(first @ (whole - undamped)).x
    found = influence.group(GROUP, problem.queries, order="second", renormalize=renormalize).scores[:, 0]
    close(found, (problem.query_gradients() @ second.T)[:, 0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["softmax", "mlp"])
@pytest.mark.parametrize("order", ["second", "newton"])
def test_the_default_inverse_and_the_identity_take_them(kind, order, dtype):
    problem = convex("softmax") if kind == "softmax" else mlp()
    objective = problem.objective().to(dtype)
    for inverse in (None, uw.inverse.Dual(), uw.inverse.Identity()):
        found = uw.Influence(objective, inverse).group([GROUP, [0]], problem.queries, order=order)
        assert found.scores.shape == (5, 2)
        assert found.scores.dtype == dtype
        assert torch.isfinite(found.scores).all()


def test_single_precision_of_a_linear_model_is_solved_in_double():
    problem = convex("softmax", l2=1e-5)
    wanted = uw.Influence(problem.objective(), uw.inverse.Dense()).group(GROUP, problem.queries, order="newton").scores
    objective = problem.objective().to(torch.float32)
    found = uw.Influence(objective, uw.inverse.Dense()).group(GROUP, problem.queries, order="newton").scores
    assert (found - wanted).norm() < 1e-3 * wanted.norm()


def test_a_users_own_loss_has_its_hessian():
    problem = convex("logistic")

    def loss(model, batch):
        return problem.compare(model(batch[0]), batch[1])

    influence = uw.Influence(
        problem.objective(loss=uw.losses.Function(loss)), uw.inverse.Dual(uw.curvature.EmpiricalFisher(), damping=DELTA)
    )
    counts = problem.counts_without(GROUP)
    matrix = problem.hessian(counts) + DELTA * torch.eye(len(problem.theta), dtype=torch.float64)
    step = torch.linalg.solve(matrix, problem.gradients()[GROUP].sum(0) / problem.n)
    found = influence.group(GROUP, problem.queries, order="newton").scores[:, 0]
    close(found, problem.query_gradients() @ step, rtol=1e-7)
