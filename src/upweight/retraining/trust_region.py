"""From any θ to a stationary point of a risk that need not be convex, by Newton's method in a trust region.

The step minimises the quadratic model of R within a radius, by Steihaug's conjugate gradients (Nocedal & Wright 2006,
algorithms 4.1 and 7.2): where the Hessian curves downwards it is followed to the edge of the region instead of being
damped away, so that the walk leaves saddles and ends, but for them, at a minimum. It differs from the textbook in:
1. lengths are measured in the preconditioner's norm, which conjugate gradients then know without a product with it
(Conn, Gould & Toint 2000, section 7.5.1); 2. products with the Hessian are made in float32, at half the cost, since a
direction need not be exact: R and ∇R are in the objective's own precision; 3. where R is equal to rounding, a smaller
gradient is progress.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Curvature, Hessian
from upweight.errors import InputError, NotConvergedWarning, warn
from upweight.inverse import Solver, precondition
from upweight.linalg.lobpcg import smallest_eigenvalue
from upweight.linalg.rows import Apply
from upweight.linalg.trust_region import descend
from upweight.objective import Objective
from upweight.retraining.fit import checked_tolerance

DECOMPOSED_UP_TO = 200


@dataclass(frozen=True)
class Descent:
    """A walk to a stationary point.

    Attributes
    ----------
    objective
        The objective with its model at the end.
    risks, gradient_norms
        R and ‖∇R‖ at the start and after every step, ``[steps + 1]``.
    products
        Products with the Hessian in all.
    negative
        dᵀHd/dᵀd of the downward directions that were followed, by the number of the step.
    radius
        Of the region that the next step would have.
    converged
        Whether ‖∇R‖ reached the tolerance.
    seconds
        Wall time.
    """

    objective: Objective
    risks: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    products: int
    negative: dict[int, float]
    radius: float
    converged: bool
    seconds: float

    def __str__(self) -> str:
        curved = f"; {len(self.negative)} of them along negative curvature" if self.negative else ""
        return (
            f"R {self.risks[0]:.6g} → {self.risks[-1]:.6g}, ‖∇R‖ {self.gradient_norms[0]:.1e} → "
            f"{self.gradient_norms[-1]:.1e} in {len(self.risks) - 1} steps ({self.products} products with the "
            f"Hessian{curved})"
        )


def trust_region(
    objective: Objective,
    *,
    tolerance: float | None = None,
    solver: Solver | None = None,
    curvature: Curvature | None = None,
    radius: float = 1.0,
    max_iterations: int = 100,
    max_products: int = 200,
) -> Descent:
    """Walk downhill from the objective's θ to ‖∇R‖ ≤ ``tolerance``; the given model is left as it is.

    Parameters
    ----------
    tolerance
        ‖∇R‖ to reach (default 1e-9 in float64, 1e-5 in float32); a warning says when it wasn't.
    solver
        A fitted positive definite inverse near (H+δI)⁻¹ to precondition with, e.g. of the GGN, in any precision.
    curvature
        The matrix of the quadratic model (default: the Hessian).
    radius
        Of the first region, in the preconditioner's norm; a walk that goes on with another preconditioner gives the
        one before's.
    max_iterations, max_products
        Steps, and products with the Hessian in one step.

    Raises
    ------
    InputError
        If a number is impossible, or the solver is of another number of parameters.
    """
    kinds.check(trust_region, locals())
    goal = checked_tolerance(objective, tolerance)
    radius = scalars.number("radius", radius, above=0)
    scalars.whole("max_iterations", max_iterations)
    scalars.whole("max_products", max_products)
    if solver is not None and solver.operator.size != objective.p:
        raise InputError(
            f"solver: it inverts a matrix of {solver.operator.size:,} rows; the model has p={objective.p:,}"
        )
    started = time.perf_counter()
    single, matrix = objective.to(torch.float32), curvature or Hessian()

    def evaluate(theta: Tensor) -> tuple[float, Tensor]:
        risks, gradients = objective.risks_and_gradients(theta[None])
        return float(risks[0]), gradients[0]

    walk = descend(
        evaluate,
        lambda theta: _in_single(matrix, single, theta),
        objective.params,
        goal,
        precondition=lambda rows: rows if solver is None else precondition(solver, rows),
        radius=radius,
        max_iterations=max_iterations,
        max_products=max_products,
    )
    result = Descent(
        objective.at(walk.point),
        walk.values,
        walk.gradient_norms,
        walk.products,
        walk.negative,
        walk.radius,
        walk.gradient_norms[-1] <= goal,
        time.perf_counter() - started,
    )
    if not result.converged:
        warn(
            f"trust_region: {result}, tolerance {goal:.0e} not reached; use float64 (objective.to(torch.float64)), "
            "more max_iterations or a larger tolerance",
            NotConvergedWarning,
        )
    return result


def lowest_curvature(
    objective: Objective,
    *,
    solver: Solver | None = None,
    curvature: Curvature | None = None,
    max_iterations: int = 40,
    seed: int = 0,
) -> float:
    """The smallest eigenvalue of the Hessian of R: exact for small p, else an upper bound by LOBPCG (Knyazev 2001).

    Negative: θ is a saddle or is still on the way, and influence needs a damping above its size.

    Parameters
    ----------
    objective
        At the θ in question.
    solver
        As for `trust_region`; it brings the bound to the eigenvalue in few iterations.
    curvature
        Another matrix than the Hessian.
    max_iterations
        Products with a block of vectors.
    seed
        Of the vectors that LOBPCG starts from.
    """
    kinds.check(lowest_curvature, locals())
    scalars.whole("max_iterations", max_iterations)
    scalars.seed("seed", seed)
    matrix = curvature or Hessian()
    if objective.p <= DECOMPOSED_UP_TO:
        return float(torch.linalg.eigvalsh(matrix.of(objective).dense().double())[0])
    operator = matrix.of(objective.to(torch.float32))
    return smallest_eigenvalue(
        lambda rows: operator.apply(rows.float()),
        objective.p,
        max_iterations,
        precondition=None if solver is None else lambda rows: precondition(solver, rows.float()),
        seed=seed,
    )


def _in_single(matrix: Curvature, single: Objective, theta: Tensor) -> Apply:
    """Products with the curvature at θ, in float32 inside."""
    operator = matrix.of(single.at(theta.float()))
    return lambda rows: operator.apply(rows.float()).double()
