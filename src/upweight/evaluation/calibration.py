"""Damping by a handful of retrainings: the δ whose predictions rank models trained on random subsets best.

What a subset is predicted to do is linear in its pull Σ_{i∈S} w_i∇ℓ_i/n, so a damping costs one solve per subset and
no pass over the training data; the retrainings are the price. Few subsets make a noisy curve, whose highest point
wanders along a plateau. δ is therefore the mean of log δ over the grid, weighted by exp(LDS / `NOISE`): the middle of
a plateau, the summit of a peak. Over random draws of 8 halves from the benchmarks' ground truths (five pairs of task
and inverse, 60 draws each, one training a half) it lost .001 to .004 LDS on the other halves to the best of the grid;
the highest point lost .001 to .005 with a worse tail (.035 against .016). Eight halves repair a poor damping; they
don't reliably beat a good automatic one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, plots, scalars
from upweight.data import Data
from upweight.errors import InputError, UpweightWarning, warn
from upweight.evaluation.lds import LDS, LDSResult
from upweight.evaluation.subsets import FEWEST
from upweight.evaluation.training import Training
from upweight.executors import Executor
from upweight.gradients.denormals import flushed
from upweight.inverse import Solver, warned
from upweight.kept import random_states_kept
from upweight.measurements import as_measurement
from upweight.objective import Objective
from upweight.quantities.attributor import Attributor
from upweight.quantities.queries import check_query_targets
from upweight.retraining import random_halves
from upweight.retraining.workers import Train

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure


SPAN = 30.0
"""The default grid goes from "auto" over this to "auto" times this."""
POINTS = 13
NOISE = 0.03
"""Differences of LDS along the curve that eight subsets don't tell apart: their standard deviation was .01 to .03."""


class EndOfGridWarning(UpweightWarning):
    """The best damping of a grid is one of its ends, so a better one may lie beyond."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The damping that ranked retrained models best, and how every other one did.

    Attributes
    ----------
    damping
        The chosen δ: the mean of log δ over the grid, weighted by exp(LDS / .03).
    lds
        Its LDS on the subsets that it was chosen by, which is a little optimistic.
    grid, curve
        The dampings tried, ascending, and the LDS of each.
    auto, auto_lds
        What "auto" resolves to, and its LDS; None where that is 0, since l2 damps enough by itself.
    influence
        The influence at the chosen damping; nothing is fitted again.
    seconds
        Wall time of the retraining.
    """

    damping: float
    lds: LDSResult
    grid: Float[Tensor, " dampings"]
    curve: tuple[LDSResult, ...]
    auto: float
    auto_lds: LDSResult | None
    influence: Attributor
    seconds: float

    def figure(self, title: str | None = None) -> Figure:
        """LDS over damping, with the chosen δ and the one of "auto"."""
        bands = [each.interval for each in self.curve]
        marks = {f"calibrated δ = {self.damping:.2g}": self.damping}
        if self.auto > 0:
            marks[f"auto δ = {self.auto:.2g}"] = self.auto
        return plots.curves_with_bands(
            self.grid,
            {"mean over queries, 95 % interval": [each.lds for each in self.curve]},
            {"mean over queries, 95 % interval": ([each.low for each in bands], [each.high for each in bands])},
            marks=marks,
            log_x=True,
            xlabel="Damping δ (absolute)",
            ylabel="LDS (rank correlation with retraining)",
            note=f"{len(self.lds.per_query)} queries · {self.lds.subsets} subsets, seeds per subset: {self.lds.seeds}",
            title=title,
        )

    def __repr__(self) -> str:
        auto = "'auto' is 0, l2 damps enough" if self.auto_lds is None else f"'auto' δ={self.auto:.3g}"
        beside = "" if self.auto_lds is None else f": LDS {self.auto_lds.lds:.3f}"
        return (
            f"Calibration: δ={self.damping:.3g}, LDS {self.lds.lds:.3f} {self.lds.interval} on the "
            f"{self.lds.subsets} subsets it was chosen by; {auto}{beside}\n"
            f"  {len(self.grid)} dampings from {float(self.grid[0]):.2g} to {float(self.grid[-1]):.2g}, "
            f"{self.lds.subsets * self.lds.seeds} models in {self.seconds:.1f} s"
        )


