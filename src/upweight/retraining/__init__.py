"""Counterfactuals: the models one would have trained on other data, to a gradient tolerance.

For convex objectives: `fit` finds the optimum; `leave_out`, `relabel` and `replace` re-optimise many
counterfactual models at once from there, sharing one factorisation of the curvature as preconditioner.
"""

from upweight.retraining.counterfactual import Retrained, leave_out, relabel, replace
from upweight.retraining.fit import fit

__all__ = ["Retrained", "fit", "leave_out", "relabel", "replace"]
