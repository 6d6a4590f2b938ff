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
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import lobpcg
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Curvature, Hessian
from upweight.inverse import Solver, precondition
from upweight.messages import InputError, NotConvergedWarning, warn
from upweight.objective import Objective
from upweight.retraining.fit import checked_tolerance

ACCEPTED, GOOD = 1e-4, 0.75
"""Shares of the model's promise: below the first a step is refused, above the second the region grows."""
SMALLEST_RADIUS = 1e-12
ROUGHEST = 1e-3
"""Smallest relative residual of a step: below it the next gradient costs less than the last digits."""
DENSE_UP_TO = 200
BLOCK, ACCURACY = 4, 1e-4

Product = Callable[[Tensor], Tensor]


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
    single = objective.to(torch.float32)
    start = _Trial.at(objective, objective.params)
    theta, risk, gradient = start.theta, start.risk, start.gradient
    risks, norms, negative = [risk], [float(gradient.norm())], {}
    products = 0
    matrix = curvature or Hessian()
    product = _product(matrix, single, theta)

    def metric(vector: Tensor) -> Tensor:
        return vector if solver is None else precondition(solver, vector[None])[0]

    for number in range(max_iterations):
        norm = norms[-1]
        if norm <= goal or radius < SMALLEST_RADIUS:
            break
        # The gradient is scaled to 1, and the region with it: float32 has no room for small numbers squared.
        found = steihaug(
            product,
            gradient.double() / norm,
            radius / norm,
            metric,
            max(min(0.1, norm**0.5), ROUGHEST),
            max_products,
        )
        products += found.products
        promised = norm**2 * found.decrease
        trial = _Trial.at(objective, theta + (norm * found.step).to(theta.dtype))
        share = trial.share(risk, norm, promised)
        if share < 0.25:
            radius = min(radius, norm * found.length) / 4
        elif share > GOOD and found.at_edge:
            radius *= 2
        if share < ACCEPTED:
            continue
        if found.negative is not None:
            negative[number] = found.negative
        theta, risk, gradient = trial.theta, trial.risk, trial.gradient
        risks.append(risk)
        norms.append(float(gradient.norm()))
        product = _product(matrix, single, theta)
    result = Descent(
        objective.at(theta),
        tuple(risks),
        tuple(norms),
        products,
        negative,
        radius,
        norms[-1] <= goal,
        time.perf_counter() - started,
    )
    if not result.converged:
        warn(
            f"trust_region: {result}, tolerance {goal:.0e} not reached; use float64 (objective.to(torch.float64)), "
            "more max_iterations or a larger tolerance",
            NotConvergedWarning,
        )
    return result


@dataclass(frozen=True)
class Step:
    """A step of `steihaug`: its length in the preconditioner's norm, and what the quadratic model promises."""

    step: Float[Tensor, " p"]
    length: float
    decrease: float
    at_edge: bool
    negative: float | None
    products: int


def steihaug(
    product: Product,
    gradient: Float[Tensor, " p"],
    radius: float,
    preconditioner: Product,
    accuracy: float,
    max_products: int,
) -> Step:
    """Nearly minimise gᵀs + ½sᵀHs over ‖s‖_M ≤ radius (Nocedal & Wright 2006, algorithm 7.2, preconditioned by M⁻¹).

    ``accuracy``: ‖residual‖ to reach over ‖g‖, both in the norm of M⁻¹.
    """
    step, residual = torch.zeros_like(gradient), gradient.clone()
    towards = preconditioner(residual)
    direction, size = -towards, float(residual @ towards)
    enough = accuracy**2 * size
    inside, mixed, squared = 0.0, 0.0, size  # ‖s‖², sᵀMd and ‖d‖², all in M
    curved = torch.zeros_like(gradient)  # H s
    used, negative, at_edge = 0, None, False
    while used < max_products and size > enough:
        image = product(direction)
        used += 1
        curvature = float(direction @ image)
        length = size / curvature if curvature > 0 else float("inf")
        if curvature <= 0 or inside + 2 * length * mixed + length**2 * squared >= radius**2:
            if curvature <= 0:
                negative = curvature / float(direction @ direction)
            length = (-mixed + (mixed**2 + squared * (radius**2 - inside)) ** 0.5) / squared
            at_edge = True
        step, curved = step + length * direction, curved + length * image
        inside += 2 * length * mixed + length**2 * squared
        if at_edge:
            break
        residual = residual + length * image
        towards = preconditioner(residual)
        previous, size = size, float(residual @ towards)
        ratio = size / previous
        mixed, squared = ratio * (mixed + length * squared), size + ratio**2 * squared
        direction = -towards + ratio * direction
    return Step(step, inside**0.5, -float(gradient @ step + 0.5 * step @ curved), at_edge, negative, used)


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
    solver
        As for `trust_region`; it brings the bound to the eigenvalue in few iterations.
    curvature
        Another matrix than the Hessian.
    max_iterations
        Products with a block of vectors.
    """
    kinds.check(lowest_curvature, locals())
    scalars.whole("max_iterations", max_iterations)
    scalars.seed("seed", seed)
    matrix = curvature or Hessian()
    if objective.p <= DENSE_UP_TO:
        return float(torch.linalg.eigvalsh(matrix.of(objective).dense().double())[0])
    operator = matrix.of(objective.to(torch.float32))

    def columns(rows: Product) -> Callable[[np.ndarray], np.ndarray]:
        return lambda block: rows(torch.from_numpy(block.T.copy()).float()).double().T.numpy()

    start = np.random.default_rng(seed).standard_normal((objective.p, BLOCK))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a bound is a bound before it has converged
        values, _ = lobpcg(
            columns(operator.apply),
            start,
            M=None if solver is None else columns(lambda rows: precondition(solver, rows)),
            largest=False,
            maxiter=max_iterations,
            tol=ACCURACY,
        )
    return float(values.min())


def _product(matrix: Curvature, single: Objective, theta: Tensor) -> Product:
    """Products with the curvature at θ, in float32 inside."""
    operator = matrix.of(single.at(theta.float()))
    return lambda vector: operator.apply(vector.float()[None])[0].double()


@dataclass(frozen=True)
class _Trial:
    """R and ∇R at a θ."""

    theta: Float[Tensor, " p"]
    risk: float
    gradient: Float[Tensor, " p"]

    @classmethod
    def at(cls, objective: Objective, theta: Tensor) -> _Trial:
        risks, gradients = objective.risks_and_gradients(theta[None])
        return cls(theta, float(risks[0]), gradients[0])

    def share(self, risk: float, norm: float, promised: float) -> float:
        """Of the promised decrease from the risk; where that is rounding, 1 if the gradient became smaller."""
        if abs(risk - self.risk) <= 100 * torch.finfo(self.theta.dtype).eps * abs(risk):
            return 1.0 if float(self.gradient.norm()) < norm else -1.0
        return (risk - self.risk) / promised if np.isfinite(self.risk) else -1.0
