"""The result: seven measures of each row, with the figures that they rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from upweight import plots, scalars
from upweight.optional import imported

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAMED = 3
COLUMNS = {
    "hat": "hat value",
    "studentised_internal": "internally studentised residual",
    "studentised_external": "externally studentised residual",
    "cooks_distance": "Cook's distance",
    "dffits": "DFFITS",
    "covariance_ratio": "covariance ratio",
}
"""The measures that are one number for each row, in words."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Influence measures of each training row (see `upweight.statistics` for their definitions).

    Attributes
    ----------
    hat
        Leverage h_i, ``[n]``: the share of the row's fitted value that its own target decides.
    studentised_internal, studentised_external
        Residuals over their standard errors, by all rows' variance and by that of the others, ``[n]``.
    cooks_distance
        How far θ moves without the row, in the metric of its covariance, ``[n]``.
    dffits
        How far the row's own fitted value falls without it, in standard errors, ``[n]``.
    dfbetas
        How far each parameter falls without the row, in standard errors, ``[n, p]``.
    covariance_ratio
        det cov(θ) without the row over that with it, ``[n]``: below 1, the row costs precision.
    ids, names
        Of rows and parameters.
    family
        What was fitted, in words.
    dispersion
        σ² (φ) of all rows; 1 where the family knows it.
    effective_parameters, residual_degrees
        The trace of the hat matrix (without a penalty: its rank), and n less that; rows of weight 0 don't count.
    """

    hat: Float[np.ndarray, " n"]
    studentised_internal: Float[np.ndarray, " n"]
    studentised_external: Float[np.ndarray, " n"]
    cooks_distance: Float[np.ndarray, " n"]
    dffits: Float[np.ndarray, " n"]
    dfbetas: Float[np.ndarray, "n p"]
    covariance_ratio: Float[np.ndarray, " n"]
    ids: np.ndarray
    names: tuple[str, ...]
    family: str
    dispersion: float
    effective_parameters: float
    residual_degrees: float

    def to_pandas(self) -> pd.DataFrame:
        """One row per training row, its id as index; DFBETAS in columns ``dfb_`` + the parameter's name."""
        with imported("tables", "Statistics.to_pandas"):
            import pandas as pd
        columns = {name: getattr(self, name) for name in COLUMNS}
        columns |= {f"dfb_{name}": self.dfbetas[:, j] for j, name in enumerate(self.names)}
        return pd.DataFrame(columns, index=pd.Index(self.ids, name="id"))

    @property
    def thresholds(self) -> dict[str, float]:
        """The customary marks of |measure|, to look at rows by and no tests: Belsley, Kuh & Welsch (1980), chapter 2.

        hat 2k/n; studentised residuals 2; Cook's distance 4/n; DFFITS 2√(k/n); DFBETAS 2/√n; covariance ratio
        |ratio − 1| 3k/n; k being the effective parameters.
        """
        k, n = self.effective_parameters, self.effective_parameters + self.residual_degrees
        return {
            "hat": 2 * k / n,
            "studentised_internal": 2.0,
            "studentised_external": 2.0,
            "cooks_distance": 4 / n,
            "dffits": 2 * float(np.sqrt(k / n)),
            "covariance_ratio": 3 * k / n,
            "dfbetas": 2 / float(np.sqrt(n)),
        }

    def figure(self, measure: str | None = None, title: str | None = None) -> Figure:
        """Internally studentised residuals against hat values, with curves of equal Cook's distance.

        With ``measure``, a column of `to_pandas`: that one by row, with its customary marks. Rows that aren't defined
        are left out, and the figure says how many.

        Raises
        ------
        InputError
            If there is no such measure, or it is nowhere defined.
        """
        names = self._labels()
        if measure is None:
            return plots.residuals_by_leverage(
                self.hat, self.studentised_internal, self.effective_parameters, labels=names, title=title
            )
        frame = self.to_pandas()
        column = scalars.one_of("measure", measure, list(frame.columns))
        mark = self.thresholds[column if column in COLUMNS else "dfbetas"]
        words = COLUMNS.get(column, f"DFBETAS of {column.removeprefix('dfb_')}")
        marks = (mark,) if column in ("hat", "cooks_distance") else (-mark, mark)
        middle = 1.0 if column == "covariance_ratio" else 0.0
        return plots.measure_by_row(
            frame[column].to_numpy(),
            quantity=words,
            marks=[middle + mark for mark in marks if column != "covariance_ratio" or middle + mark > 0],
            middle=middle,
            labels=names,
            title=title,
        )

    def _labels(self) -> list[str]:
        return [str(name) for name in self.ids.tolist()]

    def __repr__(self) -> str:
        n = len(self.ids)
        lines = [
            f"Statistics [{n:,}] of {self.family}: {len(self.names)} parameters ({self.effective_parameters:.6g} "
            f"effective), {self.residual_degrees:.6g} degrees of freedom left, dispersion {self.dispersion:.6g}"
        ]
        shown = {name: getattr(self, name) for name in COLUMNS if name != "studentised_internal"}
        for column, values in shown.items():
            mark, distance = self.thresholds[column], np.abs(values - (column == "covariance_ratio"))
            order = [i for i in np.argsort(-np.nan_to_num(distance, nan=-1.0), kind="stable") if distance[i] >= 0]
            named = ", ".join(f"{self.ids[i]} ({values[i]:.3g})" for i in order[:NAMED])
            count = int((distance > mark).sum())
            beyond = f"|ratio − 1| > {mark:.3g}" if column == "covariance_ratio" else f"beyond {mark:.3g}"
            lines.append(f"  {COLUMNS[column]}: {named or 'not defined'}; {count} {beyond}")
        undefined = int(np.isnan(self.dffits).sum())
        if undefined:
            lines.append(f"  not defined (NaN) in {undefined} of {n} rows")
        lines.append("  .to_pandas() holds all rows, and DFBETAS of each parameter; .figure() draws them")
        return "\n".join(lines)
