"""Why an algorithm can't go on, with the figures; those who call say it in words of their own."""

from __future__ import annotations


class NotPositiveError(ArithmeticError):
    """A matrix that must be positive (semi-)definite has a direction d of other curvature.

    Attributes
    ----------
    quotient
        dᵀAd/dᵀd, or nan if products aren't finite.
    iterations
        Made before it was met.
    largest
        The largest stretch ‖Ad‖/‖d‖ seen.
    """

    def __init__(self, quotient: float, iterations: int, largest: float):
        super().__init__(f"dᵀAd/dᵀd = {quotient:.3e} after {iterations} iterations")
        self.quotient, self.iterations, self.largest = quotient, iterations, largest


class PreconditionerNotPositiveError(ArithmeticError):
    """A preconditioner is not positive definite to rounding."""


class DivergedError(ArithmeticError):
    """A series diverges at every scale that was tried, from ``first`` to ``last``."""

    def __init__(self, first: float, last: float):
        super().__init__(f"diverges at every scale from {first:g} to {last:g}")
        self.first, self.last = first, last
