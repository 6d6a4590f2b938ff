"""The measures as functions of a fit: formulas, and what they need to know where they aren't defined.

Least squares and ridge: the row is really left out, the penalty kept, by the Sherman–Morrison formula (Belsley, Kuh &
Welsch 1980, chapter 2). Generalised linear models: one step of Newton's method, or of Fisher's scoring, from the full
fit (Pregibon 1981; Williams 1987).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from upweight.diagnostics.factor import EPS, Factor, factor
from upweight.diagnostics.families import Gaussian
from upweight.diagnostics.fit import Fit
from upweight.errors import InputError

Rows = Float[np.ndarray, " n"]
ROUNDINGS = 64.0
"""Rounding errors that a residual may be made of: fewer, and it counts as 0."""
CANCELLED = 1e-6
"""Share of the sum of squares below which what is left of it without a row has lost digits."""
LEAST_FREEDOM = 1e-6
"""Degrees of freedom below which there are none."""


@dataclass(frozen=True, eq=False)
class Measures:
    """What `Statistics` shows, and why some of it isn't defined.

    Attributes
    ----------
    effective, residual
        Degrees of freedom of the fit, and those left.
    newton
        How far θ is from its minimum, in standard errors along the worst direction.
    identified
        Whether the data determine the parameter, ``[p]``.
    perfect, perfect_without
        Whether no residual is left, and whether none is left without the row, ``[n]``.
    """

    hat: Rows
    internal: Rows
    external: Rows
    cooks_distance: Rows
    dffits: Rows
    dfbetas: Float[np.ndarray, "n p"]
    covariance_ratio: Rows
    dispersion: float
    effective: float
    residual: float
    newton: float
    identified: Bool[np.ndarray, " p"]
    perfect: bool
    perfect_without: Bool[np.ndarray, " n"]


def measures(fit: Fit, information: str) -> Measures:
    """All measures of a fit; ``information`` is "observed" or "expected".

    Raises
    ------
    InputError
        If the observed information of a row is negative.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if isinstance(fit.family, Gaussian):
            return _least_squares(fit)
        return _generalised(fit, information)


def _least_squares(fit: Fit) -> Measures:
    root = np.sqrt(fit.weights)
    found = factor(root[:, None] * fit.design, fit.penalty)
    hat, free = found.hat, 1 - found.hat
    values, perfect = _residuals(fit, hat)
    effective = _effective(found, fit)
    residual = fit.used - effective
    total = float(values @ values)
    dispersion = _variance(total, residual)
    without, lost = _without(found, fit, values, total)
    for i in np.flatnonzero((without < CANCELLED * total) & (hat < 1)):  # k + 1 rows at most: their 1 − h add up to 1
        without[i] = _refitted(fit, int(i))
    freedom = residual - 1 + lost
    perfect_without = (without == 0) & (hat < 1) & (freedom > LEAST_FREEDOM) & (not perfect)
    variance = _variances(without, freedom)
    internal = values / np.sqrt(dispersion * free)
    external = values / np.sqrt(variance * free)
    scale = np.sqrt(variance)[:, None] * np.sqrt(found.variances)
    return Measures(
        hat=hat,
        internal=internal,
        external=external,
        cooks_distance=internal**2 * hat / free / effective,
        dffits=external * np.sqrt(hat / free),
        dfbetas=found.solved * (values / free)[:, None] / scale,
        covariance_ratio=(variance / dispersion) ** found.rank / free,
        dispersion=dispersion,
        effective=effective,
        residual=residual,
        newton=_newton(fit, dispersion),
        identified=found.identified,
        perfect=perfect,
        perfect_without=perfect_without,
    )


def _without(found: Factor, fit: Fit, values: Rows, total: float) -> tuple[Rows, Rows]:
    """Sums of squares without each row, and how many degrees of freedom the fit without it loses.

    Without a penalty RSS − r²/(1 − h), and none. With one, S being the hat matrix: residual j becomes
    r_j + S_ji r_i/(1 − h_i), and the trace of S falls by (h_i − (S²)_ii)/(1 − h_i).
    """
    hat, free = found.hat, 1 - found.hat
    if not fit.penalty.any():
        return total - values**2 / free, np.zeros_like(hat)
    squares = ((found.basis @ (found.basis.T @ found.basis)) * found.basis).sum(1)
    smoothed = found.basis @ (found.basis.T @ values)
    step = values / free
    others = total - values**2 + 2 * step * (smoothed - hat * values) + step**2 * (squares - hat**2)
    return others, (hat - squares) / free


