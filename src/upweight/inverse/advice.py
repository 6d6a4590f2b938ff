"""What helps where an iteration fails, and only where it does."""

from __future__ import annotations

import math

from upweight.curvature import Hessian, ObjectiveCurvature, Operator

FEW = 200
"""Iterations that nobody minds."""
MOST_LSMR = 2000
"""Iterations of LSMR at most that are chosen: two products each."""


def lsmr_limit(p: int, tolerance: float) -> int:
    """Iterations that LSMR is given: √p for every factor e of the tolerance, a few p at most, and 2000."""
    return min(math.ceil(p**0.5 * math.log(1 / tolerance)), 4 * p + 50, MOST_LSMR)


def against_negative(operator: Operator, damping: float, quotient: float, largest: float, tolerance: float) -> str:
    """Ways out of a direction of curvature ``quotient`` ≤ 0, where the largest curvature met is ``largest``."""
    ways = [] if math.isnan(quotient) else [f"damping > {damping - quotient:.3g} (a lower bound)"]
    if _has_another_ggn(operator):
        ways.append("curvature.GGN()")
    condition = largest / abs(quotient) if quotient else math.inf
    if condition / 2 * math.log(2 / tolerance) <= max(lsmr_limit(operator.size, tolerance), FEW):
        ways.append("inverse.LSMR(), which takes indefinite matrices")
    return f"Use {' or '.join(ways)}" if ways else "Look for NaN inputs"


def _has_another_ggn(operator: Operator) -> bool:
    """Whether it is a Hessian that isn't the GGN itself, as it is of outputs that are linear in θ."""
    if not isinstance(operator, ObjectiveCurvature) or operator.name != Hessian.name:
        return False
    return operator.objective.engine.function.split and not operator.objective.is_linear


def against_slowness(operator: Operator, damping: float, *, preconditioned: bool = False) -> str:
    """Ways to fewer iterations."""
    ways = ["a larger damping"]
    if isinstance(operator, ObjectiveCurvature) and not preconditioned:
        objective = operator.objective
        penalised = damping > 0 or bool((objective.l2 > 0).all())
        if penalised and objective.engine.function.factored and objective.engine.function.split:
            ways.append(f"inverse.CG(curvature.GGN(), damping={damping:.3g}, preconditioner=inverse.Dual())")
    return " or ".join(ways)
