"""The matrices of the objective as symmetric linear operators: Hessian, GGN and Fisher matrices.

Convention: curvature is that of R, so the mean over examples plus λ on the diagonal. Damping is not part of
it: solvers add δI. Operators act on rows, ``[k, p] -> [k, p]``.
"""

from upweight.curvature.fisher import EmpiricalFisher, Fisher, RowsOperator
from upweight.curvature.objective import GGN, Curvature, Hessian, ObjectiveCurvature, RowCurvature
from upweight.curvature.operators import Difference, Matrix, Operator, mean_eigenvalue
from upweight.curvature.rows import Rows

__all__ = [
    "GGN",
    "Curvature",
    "Difference",
    "EmpiricalFisher",
    "Fisher",
    "Hessian",
    "Matrix",
    "ObjectiveCurvature",
    "Operator",
    "RowCurvature",
    "Rows",
    "RowsOperator",
    "mean_eigenvalue",
]
