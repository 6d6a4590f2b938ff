"""`statistics`: an objective, or a fitted scikit-learn estimator, and its influence measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from upweight import kinds, scalars
from upweight.diagnostics import naming, undefined
from upweight.diagnostics.fit import as_fit
from upweight.diagnostics.measures import measures
from upweight.diagnostics.result import Statistics
from upweight.errors import InputError
from upweight.objective import Objective

INFORMATION = ("observed", "expected")


def statistics(
    model: Any,
    X: Any = None,
    y: Any = None,
    *,
    sample_weight: Any = None,
    ids: Sequence[Any] | np.ndarray | None = None,
    names: Sequence[str] | None = None,
    information: str = "observed",
) -> Statistics:
    """Influence measures of every training row of a linear, ridge or generalised linear model.

    With outputs η = Aθ, H = AᵀWA + Λ (W the weights times what the family gives, Λ = n·l2, scikit-learn's α, 0 for an
    intercept), h_i = W_i a_iᵀH⁻¹a_i the diagonal of the hat matrix S, k its trace (without a penalty the rank), r_i the
    Pearson residual √w_i (y_i − μ_i)/√V(μ_i), φ = Σr²/(n − k) (logistic and Poisson: 1), and (i) the fit without
    row i, its penalty kept:

    ========================= =====================================  ==========================================
    measure                   least squares and ridge                generalised linear models, one step
    ========================= =====================================  ==========================================
    hat                       h_i                                    h_i
    studentised_internal      r_i/√(φ(1 − h_i))                      the same
    studentised_external      r_i/√(φ_(i)(1 − h_i))                  sign(r_i)√(d_i² + h_i r_i²/(1 − h_i)), over
                                                                     σ_(i) where φ is estimated
    cooks_distance            r_i²h_i/((1 − h_i)²φk)                 the same
    dffits                    (η_i − η_i(i))/√(φ_(i) a_iᵀH⁻¹a_i)     with φ: studentised_internal·√(h_i/(1 − h_i))
    dfbetas                   (θ − θ_(i))_j/√(φ_(i)(H⁻¹)_jj)         with φ, θ_(i) after one step
    covariance_ratio          (φ_(i)/φ)^p/(1 − h_i)                  (σ_(i)/σ)^(2p)/(1 − h_i)
    ========================= =====================================  ==========================================

    d_i is the deviance residual, σ² = Σd²/(n − k), σ_(i)² = (Σd² − d_i²/(1 − h_i))/(n − k − 1).

    **Least squares** equals statsmodels' OLSInfluence and R's ``influence.measures``; weighted, R's (OLSInfluence is
    for equal weights: give it rows times √w).

    **Generalised linear models**: hat values, internally studentised residuals, Cook's distance, DFBETAS and DFFITS
    (``d_linpred_scaled``, ``d_fittedvalues_scaled``) equal statsmodels' GLMInfluence. What it lacks is R's: externally
    studentised residuals (``rstudent``; Williams 1987) and the covariance ratio. R's ``dfbetas`` and ``dffits`` of a
    glm differ: they put deviance residuals and σ_(i) in place of r_i and φ. ``information='expected'`` gives R's
    hat values and Cook's distance where the link isn't canonical (gamma, Tweedie).

    **Ridge**: what least squares has on the data with rows √Λ of target 0 appended (Marquardt 1970), so that θ's
    covariance is the Bayesian φH⁻¹ and not the sampling one: the penalised hat matrix, k = tr S effective parameters,
    φ = RSS/(n − k), Cook's distance over k. What has (i) is exactly that of a refit at the same α, its trace too.
    A penalised generalised linear model is treated likewise.

    Parameters
    ----------
    model
        An `Objective` of one output linear in θ, with `losses.SquaredError` (a ridge with l2), `losses.BinaryLogistic`
        or `estimators.losses.HalfDeviance` (Poisson, gamma, Tweedie); or a fitted scikit-learn estimator that
        `from_estimator` maps to one: LinearRegression, Ridge(CV), LogisticRegression(CV) of two classes, Poisson-,
        Gamma- and TweedieRegressor, pipelines of these.
    X, y, sample_weight, ids
        Of an estimator, as for `from_estimator`. Weights are precisions, never counts of rows.
    names
        Of the parameters, ``[p]`` in the order of θ (default: columns of X and ``intercept``; ``weight[3]``, ``bias``).
    information
        Of a link that isn't canonical: ``"observed"`` (d²ℓ/dη², statsmodels' default, the package's own curvature) or
        ``"expected"`` (R; statsmodels' ``get_influence(observed=False)``). With the first, DFBETAS and DFFITS take
        √W_i r_i for the row's gradient as statsmodels does, and standard errors from the expected one.

    Returns
    -------
    Statistics
        Where a measure isn't defined (leverage 1; a perfect fit; a fit that is perfect without the row; no degrees of
        freedom; DFBETAS of columns that depend on each other) it is NaN, one `UpweightWarning` names the rows, and the
        others are as they should be.

    Raises
    ------
    InputError
        If the loss isn't one of these, the model has several outputs or isn't linear in θ, or an argument is wrong.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import LinearRegression
    >>> import upweight as uw
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> found = uw.statistics(LinearRegression().fit(X, y), X, y)
    >>> found.to_pandas().cooks_distance.idxmax()
    np.int64(382)
    """
    kinds.check(statistics, locals())
    scalars.one_of("information", information, INFORMATION)
    objective, labels, scale = _opened(model, X, y, sample_weight, ids)
    fit = as_fit(objective).weighted(scale)
    parameters = labels if names is None else naming.given(names, objective.p)
    found = measures(fit, information)
    undefined.warn_if_elsewhere(found.newton)
    found = undefined.settled(found, fit.weights, objective.ids, parameters)
    return Statistics(
        hat=found.hat,
        studentised_internal=found.internal,
        studentised_external=found.external,
        cooks_distance=found.cooks_distance,
        dffits=found.dffits,
        dfbetas=found.dfbetas,
        covariance_ratio=found.covariance_ratio,
        ids=objective.ids,
        names=parameters,
        family=f"penalised {fit.family.name}" if fit.penalty.any() else fit.family.name,
        dispersion=found.dispersion,
        effective_parameters=found.effective,
        residual_degrees=found.residual,
    )


def _opened(model: Any, X: Any, y: Any, sample_weight: Any, ids: Any) -> tuple[Objective, tuple[str, ...], float]:
    """The objective, the names of its parameters, and what its weights were divided by."""
    if isinstance(model, Objective):
        for name, value in {"X": X, "y": y, "sample_weight": sample_weight, "ids": ids}.items():
            if value is not None:
                raise InputError(f"{name}: an Objective has its own; leave it out, or give a fitted estimator")
        return model, naming.of_layout(model.layout), 1.0
    if not hasattr(model, "fit"):
        raise InputError(
            f"model: got {type(model).__name__}; give an upweight.Objective or a fitted scikit-learn estimator"
        )
    if X is None or y is None:
        raise InputError(
            f"{'X' if X is None else 'y'}: got None; give the X and y that {type(model).__name__} was fitted on, or an "
            "upweight.Objective alone"
        )
    from upweight.estimators import from_estimator

    objective = from_estimator(model, X, y, sample_weight=sample_weight, ids=ids)
    return objective, naming.of_estimator(model, X, objective.p), _divisor(objective, sample_weight)


def _divisor(objective: Objective, sample_weight: Any) -> float:
    """The mean weight of estimators that divide by it: a Poisson's dispersion is 1 for weights as they are given."""
    if sample_weight is None:
        return 1.0
    given = np.asarray(sample_weight, dtype=np.float64)
    mean = float(given.mean())
    return mean if np.allclose(objective.weights.cpu().numpy() * mean, given, rtol=1e-9, atol=0) else 1.0
