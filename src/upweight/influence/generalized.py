"""Generalised influence: how a chosen part θ_J answers to a change of the data (Lyu et al. 2023).

With H = H′ + δI of the changed risk, g = −∇R′ (`upweight.influence.changes`), H_J its columns of J and H_JJ the block:

- *GIF* argmin ‖H_J Δ − g‖: all gradient coordinates count, those of frozen entries are nullified as well as J can;
- *FIF* H_JJ⁻¹ g_J: the others are frozen; the derivative of retraining J alone;
- *PIF* (H⁻¹g)_J: all answer, then only J is kept;
- *IF* H⁻¹g: J is everything;
- *SIF* I + H₀⁻¹(H₀ − H)I with I = H₀⁻¹g and H₀ before the change: second order in the change (Basu et al. 2020), of
  all entries, then cut to J.

All are solved by LSMR on the matrix as an operator, at the rate of its condition κ; the form that the paper gives for
GIF, a Neumann series on H_JᵀH_J/ν², goes at the rate κ² and is here for comparison (`Neumann`).
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import GGN, Hessian, ObjectiveCurvature
from upweight.influence.changes import Changed, ChangedCurvature, changed, curvature_after
from upweight.influence.response import Method, Response
from upweight.inverse.interface import Solver, default_tolerance, precondition
from upweight.inverse.lsmr import least_squares
from upweight.inverse.neumann import Neumann, Rows
from upweight.messages import InputError, NegativeCurvatureWarning, NotConvergedWarning
from upweight.objective import Objective
from upweight.select import Rule, Subset, by_name, everything, masked

PROBES = 12
"""Products by which the smallest eigenvalue of the block is looked for."""


def generalized(
    objective: Objective,
    change: Any,
    parameters: Any = None,
    *,
    method: str = "GIF",
    curvature: Any = None,
    damping: float = 0.0,
    examples: int | None = None,
    renormalize: bool = False,
    further: Float[Tensor, " p"] | None = None,
    preconditioner: Solver | None = None,
    solver: Neumann | None = None,
    tolerance: float | None = None,
    max_iterations: int = 1000,
    seed: int = 0,
) -> Response:
    """The answer of chosen parameters to a change of the training data.

    Parameters
    ----------
    change
        `Removal`, `Relabelling` or `Substitution` of training examples.
    parameters
        J: a `select.Subset`, a rule such as ``select.highest_output(0.05)`` (which then looks at the examples that
        change), names or patterns, or a mask; default everything.
    curvature
        ``Hessian()`` or ``GGN()``, of the risk after the change (default: the GGN where the loss has one).
    damping
        δ, added to its diagonal.
    examples
        How many of the examples that stay the curvature is estimated from (default: all).
    renormalize
        For a removal: the mean is taken over the examples left (default: weights stay 1/n).
    further
        A vector added to g: where θ has left the optimum θ̂ of R, −(∇R(θ) − ∇R(θ̂)) makes it −∇R′ again.
    preconditioner
        A fitted inverse, symmetric and positive definite, e.g. ``EKFAC().fit(objective)``.
    solver
        ``Neumann()`` for the paper's own series, with GIF only; default LSMR.
    tolerance
        Of the method's own equations, relative (default 1e-10 in float64, 1e-5 in float32).

    Raises
    ------
    InputError
        For an empty or impossible change or selection, an unknown method, negative damping.

    Warns
    -----
    NotConvergedWarning
        If the tolerance was not reached.
    NegativeCurvatureWarning
        If H_JJ has directions of negative curvature: then the step may lead uphill there.

    Source: Lyu et al. 2023, sections 3 and 4; for SIF, Basu et al. 2020.
    """
    if method not in get_args(Method):
        raise InputError(f"method: one of {', '.join(get_args(Method))}; got {method!r}")
    if max_iterations < 1:
        raise InputError(f"max_iterations: must be at least 1; got {max_iterations}")
    if solver is not None and method != "GIF":
        raise InputError(f"solver: the Neumann series is GIF's; {method} goes by LSMR")
    posed = changed(objective, change, renormalize=renormalize)
    if further is not None:
        posed = replace(posed, gradient=posed.gradient + further)
    subset = resolved(objective, parameters, posed)
    if method == "IF" and subset.size < objective.p:
        raise InputError(
            f"method: IF answers with all {objective.p:,} entries of θ, of which {subset.size:,} are chosen; PIF is IF "
            "cut to those, or give no parameters"
        )
    chosen = curvature or (GGN() if objective.function.split else Hessian())
    operator = curvature_after(posed, chosen, damping, examples, seed)
    start = time.perf_counter()
    system = _System(operator, posed, subset, preconditioner, tolerance or default_tolerance(objective.dtype))
    kind = cast("Method", method)
    step, solved, iterations = system.solve(kind, solver, max_iterations)
    products = operator.products[0]
    found = system.response(kind, step, solved, iterations)
    found = replace(found, products=products, seconds=time.perf_counter() - start)
    _say(found)
    return found


def resolved(objective: Objective, parameters: Any, change: Changed) -> Subset:
    """The subset that the argument means.

    Raises
    ------
    InputError
        If it is empty, or of another objective.
    """
    if parameters is None:
        return everything(objective.layout)
    if isinstance(parameters, Rule):
        return parameters.of(objective, change.positions)
    if isinstance(parameters, Subset):
        if parameters.layout != objective.layout:
            raise InputError("parameters: the subset is of another θ than this objective's")
        return parameters
    if isinstance(parameters, Tensor | dict):
        return masked(objective.layout, parameters)
    return by_name(objective, parameters)


@dataclass(frozen=True, eq=False)
class _System:
    operator: ChangedCurvature
    change: Changed
    subset: Subset
    preconditioner: Solver | None
    tolerance: float

    @property
    def g(self) -> Float[Tensor, "1 p"]:
        return self.change.gradient[None]

    def solve(self, method: Method, solver: Neumann | None, limit: int) -> tuple[Tensor, float, int]:
        """Δ over θ, how far the method's own equations are satisfied, and the iterations."""
        cut, embed, apply, g = self.subset.cut, self.subset.embed, self.operator.apply, self.g
        if method == "GIF":
            step, iterations = self._minimise(lambda x: apply(embed(x)), lambda u: cut(apply(u)), g, solver, limit)
            left = cut(apply(g - apply(embed(step))))
            return embed(step)[0], _ratio(left, cut(apply(g))), iterations
        if method == "FIF":

            def block(x: Tensor) -> Tensor:
                return cut(apply(embed(x)))

            step, iterations = self._minimise(block, block, cut(g), None, limit)
            return embed(step)[0], _ratio(cut(g) - block(step), cut(g)), iterations
        whole = replace(self, subset=everything(self.subset.layout))
        if method == "SIF":
            step, solved, iterations = whole._second_order(limit)
        else:
            step, iterations = whole._minimise(apply, apply, g, None, limit)
            solved = _ratio(g - apply(step), g)
        return embed(cut(step))[0], solved, iterations

    def _second_order(self, limit: int) -> tuple[Tensor, float, int]:
        operator, objective, g = self.operator, self.change.objective, self.g
        before = ObjectiveCurvature(objective, operator.name)

        def original(x: Tensor) -> Tensor:
            operator.products[0] += len(x)
            return before.apply(x) + operator.damping * x

        first, one = self._minimise(original, original, g, None, limit)
        lost = original(first) - operator.apply(first)
        second, two = self._minimise(original, original, lost, None, limit)
        solved = max(_ratio(g - original(first), g), _ratio(lost - original(second), lost))
        return first + second, solved, one + two

    def _minimise(
        self, apply: Rows, transpose: Rows, v: Tensor, solver: Neumann | None, limit: int
    ) -> tuple[Tensor, int]:
        """The shortest minimiser of ‖A x − v‖; with a preconditioner P ≈ A⁻¹ by way of y, x = P y."""
        if solver is not None:
            return solver.solve(apply, transpose, v, self.tolerance, limit)
        if self.preconditioner is None:
            x, _, iterations = least_squares(apply, transpose, v, self.tolerance, limit)
            return x, iterations
        given, subset = self.preconditioner, self.subset

        def through(x: Tensor) -> Tensor:
            return subset.cut(precondition(given, subset.embed(x)))

        y, _, iterations = least_squares(
            lambda x: apply(through(x)), lambda u: through(transpose(u)), v, self.tolerance, limit
        )
        return through(y), iterations

    def response(self, method: Method, step: Tensor, solved: float, iterations: int) -> Response:
        """The step with everything that is measured of it."""
        g, cut, product = self.g, self.subset.cut, self.operator.apply(step[None])
        return Response(
            objective=self.change.objective,
            method=method,
            subset=self.subset,
            step=step,
            gradient=self.change.gradient,
            least_squares=_ratio(product - g, g),
            restricted=_ratio(cut(product - g), cut(g)),
            quadratic=float(0.5 * (step * product[0]).sum() - (step * g[0]).sum()),
            solved=solved,
            tolerance=self.tolerance,
            iterations=iterations,
            products=0,
            smallest_curvature=smallest_ritz(self.operator.apply, self.subset, step),
            damping=self.operator.damping,
            seconds=0.0,
        )