@random_states_kept()
def calibrate(
    influence: Attributor,
    queries: Any,
    train: Train,
    *,
    subsets: int = 8,
    fraction: float = 0.5,
    grid: Sequence[float] | None = None,
    seeds: int = 1,
    workers: int = 0,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
) -> Calibration:
    """Retrain on a few random subsets and choose the damping whose predictions rank the outcomes best.

    Parameters
    ----------
    influence
        Whose damping is chosen; as a method, its own.
    queries
        Examples whose losses are predicted and measured; some hundred make the curve smooth.
    train
        ``train(indices, seed)``: trains as the model itself was trained, on these examples, and returns the
        ``nn.Module`` in eval mode, or its parameters.
    subsets, fraction
        How many random subsets, at least 3, and their share of the training data.
    grid
        Absolute dampings to try (default: 13 from 1/30 to 30 times "auto"; where that is 0, times the mean l2).
    seeds
        Models trained on each subset, with seeds 0, 1, …; their losses are averaged.
    workers, folder, executor
        Processes to train in, and where finished models are kept; see `upweight.retraining.train_many`.
    seed
        Of the subsets.

    Raises
    ------
    InputError
        If an argument is impossible, or no query's loss tells the subsets apart.
    """
    kinds.check(calibrate, locals())
    objective, _ = influence.objective, influence.stationarity  # refuses NaN gradients before anything is fitted
    solver = influence.solver
    scalars.number("fraction", fraction, above=0, below=1)
    scalars.whole("seeds", seeds)
    scalars.seed("seed", seed)
    scalars.whole("subsets", subsets, FEWEST)
    outcome_of = LDS(torch.eye(subsets, dtype=torch.bool))
    members = random_halves(objective.n, subsets, seed, fraction)
    training = Training(train, tuple(range(seeds)), workers, folder, executor)
    data = objective.queries(queries)
    check_query_targets(objective, data, as_measurement(None))
    if solver.with_damping(1.0).damping != 1.0:
        raise InputError(f"inverse: {type(solver).__name__} has no damping to calibrate")
    auto = solver.with_damping("auto").damping
    dampings = _dampings(grid, auto or float(objective.l2.mean()))
    effects = _Effects(objective, solver, _pulls(objective, members), data)
    predicted = [effects.at(damping) for damping in dampings]  # first, since it may be refused
    started = time.perf_counter()
    losses = [model.losses(data) for model in training.models(objective, list(members))]
    outcomes = torch.stack(losses).reshape(seeds, subsets, -1).transpose(0, 1)
    seconds = time.perf_counter() - started

    def judged(scores: Float[Tensor, "queries subsets"]) -> LDSResult:
        outcome_of.reset()
        outcome_of.update(scores, outcomes)
        return outcome_of.compute()

    curve = tuple(judged(scores) for scores in predicted)
    damping = weighted_damping(dampings, np.array([each.lds for each in curve]))
    found = judged(effects.at(damping))
    _warn_at_the_end(dampings, curve, found)
    return Calibration(
        damping,
        found,
        torch.tensor(dampings, dtype=torch.float64),
        curve,
        auto,
        judged(effects.at(auto)) if auto > 0 else None,
        influence.with_inverse(solver.with_damping(damping)),
        seconds,
    )


def weighted_damping(dampings: Sequence[float], scores: Float[np.ndarray, " dampings"]) -> float:
    """The mean over log δ, by the spacing of the grid, with the weights exp(score / `NOISE`).

    Raises
    ------
    InputError
        If there is no score.
    """
    if np.isnan(scores).any():
        raise InputError(
            "queries: no query's losses or predictions differ between the subsets, so no damping can be told from "
            "another; give other queries, or check that train(indices, seed) trains on its indices"
        )
    logs = np.log(dampings)
    weights = np.gradient(logs) * np.exp((scores - scores.max()) / NOISE)
    return float(np.exp(np.average(logs, weights=weights)))


@dataclass(frozen=True, eq=False)
class _Effects:
    """What leaving each subset out is predicted to add to the loss of each query."""

    objective: Objective
    solver: Solver
    pulls: Float[Tensor, "subsets p"]
    data: Data

    def at(self, damping: float) -> Float[Tensor, "queries subsets"]:
        """To first order, at this damping: the sum of the members' removal scores."""
        objective = self.objective
        with flushed():
            steps = warned(self.solver.with_damping(damping).solve(self.pulls)).x
            batches = self.data.batches(None, objective.engine.pass_rows)
            parts = [objective.engine.function.each(objective.params, batch).inner(steps) for _, batch in batches]
        return torch.cat(parts, dim=1).T


def _pulls(objective: Objective, subsets: Tensor) -> Float[Tensor, "subsets p"]:
    """(1/n) Σ w_i∇ℓ_i of each subset."""
    rows = torch.zeros(len(subsets), objective.p, dtype=objective.dtype, device=objective.device)
    for row, members in zip(rows, subsets, strict=True):
        for index, batch in objective.batches(members):
            row += objective.engine.function.gradients(objective.params[None], batch, objective.weights[index])[1][0]
    return rows / objective.n


def _dampings(grid: Sequence[float] | None, centre: float) -> list[float]:
    if grid is None:
        return [float(each) for each in centre * np.geomspace(1 / SPAN, SPAN, POINTS)]
    try:
        dampings = sorted({scalars.number("grid", each, above=0) for each in grid})
    except InputError:
        dampings = []
    if len(dampings) < 2:
        raise InputError(f"grid: two or more absolute dampings, finite and > 0; got {list(grid)}")
    return dampings


def _warn_at_the_end(dampings: list[float], curve: tuple[LDSResult, ...], found: LDSResult) -> None:
    best = max(range(len(curve)), key=lambda number: curve[number].lds)
    if best in (0, len(curve) - 1) and curve[best].lds > found.lds + NOISE:
        warn(
            f"calibrate: the LDS is best at an end of the grid, {curve[best].lds:.3f} at δ={dampings[best]:.2g} beside "
            f"{found.lds:.3f} at the weighted mean; try dampings beyond it (grid=…)",
            EndOfGridWarning,
        )
