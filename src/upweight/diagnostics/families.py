"""What a loss says of its targets: means, variances and weights of the linear predictor η, as functions of arrays.

Pearson residuals, weights and losses here are those of a row of weight 1. The derivatives are those of McCullagh &
Nelder (1989), section 2.5: expected information (dμ/dη)²/V(μ), observed information d²ℓ/dη².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from upweight.errors import InputError
from upweight.estimators.losses import HalfDeviance
from upweight.losses import AnyLoss, BinaryLogistic, Hinge, SmoothHinge, SquaredError, SquaredHinge

Rows = Float[np.ndarray, " n"]


@runtime_checkable
class Family(Protocol):
    """A distribution with its link."""

    @property
    def name(self) -> str:
        """In words."""
        ...

    @property
    def knows_dispersion(self) -> bool:
        """Whether the dispersion is 1, rather than estimated."""
        ...

    @property
    def is_canonical(self) -> bool:
        """Whether observed and expected information are the same."""
        ...

    def pearson(self, eta: Rows, y: Rows) -> Rows:
        """(y − μ)/√V(μ)."""
        ...

    def size(self, eta: Rows, y: Rows) -> Rows:
        """Of the numbers that a Pearson residual is the difference of."""
        ...

    def expected(self, eta: Rows) -> Rows:
        """(dμ/dη)²/V(μ)."""
        ...

    def observed(self, eta: Rows, y: Rows) -> Rows:
        """d²ℓ/dη²."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Squared error: V = 1, identity link."""

    name: str = "least squares"
    knows_dispersion: bool = False
    is_canonical: bool = True

    def pearson(self, eta: Rows, y: Rows) -> Rows:
        """The residual."""
        return y - eta

    def size(self, eta: Rows, y: Rows) -> Rows:
        """|y| + |η|."""
        return np.abs(y) + np.abs(eta)

    def expected(self, eta: Rows) -> Rows:
        """Ones."""
        return np.ones_like(eta)

    def observed(self, eta: Rows, y: Rows) -> Rows:
        """Ones."""
        return np.ones_like(eta)


@dataclass(frozen=True)
class Bernoulli:
    """Logistic regression: V = μ(1 − μ), logit link; targets above 0 are the positive class."""

    name: str = "logistic regression"
    knows_dispersion: bool = True
    is_canonical: bool = True

    def pearson(self, eta: Rows, y: Rows) -> Rows:
        """±√((1 − p)/p), p the probability of the row's own class: no difference of near equals."""
        sign = np.where(y > 0, 1.0, -1.0)
        return sign * np.exp(-sign * eta / 2)

    def size(self, eta: Rows, y: Rows) -> Rows:
        """That of the residual itself, which is exact."""
        return np.abs(self.pearson(eta, y))

    def expected(self, eta: Rows) -> Rows:
        """μ(1 − μ)."""
        return expit(eta) * expit(-eta)

    def observed(self, eta: Rows, y: Rows) -> Rows:
        """The same: the link is canonical."""
        return self.expected(eta)


@dataclass(frozen=True)
class Tweedie:
    """V = μ^power with log link: Poisson (1), gamma (2) and what lies around them."""

    power: float

    @property
    def name(self) -> str:
        """The distribution."""
        known = {0.0: "Gaussian", 1.0: "Poisson", 2.0: "gamma", 3.0: "inverse Gaussian"}
        return known.get(self.power, f"Tweedie (power {self.power:g})") + " regression, log link"

    @property
    def knows_dispersion(self) -> bool:
        """Poisson's is 1."""
        return self.power == 1

    @property
    def is_canonical(self) -> bool:
        """Of a Poisson distribution alone."""
        return self.power == 1

    def pearson(self, eta: Rows, y: Rows) -> Rows:
        """(y − μ)/μ^(power/2)."""
        return y * np.exp(-self.power / 2 * eta) - np.exp((1 - self.power / 2) * eta)

    def size(self, eta: Rows, y: Rows) -> Rows:
        """(|y| + μ)/μ^(power/2)."""
        return np.abs(y) * np.exp(-self.power / 2 * eta) + np.exp((1 - self.power / 2) * eta)

    def expected(self, eta: Rows) -> Rows:
        """μ^(2 − power)."""
        return np.exp((2 - self.power) * eta)

    def observed(self, eta: Rows, y: Rows) -> Rows:
        """(2 − power) μ^(2 − power) − (1 − power) y μ^(1 − power)."""
        power = self.power
        return (2 - power) * np.exp((2 - power) * eta) - (1 - power) * y * np.exp((1 - power) * eta)


def family(loss: AnyLoss) -> Family:
    """The family of which a loss is half the deviance.

    Raises
    ------
    InputError
        If it is none of them, with what to do instead.
    """
    # Exactly these classes: a subclass may compare otherwise.
    if type(loss) is SquaredError:
        return Gaussian()
    if type(loss) is BinaryLogistic:
        return Bernoulli()
    if type(loss) is HalfDeviance:
        return Tweedie(float(loss.power))
    raise InputError(
        f"objective: influence measures are those of SquaredError, BinaryLogistic and HalfDeviance (Poisson, gamma, "
        f"Tweedie); its loss is {type(loss).__name__}: {_mend(loss)}"
    )


def _mend(loss: AnyLoss) -> str:
    name = type(loss).__name__
    if isinstance(loss, Hinge | SquaredHinge | SmoothHinge):
        return "a hinge has no variance; fit a logistic regression (BinaryLogistic) on the same rows"
    if "CrossEntropy" in name or name == "PositiveWeighted":
        return "fit one class against the rest with BinaryLogistic, a model for each class"
    if name == "SquaredErrorOfSigns":
        return "fit Ridge or LinearRegression on y = ±1, which has the same coefficients"
    return "write it as one of these, or use upweight.Influence, which takes any differentiable loss"