def _refitted(fit: Fit, i: int) -> float:
    """The sum of squares without a row that holds nearly all of it, where the difference has lost its digits."""
    kept = np.arange(len(fit.weights)) != i
    root = np.sqrt(fit.weights[kept])
    rows = root[:, None] * fit.design[kept]
    targets = root * (fit.targets[kept] - fit.outputs[kept]) + rows @ fit.theta
    stacked = np.concatenate([rows, np.diag(np.sqrt(fit.penalty))])
    lengths = np.linalg.norm(stacked, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    theta = np.linalg.lstsq(stacked / lengths, np.concatenate([targets, 0 * fit.theta]), rcond=None)[0] / lengths
    found = targets - rows @ theta
    size = (np.abs(targets) + np.abs(rows) @ np.abs(theta)).max() + _size(fit, kept)
    return 0.0 if (np.abs(found) <= ROUNDINGS * EPS * size).all() else float(found @ found)


def _generalised(fit: Fit, information: str) -> Measures:
    family = fit.family
    scoring = fit.weights * family.expected(fit.outputs)
    curvature = scoring if family.is_canonical or information == "expected" else _observed(fit)
    expected = factor(np.sqrt(scoring)[:, None] * fit.design, fit.penalty)
    found = expected if curvature is scoring else factor(np.sqrt(curvature)[:, None] * fit.design, fit.penalty)
    hat, free = found.hat, 1 - found.hat
    values, perfect = _residuals(fit, hat)
    deviances = 2 * fit.weights * np.clip(fit.losses, 0, None)
    deviances = np.where((hat == 1) | perfect, 0.0, deviances)
    effective = _effective(found, fit)
    residual = fit.used - effective
    total = float(deviances.sum())
    dispersion = 1.0 if family.knows_dispersion else _variance(float(values @ values), residual)
    without = total - deviances / free
    variance = _variances(np.where(without > ROUNDINGS * EPS * total, without, np.nan), residual - 1)
    internal = values / np.sqrt(dispersion * free)
    likelihood = np.sign(values) * np.sqrt(deviances + hat * values**2 / free)
    # Of the change of η, which is in the units of H, to the standard error of η, which is in those of the information.
    units = np.where(curvature > 0, (hat / curvature) / (expected.hat / scoring), 1.0)
    return Measures(
        hat=hat,
        internal=internal,
        external=likelihood / (1.0 if family.knows_dispersion else np.sqrt(variance)),
        cooks_distance=internal**2 * hat / free / effective,
        dffits=internal * np.sqrt(hat / free * np.where(np.isfinite(units), units, 1.0)),
        dfbetas=found.solved * (values / free)[:, None] / np.sqrt(dispersion * expected.variances),
        covariance_ratio=(variance / _variance(total, residual)) ** found.rank / free,
        dispersion=dispersion,
        effective=effective,
        residual=residual,
        newton=_newton(fit, dispersion),
        identified=found.identified,
        perfect=perfect,
        perfect_without=np.zeros(len(values), dtype=bool),
    )


def _observed(fit: Fit) -> Rows:
    found = fit.weights * fit.family.observed(fit.outputs, fit.targets)
    if (found < 0).any():
        raise InputError(
            f"information: got 'observed', which is negative in {(found < 0).sum()} rows of a {fit.family.name} (first "
            f"{int(np.argmax(found < 0))}), so they have no hat value; give information='expected', as R has it"
        )
    return found


def _residuals(fit: Fit, hat: Rows) -> tuple[Rows, bool]:
    """√w (y − μ)/√V(μ), 0 at leverage 1, and whether all are rounding (and 0)."""
    found = np.sqrt(fit.weights) * fit.family.pearson(fit.outputs, fit.targets)
    found = np.where((hat == 1) | (fit.weights == 0), 0.0, found)
    if fit.family.knows_dispersion:
        return found, False
    perfect = bool((np.abs(found) <= ROUNDINGS * EPS * _size(fit, fit.weights > 0)).all())
    return (np.zeros_like(found) if perfect else found), perfect


def _size(fit: Fit, rows: Bool[np.ndarray, " n"]) -> float:
    """Of the largest of the numbers that these rows' residuals are differences of."""
    sizes = fit.family.size(fit.outputs, fit.targets)
    sizes = sizes + np.sqrt(fit.family.expected(fit.outputs)) * (np.abs(fit.design) @ np.abs(fit.theta))
    return float((np.sqrt(fit.weights) * sizes)[rows].max())


def _effective(found: Factor, fit: Fit) -> float:
    return float(found.hat.sum()) if fit.penalty.any() else float(found.rank)


def _newton(fit: Fit, dispersion: float) -> float:
    """√(∇ᵀH⁻¹∇/φ), which no direction's step exceeds in its standard errors; H is the expected one."""
    scoring = np.sqrt(fit.weights * fit.family.expected(fit.outputs))
    pull = scoring * np.sqrt(fit.weights) * fit.family.pearson(fit.outputs, fit.targets)
    slope = fit.design.T @ pull - fit.penalty * fit.theta
    hessian = fit.design.T @ (scoring[:, None] ** 2 * fit.design) + np.diag(fit.penalty)
    scale = np.sqrt(np.diag(hessian))
    scale = np.where(scale > 0, scale, 1.0)
    step = np.linalg.lstsq(hessian / scale / scale[:, None], slope / scale, rcond=1e-10)[0]
    return float(np.sqrt(max(float(step @ (slope / scale)), 0.0) / dispersion)) if dispersion > 0 else 0.0


def _variance(total: float, freedom: float) -> float:
    """A sum of squares over its degrees of freedom; NaN where none are left."""
    return total / freedom if freedom > LEAST_FREEDOM else float("nan")


def _variances(totals: Rows, freedom: Rows | float) -> Rows:
    """The same by row."""
    return np.where(freedom > LEAST_FREEDOM, totals / freedom, np.nan)
