"""Whether the sizes of scores can be believed, or their order alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from upweight.attribution import Magnitude
from upweight.engine.stationarity import Stationarity
from upweight.inverse import Solver
from upweight.inverse.cg import CGSolver
from upweight.inverse.dense import DenseSolver
from upweight.inverse.dual import DualSolver
from upweight.inverse.interface import name_of
from upweight.inverse.lissa import LiSSASolver
from upweight.inverse.low_rank import LowRankSolver
from upweight.inverse.lsmr import LSMRSolver
from upweight.objective import Objective

EXACT = (CGSolver, DenseSolver, DualSolver, LiSSASolver, LSMRSolver)
SHRUNK = 0.1
"""By how much damping may shrink a score at most, where l2 bounds the curvature from below."""
BELOW = 0.1
"""Share of the queries' mean loss by which a predicted loss may be negative: the error of a line beside a curve."""


@dataclass(frozen=True)
class Lowest:
    """The most that any training example lowers each query's loss.

    Attributes
    ----------
    changes
        The smallest score of each query, ``[queries]``.
    examples
        The names of the examples that have it, ``[queries]``.
    losses
        What the queries' losses are, ``[queries]``.
    query_ids
        What queries are called.
    """

    changes: Float[Tensor, " queries"]
    examples: np.ndarray
    losses: Float[Tensor, " queries"]
    query_ids: np.ndarray


def judged(objective: Objective, solver: Solver, stationarity: Stationarity, lowest: Lowest | None = None) -> Magnitude:
    """Whether scores are of the size that leaving examples out would have, and why not.

    Parameters
    ----------
    lowest
        Of predicted changes of losses: no loss falls below zero.
    """
    reasons = [
        *([] if lowest is None else _impossible(lowest)),
        *_approximate(solver),
        *_damped(objective, solver),
        *([f"θ is not at an optimum, {stationarity.words}"] if stationarity.is_notable else []),
    ]
    if reasons:
        return Magnitude(False, "; ".join(reasons))
    return Magnitude(True, f"{name_of(solver.operator)}, solved exactly at an optimum")


def _impossible(lowest: Lowest) -> list[str]:
    """Losses that would fall below zero, the worst named."""
    left = lowest.losses.to(lowest.changes) + lowest.changes
    row = int(left.argmin())
    before, after = float(lowest.losses[row]), float(left[row])
    if after >= -BELOW * float(lowest.losses.mean()):
        return []
    return [
        f"without {lowest.examples[row]} the loss of query {lowest.query_ids[row]} would go from {before:.3g} to "
        f"{after:.3g}, which no loss does"
    ]


def _approximate(solver: Solver) -> list[str]:
    name = getattr(solver, "name", None) or name_of(solver.operator)
    if getattr(solver.operator, "penalized", True) is False:
        return [f"{name}: curvature lacks the penalty, and is near 0 where data say little"]
    if isinstance(solver, LowRankSolver):
        rank = len(solver.damped.values)
        return [] if rank >= solver.operator.size else [f"{name} knows {rank:,} of {solver.operator.size:,} directions"]
    if not isinstance(solver, EXACT):
        return [f"{name} approximates the curvature"]
    if "Fisher" in name:
        return [f"{name} stands for the curvature"]
    return []


def _damped(objective: Objective, solver: Solver) -> list[str]:
    """By how much damping may shrink scores: δ/(λ + δ) where curvature is that of the penalty alone."""
    if not solver.damping:
        return []
    floor = float(objective.l2.min())
    share = solver.damping / (floor + solver.damping)
    if share <= SHRUNK:
        return []
    return [f"damping δ={solver.damping:.3g} beside l2={floor:.3g} shrinks a score by up to {share:.0%}"]