def smallest_ritz(apply: Rows, subset: Subset, step: Float[Tensor, " p"]) -> float:
    """The smallest Ritz value of the block after a few steps of Lanczos from the step: an upper bound of λ_min."""
    q = subset.cut(step)
    if not float(q.norm()) > 0:
        q = torch.ones_like(q)
    basis = [q / q.norm()]
    images: list[Tensor] = []
    for _ in range(min(PROBES, subset.size)):
        images.append(subset.cut(apply(subset.embed(basis[-1])[None])[0]))
        frame = torch.stack(basis)
        rest = images[-1] - frame.T @ (frame @ images[-1])
        rest = rest - frame.T @ (frame @ rest)
        if not float(rest.norm()) > 1e-6 * float(images[-1].norm()):
            break
        basis.append(rest / rest.norm())
    frame = torch.stack(basis[: len(images)]).double()
    projected = frame @ torch.stack(images).double().T
    return float(torch.linalg.eigvalsh((projected + projected.T) / 2).min())


def _ratio(residual: Tensor, of: Tensor) -> float:
    size = float(of.norm())
    return float(residual.norm()) / size if size > 0 else float(residual.norm())


def _say(found: Response) -> None:
    if not found.converged:
        warnings.warn(
            f"{found.method}: relative residual {found.solved:.1e} after {found.iterations} iterations, "
            f"{found.tolerance:.0e} was asked for; raise max_iterations or damping, or give a preconditioner",
            NotConvergedWarning,
            stacklevel=3,
        )
    if found.smallest_curvature < 0:
        warnings.warn(
            f"{found.method}: the curvature of the chosen entries is negative in some direction, "
            f"{found.smallest_curvature:.2g} or less at δ = {found.damping:g}; least squares were solved with it as it "
            f"is, and the step may lead uphill there. Take damping > {-found.smallest_curvature:.2g}, or the GGN",
            NegativeCurvatureWarning,
            stacklevel=3,
        )
