"""`recommend`: what agrees most with retraining within so many seconds, by rules that were measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import torch

from upweight import kinds, scalars
from upweight.ensemble import Ensemble
from upweight.influence import Influence
from upweight.losses import CrossEntropy
from upweight.objective import Objective
from upweight.planning.plan import DEFAULT_QUERIES
from upweight.planning.ways import ONE, TEMPERED, Way, choose, reason, ways
from upweight.retraining import expansion
from upweight.retraining.by_weights import taking_weights
from upweight.retraining.expanded import Expansion
from upweight.retraining.workers import Train, TrainingFailedError

WEIGHT = 0.5
"""Of the expansion points that were measured: the share that halves keep."""
TEMPERATURE = 2.0
"""That outputs are divided by where they are tempered."""


@dataclass(frozen=True)
class Recommendation:
    """What to run, and why.

    Attributes
    ----------
    way
        The one recommended.
    ways
        All that were looked at, from the least to the highest expected LDS.
    budget
        Seconds that were given.
    training, fit, scoring
        Seconds that one training took (nan: none was given), one fit, and what scores are estimated to take.
    reason
        Why, in words with figures.
    """

    objective: Objective
    train: Train | None
    way: Way
    ways: tuple[Way, ...]
    budget: float
    training: float
    fit: float
    scoring: float
    reason: str

    @property
    def at(self) -> Expansion | None:
        """Where to linearise; None: at the model handed in."""
        if self.way.name in (ONE, TEMPERED):
            return None
        if not self.way.models:
            return expansion(weight=WEIGHT)
        return expansion(self.train, weight=WEIGHT, seeds=range(self.way.models))

    def build(self) -> Influence | Ensemble:
        """What to call ``attribute(queries)`` of; trains what it needs."""
        at = self.at
        if self.way.name == TEMPERED:
            return Influence(tempered(self.objective))
        if at is not None and len(at.seeds) > 1:
            return Ensemble(self.objective, at)
        return Influence(self.objective, at=at)

    def __str__(self) -> str:
        lines = [self.reason, "looked at:", *(f"  {way}" for way in self.ways)]
        return "\n".join(lines)


def recommend(
    objective: Objective, train: Train | None = None, *, budget: float, queries: Any = DEFAULT_QUERIES
) -> Recommendation:
    """Which way of scoring to take for agreement with retraining within a budget; times one training and one fit.

    For questions about subsets of the data, and the procedure that trains on them. For one example left out of the
    model handed in take ``uw.Influence(objective)``, whatever this says.

    Parameters
    ----------
    train
        ``train(weights, seed)``, as for `expansion`; None: no other model can be trained. One is trained here.
    budget
        Seconds for all that is to be run. What this takes to time things is not counted.
    queries
        Their number, or the queries themselves.

    Raises
    ------
    InputError
        If an argument is impossible, or ``train`` can't take weights.
    TrainingFailedError
        If it fails by itself.
    """
    kinds.check(recommend, locals())
    seconds = scalars.number("budget, in seconds", budget, above=0)
    is_single = isinstance(queries, str | Real | np.generic)
    count = scalars.whole("queries", queries) if is_single else len(objective.queries(queries))
    influence = Influence(objective)
    fit = timed(lambda: influence.solver)
    planned = influence.plan(count)
    scoring = planned.seconds - planned.fitting_seconds
    if planned.fitting_seconds > 0:  # as far as this machine is from what was counted
        scoring *= fit / planned.fitting_seconds
    moving = math.nan if objective.is_linear else moved(objective)
    training = math.nan if train is None else timed(lambda: trained_once(train, objective))
    every = ways(
        fit + scoring,
        moving,
        training,
        linear=objective.is_linear,
        classes=isinstance(objective.loss, CrossEntropy),
    )
    best = choose(every, seconds)
    return Recommendation(
        objective, train, best, every, seconds, training, fit, scoring, reason(best, every, seconds, training, fit)
    )


def tempered(objective: Objective) -> Objective:
    """The objective with its outputs divided, of a loss that has a temperature."""
    assert isinstance(objective.loss, CrossEntropy)
    return objective.replace(loss=replace(objective.loss, temperature=TEMPERATURE * objective.loss.temperature))


def moved(objective: Objective) -> float:
    """Seconds that moving the model to weight ½ takes; nan where that fits the data more closely than it did.

    Then its training had stopped before what examples share was learned, and there is little of single ones to unfit:
    moving did harm on both tasks measured there.
    """
    started = time.perf_counter()
    there = expansion(weight=WEIGHT).one(objective)
    spent = time.perf_counter() - started
    return spent if float(there.losses().mean()) > float(objective.losses().mean()) else math.nan


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def trained_once(train: Train, objective: Objective) -> object:
    """One training at the mean weight, to be timed.

    Raises
    ------
    InputError
        If it can't take weights, and how it would.
    """
    with taking_weights():
        try:
            return train(torch.full((objective.n,), WEIGHT), 0)
        except Exception as error:
            raise TrainingFailedError(f"train: with weights and seed 0 it failed: {error}") from error
