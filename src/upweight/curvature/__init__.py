"""The matrices of the objective as symmetric linear operators: Hessian and GGN.

Convention: curvature is that of R, so the mean over examples plus λ on the diagonal. Damping is not part of
it: solvers add δI. Operators act on rows, ``[k, p] -> [k, p]``.
"""

from upweight.curvature.objective import GGN, Curvature, Hessian, ObjectiveCurvature
from upweight.curvature.operators import Difference, Matrix, Operator, mean_eigenvalue

__all__ = [
    "GGN",
    "Curvature",
    "Difference",
    "Hessian",
    "Matrix",
    "ObjectiveCurvature",
    "Operator",
    "mean_eigenvalue",
]
