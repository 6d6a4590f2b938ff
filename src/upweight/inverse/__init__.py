"""Solve (H + δI) x = v: the one thing that separates influence from gradient similarity.

Three nouns, as in the field's best solver libraries: a *curvature* operator, an *inverse* (an algorithm with
its settings) and a *solution* that carries its report. ``inverse.fit(objective)`` gives a `Solver` whose
``solve(vectors)`` takes rows ``[k, p]``; every solver can precondition `CG`. Damping δ is absolute, and added
as δI to the curvature, which already holds the l2 of the objective.
"""

from upweight.inverse.cg import CG
from upweight.inverse.damping import MeanEigenvalue
from upweight.inverse.dense import Dense
from upweight.inverse.interface import Inverse, Solution, Solver, SolveReport, as_solver, precondition, warned
from upweight.inverse.lissa import LiSSA
from upweight.inverse.lsmr import LSMR

__all__ = [
    "CG",
    "LSMR",
    "Dense",
    "Inverse",
    "LiSSA",
    "MeanEigenvalue",
    "Solution",
    "SolveReport",
    "Solver",
    "as_solver",
    "precondition",
    "warned",
]
