"""Whether coefficients minimise the objective of the data given, as far as their solver's tolerance tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from upweight.errors import NotStationaryWarning, warn
from upweight.objective import Objective

SLACK = 10.0
"""How many times what its tolerance leaves a solver may be off: tolerances are of slightly different sums."""
ABSOLUTE = ("lbfgs", "newton-cg", "newton-cholesky")
"""Solvers that stop where no entry of the mean gradient is larger than ``tol``, in the families of `GRADIENT`."""
GRADIENT = ("LogisticRegression", "LogisticRegressionCV", "PoissonRegressor", "GammaRegressor", "TweedieRegressor")
BY_EPOCHS = ("SGDClassifier", "SGDRegressor", "MLPClassifier", "MLPRegressor")
"""Estimators that stop when the loss no longer falls, wherever that is: told where leaving one out has a smaller
gradient than what they left."""
SLOW = ("sag", "saga")
"""Solvers that stop where steps are small, which leaves more."""
STEPS = 30.0
"""How much more, measured on standardised data."""
DIRECT = 1e-5
"""Of the size of an example's gradient: rounding of a direct solver, on columns that are far from independent."""


ROUNDING = 100.0


def warn_if_elsewhere(objective: Objective, step: Any) -> None:
    """Warn, with the figures, where ∇R is larger than the solver of this fitted estimator leaves it.

    Sampling noise is no measure here: on few examples it hides coefficients of other data altogether. Machines with a
    smoothed hinge are no minimum of the smoothed risk, and are left to `Influence`'s own check.
    """
    if not _has_minimum(step):
        return
    found = objective.stationarity()
    if type(step).__name__ in BY_EPOCHS:
        allowed = found.example_scale / SLACK
    else:
        allowed = _left_by_solver(step, objective.n * found.example_scale, float(objective.weights.mean()))
    allowed = max(allowed, _rounding(objective))
    largest = float(objective.gradient().abs().max())
    shares = found.gradient_norm / found.example_scale if found.example_scale > 0 else float("inf")
    is_short = shares > 1 and type(step).__name__ in BY_EPOCHS and found.gradient_norm > SLACK * _rounding(objective)
    if largest <= SLACK * allowed and not is_short:
        return
    warn(
        f"estimator: the coefficients of {type(step).__name__} are no minimum on this X and y: ∇R has entries up to "
        f"{largest:.1e}, where its solver leaves {allowed:.1e}; ‖∇R‖ is {shares:.2g} × what leaving one example out "
        f"changes. {_mend(step)}",
        NotStationaryWarning,
    )


def _rounding(objective: Objective) -> float:
    """What outputs leave of ∇R by rounding, also where they fit every target and examples' gradients vanish.

    Outputs are sums whose terms may be far larger than they are: coefficients that cancel on columns that nearly depend
    on each other. So they are taken by size, layer by layer.
    """
    inputs = objective.data.take(range(objective.n))[0].abs()
    sizes = [inputs]
    for layer in objective.model.modules():
        if isinstance(layer, nn.Linear):
            own = sizes[-1] @ layer.weight.detach().abs().T
            sizes.append(own if layer.bias is None else own + layer.bias.detach().abs())
    reach = max(float(size.max()) for size in sizes[:-1] if size.numel()) if inputs.numel() else 0.0
    return ROUNDING * torch.finfo(objective.dtype).eps * float(sizes[-1].max()) * max(reach, 1.0)


def _has_minimum(step: Any) -> bool:
    name = type(step).__name__
    return name != "SVC" and not (name in ("LinearSVC", "SGDClassifier") and step.loss == "hinge")


def _left_by_solver(step: Any, size: float, weight: float) -> float:
    """The largest entry of ∇R that the solver's own criterion allows.

    ``size`` is that of an example's gradient (root mean square), ``weight`` the examples' mean weight.
    """
    name = type(step).__name__
    tol, solver = float(getattr(step, "tol", 0.0) or 0.0), getattr(step, "solver_", getattr(step, "solver", None))
    if name in GRADIENT and solver in ABSOLUTE:
        return max(tol * max(weight, 1.0), DIRECT * size)
    if solver in SLOW:
        return STEPS * tol * size
    if solver in (None, "auto", "cholesky", "svd") and name != "LinearSVC":
        return DIRECT * size
    return max(tol, DIRECT) * size


def _mend(step: Any) -> str:
    if getattr(step, "solver", None) == "lbfgs" and getattr(step, "activation", None) == "relu":
        return (
            "It stops where R no longer falls; a ReLU network's minimum may be at kinks, where no gradient is small: "
            "fit it with activation='tanh', or with more max_iter and max_fun"
        )
    if type(step).__name__ in BY_EPOCHS and getattr(step, "solver", None) != "lbfgs":
        better = "solver='lbfgs' and a small tol" if hasattr(step, "coefs_") else "an estimator that has a solver"
        return f"It stops after epochs, not at a minimum: fit it with a smaller tol and more max_iter, or use {better}"
    limit, taken = getattr(step, "max_iter", None), getattr(step, "n_iter_", None)
    if limit is not None and taken is not None and np.max(np.atleast_1d(taken)) >= limit:
        return f"It stopped at max_iter={limit}: fit it with more"
    return "Give the X, y and sample_weight that it was fitted on, in the same order, or fit it with a smaller tol"
