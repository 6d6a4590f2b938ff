"""What takes long says so before it begins, with its figure and the quicker way."""

from __future__ import annotations

from collections.abc import Sequence

from upweight.curvature import EmpiricalFisher, Fisher
from upweight.errors import UpweightWarning, warn
from upweight.inverse import CG, EKFAC, Dense, Dual, Inverse, LiSSA, Solver
from upweight.inverse.costs import Counts, Stage, Work, work_of
from upweight.inverse.dense import LARGEST
from upweight.inverse.dual import DEFAULT_ROWS, used_rows
from upweight.losses import Loss
from upweight.objective import Objective
from upweight.planning.choice import row_curvature
from upweight.planning.plan import FITTING, product_speed

LONG = 60.0
"""Seconds from which work is announced."""
LEAST_WORK = 1e10
"""Operations below which nothing is timed: no machine needs a minute."""
A_CALL = 1e6
"""Operations that the call of a model costs at least, however small it is."""


class LongWork:
    """Warns once of an inverse's long work."""

    def __init__(self, objective: Objective, inverse: Inverse | Solver, memory: int):
        self._objective, self._inverse, self._memory = objective, inverse, memory
        self._said = False

    def warn(self, queries: int, solver: Solver | None = None) -> None:
        """If the plan for so many queries is longer than a minute; with a fitted ``solver`` its fit is done."""
        inverse = self._inverse if solver is None else solver
        if self._said or not queries or isinstance(inverse, LiSSA):
            return
        counts = Counts(self._objective, queries, self._memory)
        stages = _ahead(inverse, work_of(counts, inverse, timed=False))
        passes = sum(stage.flops for stage in stages) / counts.pass_flops / queries
        if sum(stage.flops for stage in stages) + passes * A_CALL < LEAST_WORK:
            return
        speed = product_speed(self._objective)
        work = work_of(counts, inverse)
        stages = _ahead(inverse, work)
        seconds = _seconds(stages, speed)
        if seconds < LONG:
            return
        self._said = True
        longest = max(stages, key=lambda stage: stage.seconds_at(speed))
        limit = f", {duration(_seconds(work.most, speed))} at the limit of iterations" if work.most else ""
        flops = sum(stage.flops for stage in stages)
        warn(
            f"{type(self._inverse).__name__}: about {duration(seconds)} of work ahead ({flops:.1e} operations, most of "
            f"them for: {longest.name}){limit}{self._quicker(counts, seconds, speed)}. influence.plan() lists the "
            "stages",
            UpweightWarning,
        )

    def _quicker(self, counts: Counts, seconds: float, speed: float) -> str:
        """The quickest of what else would serve, if it takes less than half as long."""
        found = []
        for words, inverse in _others(counts):
            if type(inverse) is not type(self._inverse):
                found.append((_seconds(work_of(counts, inverse).stages, speed), words))
        best = min(found, default=(seconds, ""))
        return f"; {best[1]} would take about {duration(best[0])}" if best[0] < seconds / 2 else ""


def _ahead(inverse: Inverse | Solver, work: Work) -> tuple[Stage, ...]:
    """The stages that are not done yet: a fitted inverse has its fit behind it."""
    if isinstance(inverse, Inverse):
        return work.stages
    return tuple(stage for stage in work.stages if not stage.name.startswith(FITTING))


def _others(counts: Counts) -> list[tuple[str, Inverse]]:
    objective = counts.objective
    if objective.is_linear:
        dense = [("inverse.Dense()", Dense())] if objective.p <= LARGEST else []
        return [*dense, ("inverse.CG()", CG())]
    if not objective.engine.function.factored:
        return []
    curvature, _ = row_curvature(objective)
    rows = used_rows(counts, curvature, DEFAULT_ROWS)
    factor = Fisher() if isinstance(objective.loss, Loss) and objective.loss.is_likelihood else EmpiricalFisher()
    names = (type(curvature).__name__, type(factor).__name__)
    return [
        (f"inverse.Dual(curvature.{names[0]}())", Dual(curvature, rows=rows)),
        (f"inverse.EKFAC(curvature.{names[1]}())", EKFAC(factor)),
    ]


def _seconds(stages: Sequence[Stage], speed: float) -> float:
    return sum(stage.seconds_at(speed) for stage in stages)


def duration(seconds: float) -> str:
    """Seconds in words: 41 s, 3 min, 5 h."""
    if seconds < 120:
        return f"{seconds:,.0f} s" if seconds >= 1 else "a second"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.0f} h"
