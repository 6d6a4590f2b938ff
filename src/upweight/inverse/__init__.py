"""Solve (H + δI) x = v: the one thing that separates influence from gradient similarity.

Three nouns, as in the field's best solver libraries: a *curvature* operator, an *inverse* (an algorithm with
its settings) and a *solution* that carries its report. ``inverse.fit(objective)`` gives a `Solver` whose
``solve(vectors)`` takes rows ``[k, p]``; every solver can precondition `CG`. Damping δ is absolute, and added
as δI to the curvature, which already holds the l2 of the objective; ``solver.with_damping(δ)`` changes it without
another fit.
"""

from upweight.inverse.arnoldi import Arnoldi
from upweight.inverse.cg import CG
from upweight.inverse.damping import Damping, MeanEigenvalue, MeanLeverage, TrainingLength
from upweight.inverse.datainf import DataInf
from upweight.inverse.dense import Dense
from upweight.inverse.diagonal import Diagonal
from upweight.inverse.dual import Dual
from upweight.inverse.ekfac import EKFAC
from upweight.inverse.identity import Identity
from upweight.inverse.in_metric import InMetric
from upweight.inverse.interface import (
    Inverse,
    Preconditioner,
    Solution,
    Solver,
    SolveReport,
    as_solver,
    precondition,
    unmeasured,
    warned,
)
from upweight.inverse.kfac import KFAC
from upweight.inverse.lissa import LiSSA
from upweight.inverse.lsmr import LSMR
from upweight.inverse.neumann import Neumann
from upweight.inverse.nystrom import Nystrom
from upweight.inverse.step_metric import StepMetric

__all__ = [
    "CG",
    "EKFAC",
    "KFAC",
    "LSMR",
    "Arnoldi",
    "Damping",
    "DataInf",
    "Dense",
    "Diagonal",
    "Dual",
    "Identity",
    "InMetric",
    "Inverse",
    "LiSSA",
    "MeanEigenvalue",
    "MeanLeverage",
    "Neumann",
    "Nystrom",
    "Preconditioner",
    "Solution",
    "SolveReport",
    "Solver",
    "StepMetric",
    "TrainingLength",
    "as_solver",
    "precondition",
    "unmeasured",
    "warned",
]
