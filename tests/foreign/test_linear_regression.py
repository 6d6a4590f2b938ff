"""Influences of linear regression in closed form, for every inverse that is exact there.

With d = (x, 1), r = Wd − y and M = Σ w d dᵀ/n: ∇ℓ = r ⊗ d and H = I ⊗ (M + λI), so that
I_up,loss(z, q) = −w_z (r_q·r_z) d_qᵀ(M + (λ+δ)I)⁻¹d_z (Koh & Liang 2017, eq. 2), and with S = r_q ⊗ (M + (λ+δ)I)⁻¹d_q
I_pert,loss = −w_z (S_xᵀ r_z + W_xᵀ S d_z) (eq. 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import upweight as uw
from foreign.plain import Plain, drawn, squares, weights_of
from problems import DOUBLE, close
from upweight.curvature import GGN, Fisher, Hessian
from upweight.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*not at an optimum")
DAMPING = 0.5


@dataclass(frozen=True)
class Closed:
    """The closed form, in NumPy."""

    problem: Plain
    query_x: torch.Tensor
    query_y: torch.Tensor

    def sides(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        d = np.c_[x.numpy(), np.ones(len(x))]
        return d, d @ self.weight.T - y.numpy()

    @property
    def weight(self) -> np.ndarray:
        layer = self.problem.model
        assert isinstance(layer, nn.Linear)
        return np.c_[layer.weight.detach().numpy(), layer.bias.detach().numpy()]

    @property
    def example_weights(self) -> np.ndarray:
        return (self.problem.counts * self.problem.n).numpy()

    def matrix(self) -> np.ndarray:
        d, _ = self.sides(self.problem.x, self.problem.y)
        return (self.example_weights[:, None] * d).T @ d / len(d) + (self.problem.l2 + DAMPING) * np.eye(d.shape[1])

    def upweight(self, of_train: bool = False) -> np.ndarray:
        d, r = self.sides(self.problem.x, self.problem.y)
        d_q, r_q = (d, r) if of_train else self.sides(self.query_x, self.query_y)
        return -(r_q @ r.T) * (d_q @ np.linalg.solve(self.matrix(), d.T)) * self.example_weights

    def perturbation(self, query: int, train: int) -> np.ndarray:
        d, r = self.sides(self.problem.x[train : train + 1], self.problem.y[train : train + 1])
        d_q, r_q = self.sides(self.query_x[query : query + 1], self.query_y[query : query + 1])
        s = np.outer(r_q[0], np.linalg.solve(self.matrix(), d_q[0]))
        pull = s[:, :-1].T @ r[0] + self.weight[:, :-1].T @ (s @ d[0])
        return -self.example_weights[train] * pull


SIZES = {  # inputs, outputs, training examples, queries, l2, weighted, seed
    "one input": (1, 1, 6, 3, 0.0, False, 0),
    "several outputs": (4, 3, 20, 5, 0.1, False, 1),
    "weighted": (3, 2, 15, 4, 0.02, True, 2),
    "more parameters than examples": (12, 2, 8, 2, 0.05, True, 3),
    "many outputs": (4, 20, 60, 6, 0.1, False, 4),
}
INVERSES: dict[str, tuple[Any, float]] = {
    "direct": (lambda p: uw.inverse.Dense(Hessian(), damping=DAMPING), 1e-9),
    "direct, eigen": (lambda p: uw.inverse.Dense(GGN(), damping=DAMPING, method="eigen"), 1e-9),
    "dual": (lambda p: uw.inverse.Dual(GGN(), damping=DAMPING), 1e-9),
    "cg": (lambda p: uw.inverse.CG(Hessian(), damping=DAMPING, tolerance=1e-12), 1e-8),
    "cg, diagonal before": (
        lambda p: uw.inverse.CG(
            GGN(), damping=DAMPING, tolerance=1e-12, preconditioner=uw.inverse.Diagonal(GGN(), damping=DAMPING)
        ),
        1e-8,
    ),
    "cg, Nyström before": (
        lambda p: uw.inverse.CG(
            GGN(), damping=DAMPING, tolerance=1e-12, preconditioner=uw.inverse.Nystrom(2, GGN(), damping=DAMPING)
        ),
        1e-8,
    ),
    "lsmr": (lambda p: uw.inverse.LSMR(Hessian(), damping=DAMPING, tolerance=1e-12), 1e-7),
    "lissa": (lambda p: uw.inverse.LiSSA(Hessian(), damping=DAMPING, batch_size=None, repeats=1, bias=1e-6), 1e-4),
    "arnoldi": (lambda p: uw.inverse.Arnoldi(p, GGN(), damping=DAMPING), 1e-7),
    "nyström": (lambda p: uw.inverse.Nystrom(p, GGN(), damping=DAMPING), 1e-7),
    "ekfac": (lambda p: uw.inverse.EKFAC(GGN(), damping=DAMPING), 1e-9),
    "ekfac of the Fisher itself": (lambda p: uw.inverse.EKFAC(Fisher(None), damping=DAMPING), 1e-9),
    "kfac": (lambda p: uw.inverse.KFAC(GGN(), damping=DAMPING, damping_rule="eigenvalue"), 1e-9),
}
sizes = pytest.mark.parametrize("size", SIZES)
inverses = pytest.mark.parametrize("name", INVERSES)


@cache
def regression(size: str) -> Closed:
    """A linear model near noisy targets, not fitted to them."""
    d, c, n, m, l2, weighted, seed = SIZES[size]
    layer = nn.Linear(d, c, dtype=DOUBLE)
    with torch.no_grad():
        layer.weight.copy_(drawn(seed, c, d))
        layer.bias.copy_(drawn(seed + 1, c))
    x, query_x = drawn(seed + 2, n, d), drawn(seed + 3, m, d)
    y, query_y = (layer(each).detach() + 0.3 * drawn(seed + 4, len(each), c) for each in (x, query_x))
    problem = Plain(layer, squares, x, y, l2, weights_of(n) if weighted else None)
    return Closed(problem, query_x, query_y)


@cache
def influence(size: str, name: str) -> uw.Influence:
    objective = regression(size).problem.objective()
    return uw.Influence(objective, INVERSES[name][0](objective.p))


@inverses
@sizes
def test_upweighting_has_its_closed_form(size: str, name: str) -> None:
    closed, rtol = regression(size), INVERSES[name][1]
    given = influence(size, name)
    wanted = closed.upweight()
    queries = (closed.query_x, closed.query_y)
    found = given.attribute(queries, quantity="upweight").scores
    close(found, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())
    removed = given.attribute(queries).scores
    close(removed, -wanted / closed.problem.n, rtol=rtol, atol=rtol * np.abs(wanted).max())
    moved = given.query_gradients(queries) @ given.parameters(range(closed.problem.n)).T
    close(moved, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())


@inverses
@sizes
def test_perturbation_has_its_closed_form(size: str, name: str) -> None:
    closed, rtol = regression(size), INVERSES[name][1]
    for query, train in ((0, 1), (1, closed.problem.n - 1)):
        one = (closed.query_x[query : query + 1], closed.query_y[query : query + 1])
        found = influence(size, name).perturbation(train, one).gradient
        wanted = closed.perturbation(query, train)
        close(found, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())


@inverses
@pytest.mark.parametrize("size", ["several outputs", "weighted"])
def test_the_training_data_as_queries_give_a_symmetric_kernel_and_self_influence(size: str, name: str) -> None:
    closed, rtol = regression(size), INVERSES[name][1]
    wanted = closed.upweight(of_train=True)
    problem = closed.problem
    found = influence(size, name).attribute((problem.x, problem.y), quantity="upweight").scores
    close(found, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())
    kernel = found / torch.as_tensor(closed.example_weights)
    close(kernel, kernel.T, rtol=rtol, atol=rtol * float(kernel.abs().max()))
    own = influence(size, name).self_influence().scores
    close(own, -np.diag(wanted) / problem.n, rtol=rtol, atol=rtol * np.abs(wanted).max())


@inverses
def test_solutions_of_queries_serve_any_training_examples(name: str) -> None:
    """∇L_qᵀ(H+δI)⁻¹ is made once; its products with gradients are the scores, of all examples or of a few."""
    closed, rtol = regression("several outputs"), INVERSES[name][1]
    given = influence("several outputs", name)
    queries = (closed.query_x, closed.query_y)
    solution, _ = given.query_solution(queries)
    wanted = closed.upweight()
    close(-solution.x @ closed.problem.gradients().T, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())
    some = [3, 0, 7]
    found = given.attribute(queries, quantity="upweight", train=some).scores
    close(found, wanted[:, some], rtol=rtol, atol=rtol * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["direct", "ekfac", "dual"])
def test_queries_without_their_targets_are_refused(name: str) -> None:
    closed = regression("several outputs")
    with pytest.raises(InputError):
        influence("several outputs", name).attribute((closed.query_x,))
