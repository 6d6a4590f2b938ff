"""L-BFGS on many problems at once, against their known minima and SciPy's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from problems import DOUBLE, close
from symmetric import SPECTRA, rows, with_spectrum
from upweight.linalg.lbfgs import Minimum, minimise

MATRICES = torch.stack([with_spectrum(SPECTRA["even"], seed) for seed in range(4)])
SLOPES = rows(4, 12)
MINIMA = torch.linalg.solve(MATRICES, SLOPES.unsqueeze(-1)).squeeze(-1)


def quadratics(x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    pushed = torch.einsum("kij,kj->ki", MATRICES[numbers], x)
    return (0.5 * pushed * x - SLOPES[numbers] * x).sum(1), pushed - SLOPES[numbers]


def logistic(x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """A convex function with another offset for each problem."""
    inputs = rows(30, x.shape[1], 5)
    margins = x @ inputs.T - numbers[:, None].to(x)
    values = torch.nn.functional.softplus(margins).sum(1) + 0.5 * (x**2).sum(1)
    return values, margins.sigmoid() @ inputs + x


def run(
    evaluate: Any, count: int, size: int, precondition: Any = lambda v: v, limit: int = 300, tolerance: float = 1e-9
) -> Minimum:
    start = torch.zeros(count, size, dtype=DOUBLE)
    at_start = evaluate(start, torch.arange(count))
    return minimise(evaluate, start, at_start, precondition, torch.full((count,), tolerance, dtype=DOUBLE), limit)


def test_many_quadratics_have_their_minima() -> None:
    found = run(quadratics, 4, 12)
    close(found.params, MINIMA, rtol=1e-6, atol=1e-7)
    assert (found.gradient_norms <= 1e-9).all()
    close(found.gradient_norms, quadratics(found.params, torch.arange(4))[1].norm(dim=1), atol=1e-14)


@pytest.mark.parametrize("count", [1, 5])
def test_convex_functions_have_scipys_minima(count: int) -> None:
    found = run(logistic, count, 6)
    for number, params in enumerate(found.params):

        def one(x, number=number):
            value, gradient = logistic(torch.as_tensor(x)[None], torch.tensor([number]))
            return float(value), gradient[0].numpy()

        close(params, minimize(one, [0.0] * 6, jac=True, method="BFGS", tol=1e-10).x, rtol=1e-5, atol=1e-6)


def test_problems_dont_know_of_each_other() -> None:
    # From ‖gradient‖ ≤ 1e-6 and curvature ≥ 1 the minimum is within 1e-6; closer by, rounding of the values decides.
    together = run(logistic, 3, 6, tolerance=1e-6).params
    for number in range(3):
        alone = run(lambda x, _, number=number: logistic(x, torch.full((len(x),), number)), 1, 6, tolerance=1e-6).params
        close(alone[0], together[number], atol=2e-6, rtol=0)


def test_the_exact_inverse_hessian_takes_one_step() -> None:
    shared = MATRICES[0]
    inverse = torch.linalg.inv(shared)

    def alike(x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        pushed = x @ shared
        return (0.5 * pushed * x - SLOPES[numbers] * x).sum(1), pushed - SLOPES[numbers]

    found = run(alike, 4, 12, precondition=lambda v: v @ inverse)
    assert found.evaluations.tolist() == [1, 1, 1, 1]
    assert run(alike, 4, 12).evaluations.min() > 5


def test_those_that_are_done_leave_the_pass() -> None:
    asked: list[list[int]] = []

    def watched(x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(numbers.tolist())
        return quadratics(x, numbers)

    start = torch.zeros(4, 12, dtype=DOUBLE)
    start[2] = MINIMA[2]
    tolerances = torch.tensor([1e-9, 1e-2, 1e-6, 1e-5], dtype=DOUBLE)
    found = minimise(watched, start, quadratics(start, torch.arange(4)), lambda v: v, tolerances, 300)
    assert (found.gradient_norms <= tolerances).all()
    assert all(2 not in numbers for numbers in asked)
    assert asked[-1] == [0]
    assert found.evaluations.tolist() == [sum(k in numbers for numbers in asked) for k in range(4)]


def test_a_kink_without_a_small_gradient_ends_by_itself() -> None:
    def kinked(x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        return (x - 0.3).abs().sum(1), (x - 0.3).sign()

    found = run(kinked, 2, 3, limit=10_000)
    assert (found.evaluations < 500).all()
    assert (found.gradient_norms > 1e-9).all()


def test_limits_are_kept_and_the_start_is_left_alone() -> None:
    start = torch.zeros(4, 12, dtype=DOUBLE)
    goal = torch.full((4,), 1e-12, dtype=DOUBLE)
    found = minimise(quadratics, start, quadratics(start, torch.arange(4)), lambda v: v, goal, 3)
    assert found.evaluations.max() == 3
    assert not start.any()
