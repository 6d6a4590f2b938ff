"""Damping from the spectrum, without retraining: δ at which the data determine a set share of their number.

Influence extrapolates from a derivative at one example's weight. How far that holds is a matter of leverage: an
example's pull on its own fit, whose mean over examples is the effective dimension d(δ) = tr B(B + λ + δ)⁻¹ (B the
curvature without the penalty λ) over n (Hastie, Tibshirani & Friedman 2009, section 3.4.1). Where the mean
leverage is large the derivative fits single examples and foretells little of retraining; where it is small the
inverse is flat and the curvature wasted. δ is therefore set so that d(δ)/n has a fixed value, which is a property of
the spectrum alone: scale, width of the network and number of parameters drop out. The value below was chosen on the
benchmark tasks, where it lies within .02 LDS of the best damping of a grid.

Matrices approximated layer by layer (K-FAC, EK-FAC, the diagonal) are another matter. What stands between layers and
between Kronecker factors is missing, their spectrum is spread over all p directions and the effective dimension says
nothing of the data. Measured, no δ > 0 does much better than the penalty that training used, so δ only stands in for
it where there is none: λ + δ is a tenth of the mean eigenvalue at least, of parameters without a penalty (biases and
norms, as `Trainer` has them) too. Networks far from fitting their data are the exception. There every damping costs,
the penalty's own too, so it can be left out (``EKFAC(penalized=False)``, which the automatic choice takes for them),
and δ, a ten-thousandth of the mean eigenvalue, only keeps off zero.

LDS at the chosen δ and at the best of a grid stand in benchmarks/fidelity/RESULTS.md. The published
alternative (Wang et al. 2025, arXiv 2505.24261) also reads the damping off without retraining, from the queries'
gradients; this one needs no queries and no more than the spectrum's trace functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from upweight import scalars
from upweight.errors import InputError
from upweight.linalg import traces
from upweight.linalg.rows import Apply
from upweight.linalg.traces import Spectrum

MEAN_LEVERAGE = 0.09
"""d(δ)/n at which δ is chosen for exact matrices."""
LAYERWISE_SHARE = 0.1
"""λ + δ over the mean eigenvalue that matrices approximated layer by layer are given at least."""
UNPENALIZED_SHARE = 1e-4
"""δ over the mean eigenvalue where the penalty is left out on purpose."""
PROBES = 4
STEPS = 40
"""Products at most: a quadrature ends before, once λ + δ is known to `KNOWN`."""
KNOWN = 0.03
"""Relative width of the bounds of λ + δ that is enough. Other probes' δ differs by a tenth."""
FALLBACK = 0.1
"""δ over the mean eigenvalue where the data determine fewer directions than asked for."""
SPAN = 60
"""Orders of e below the largest eigenvalue that are searched for δ."""


def quadrature(
    apply: Apply,
    size: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    seed: int = 0,
    enough: Callable[[Spectrum, Spectrum], bool] | None = None,
) -> Spectrum:
    """The spectrum of a symmetric positive matrix, estimated by `PROBES` random signs and `STEPS` products.

    ``enough`` is as of `upweight.linalg.traces.quadrature`.
    """
    signs = traces.random_signs(PROBES, size, scalars.generator(seed), dtype, device)
    return traces.quadrature(apply, signs, STEPS, enough)


def is_known(upper: Spectrum, lower: Spectrum, examples: int, penalty: float, leverage: float = MEAN_LEVERAGE) -> bool:
    """Whether `damping_at` of two spectra, of larger and of smaller effective dimensions, is the same to `KNOWN`."""
    most = damping_at(upper, examples, penalty, leverage)
    return most == 0 or most - damping_at(lower, examples, penalty, leverage) <= KNOWN * (penalty + most)


def layerwise_damping(spectrum: Spectrum, penalty: float, share: float = LAYERWISE_SHARE) -> float:
    """δ that brings the least λ + δ to a share of the mean eigenvalue; 0 where that λ is more."""
    return max(share * spectrum.trace / float(spectrum.weights.sum()) - penalty, 0.0)


def damping_at(spectrum: Spectrum, examples: int, penalty: float, leverage: float = MEAN_LEVERAGE) -> float:
    """δ with tr B(B + λ + δ)⁻¹ = leverage · n; 0 if the penalty alone damps as much.

    Raises
    ------
    InputError
        If the curvature is zero.
    """
    from scipy.optimize import brentq  # here: half a second that the import of the package would take

    top = float(spectrum.values.max())
    if not top > 0:
        raise InputError(f"damping: 'auto' needs curvature that isn't zero or NaN (got {top:g}); give a number > 0")
    target = leverage * examples

    def excess(log_shift: float) -> float:
        return spectrum.effective_dimension(math.exp(log_shift)) - target

    low, high = math.log(top) - SPAN, math.log(top) + math.log(max(spectrum.trace / top, 1) / target + 1) + 1
    if penalty > 0 and spectrum.effective_dimension(penalty) <= target:
        return 0.0
    if excess(low) <= 0:  # fewer directions than that altogether, and no penalty: only what has none needs damping
        return FALLBACK * spectrum.trace / float(spectrum.weights.sum())
    shift = math.exp(float(brentq(excess, low, high, xtol=1e-4)))
    return max(shift - penalty, 0.0)
