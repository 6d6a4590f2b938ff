"""Forms of the damping δ, each of which resolves to an absolute number shown in results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from upweight import scalars
from upweight.curvature import Operator, mean_eigenvalue
from upweight.errors import InputError
from upweight.inverse.effective import MEAN_LEVERAGE, damping_at, is_known, quadrature
from upweight.linalg.traces import Spectrum


@dataclass(frozen=True)
class MeanEigenvalue:
    """δ = ``multiple`` × the mean eigenvalue tr(H)/p of the curvature (its l2 included).

    Parameters
    ----------
    multiple
        A number ≥ 0 (default 0.1).
    seed
        Of the random signs by which the trace is estimated, where the matrix doesn't know it.
    """

    multiple: float = 0.1
    _: KW_ONLY
    seed: int = 0

    def __post_init__(self) -> None:
        scalars.number("multiple", self.multiple, least=0)
        scalars.seed("seed", self.seed)


@dataclass(frozen=True)
class MeanLeverage:
    """δ at which the effective dimension of the curvature is ``share`` of the number of examples; "auto" is this.

    See `upweight.inverse.effective` for why, and for the measurements.

    Parameters
    ----------
    share
        In (0, 1] (default .09).
    seed
        Of the random vectors by which the spectrum is estimated, where a solver doesn't know it.
    """

    share: float = MEAN_LEVERAGE
    _: KW_ONLY
    seed: int = 0

    def __post_init__(self) -> None:
        scalars.number("share", self.share, above=0, most=1)
        scalars.seed("seed", self.seed)


@dataclass(frozen=True)
class TrainingLength:
    """δ = (1 − β)/(η̄K): training for K steps at a mean rate η̄ damps directions of less curvature than that.

    1/(Λ+δ) then has the ends of the filter (1 − e^{−Λ/δ})/Λ of such a training (Bae et al. 2024): 1/δ where there is no
    curvature, 1/Λ where there is much. Between them it is up to .13/δ smaller.

    Parameters
    ----------
    rate
        η̄ > 0, the learning rate in the mean over steps.
    steps
        K, a whole number of at least 1.
    momentum
        β in [0, 1), 0 unless said otherwise.
    """

    rate: float
    steps: int
    momentum: float = 0.0

    def __post_init__(self) -> None:
        scalars.number("rate", self.rate, above=0)
        scalars.whole("steps", self.steps)
        scalars.number("momentum", self.momentum, least=0, below=1)

    @property
    def absolute(self) -> float:
        """δ."""
        return (1 - self.momentum) / (self.rate * self.steps)


UNPENALISED = 0.01
"""Share of the mean penalty that δ is at least, where some parameters have none."""

Damping = float | Literal["auto", "calibrated", "training length"] | MeanEigenvalue | MeanLeverage | TrainingLength
"""An absolute number, or a rule that gives one; "calibrated" takes retrainings, and "training length" rate and steps:
both are refused with the way to them."""


def resolve(damping: Damping, operator: Operator, spectrum: Callable[[], Spectrum] | None = None) -> float:
    """The absolute δ for this matrix.

    ``spectrum`` gives the spectrum without the penalty, where a solver knows it; else it is estimated by products.

    Raises
    ------
    InputError
        If it is not a finite number ≥ 0 (use the GGN rather than a negative damping).
    """
    if damping == "calibrated":
        raise InputError(
            "damping: 'calibrated' takes a few retrainings; give 'auto' here, call "
            "influence.calibrate(queries, train) and go on with its .influence"
        )
    if damping == "training length":
        raise InputError(
            "damping: 'training length' needs the training's rate and steps; give "
            "inverse.TrainingLength(rate, steps, momentum)"
        )
    if isinstance(damping, TrainingLength):
        return damping.absolute
    if damping == "auto":
        damping = MeanLeverage()
    if isinstance(damping, MeanLeverage):
        return _by_leverage(damping, operator, spectrum)
    if isinstance(damping, MeanEigenvalue):
        return damping.multiple * mean_eigenvalue(operator, seed=damping.seed)
    try:
        absolute = scalars.number("damping", damping, least=0)
    except InputError:
        raise InputError(
            f"damping: give a finite number ≥ 0, 'auto' or inverse.MeanEigenvalue(multiple); got {damping!r}"
        ) from None
    # Its square is a number too: sums of squares would be infinite, and solutions NaN.
    return scalars.number("damping", absolute, most=math.sqrt(torch.finfo(operator.dtype).max))


def _by_leverage(damping: MeanLeverage, operator: Operator, spectrum: Callable[[], Spectrum] | None) -> float:
    objective = getattr(operator, "objective", None)
    if objective is None:
        raise InputError("damping: 'auto' needs an objective, whose number of examples it goes by; give a number")
    penalty = getattr(operator, "l2", objective.l2)  # an approximation may leave it out
    asked = {"examples": objective.n, "penalty": float(penalty.mean()), "leverage": damping.share}
    if spectrum is None:
        found = _estimated(operator, penalty, damping.seed, partial(is_known, **asked))
    else:
        found = spectrum()
    absolute = damping_at(found, **asked)
    if absolute > 0 or bool((penalty > 0).all()):
        return absolute
    # Parameters that the penalty leaves out (biases) are damped by a trifle of it: rows alone may not determine them.
    return UNPENALISED * float(penalty.mean())


def _estimated(
    operator: Operator, penalty: Tensor, seed: int, enough: Callable[[Spectrum, Spectrum], bool]
) -> Spectrum:
    def unpenalised(vectors: Tensor) -> Tensor:
        return operator.apply(vectors) - penalty * vectors

    return quadrature(unpenalised, operator.size, operator.dtype, operator.device, seed=seed, enough=enough)
