"""What isn't defined is put to NaN, and one warning says where and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from upweight.diagnostics.measures import LEAST_FREEDOM, Measures
from upweight.errors import NotStationaryWarning, UpweightWarning, warn

NAMED = 5
NEAR = 0.01
"""Standard errors from its minimum up to which θ counts as being there."""


def settled(found: Measures, weights: Float[np.ndarray, " n"], ids: np.ndarray, names: tuple[str, ...]) -> Measures:
    """The measures with NaN in place of what isn't a number, and what rows without weight do: nothing."""
    idle = weights == 0
    rows = {"internal": 0.0, "external": 0.0, "cooks_distance": 0.0, "dffits": 0.0, "covariance_ratio": 1.0}
    columns: dict[str, Any] = {
        name: _numbers(np.where(idle, value, getattr(found, name))) for name, value in rows.items()
    }
    dfbetas = np.where(idle[:, None] & found.identified, 0.0, found.dfbetas)
    done = replace(found, dfbetas=_numbers(dfbetas), **columns)
    _tell(done, ids, names)
    return done


def warn_if_elsewhere(newton: float) -> None:
    """Warn where θ is no minimum: the measures are of a fit."""
    if newton > NEAR:
        warn(
            f"statistics: θ is {newton:.2g} standard errors from its minimum, so this is no fit whose rows could be "
            "left out: train further (upweight.retraining.fit), or fit with a smaller tol",
            NotStationaryWarning,
        )


def _numbers(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _tell(found: Measures, ids: np.ndarray, names: tuple[str, ...]) -> None:
    said: list[str] = []
    left = found.residual
    alone = found.hat == 1
    if not found.identified.all():
        which = _list(names[j] for j in np.flatnonzero(~found.identified))
        said.append(f"DFBETAS of {which}: these columns depend on each other linearly; drop one, or fit with l2")
    if left <= LEAST_FREEDOM:
        said.append(f"all rows: {found.effective:.6g} parameters leave no degrees of freedom to measure residuals by")
    elif found.perfect:
        said.append("all rows: the fit is perfect, no residual is left to measure by")
    else:
        if left <= 1 + LEAST_FREEDOM:
            said.append(f"measures without a row: of {left:.3g} degrees of freedom none is left")
        if alone.any():
            said.append(f"leverage 1, so that the fit goes through it whatever its target: {_rows(alone, ids)}")
        if found.perfect_without.any():
            said.append(f"the others are fitted perfectly without it: {_rows(found.perfect_without, ids)}")
        bad = np.isnan(found.external) | np.isnan(found.internal) | np.isnan(found.covariance_ratio)
        bad &= ~(alone | found.perfect_without) & (left > 1 + LEAST_FREEDOM)
        if bad.any():
            said.append(f"beyond what a one-step formula or a float can say: {_rows(bad, ids)}")
    if said:
        warn("statistics: NaN where not defined. " + "; ".join(said), UpweightWarning)


def _rows(mask: Bool[np.ndarray, " n"], ids: np.ndarray) -> str:
    return "row " + _list(str(ids[i]) for i in np.flatnonzero(mask))


def _list(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more
