"""`recommend`: what agrees most with retraining within so many seconds, by rules that were measured.

The rules are differences of LDS to one model by the automatic choice, on tasks of several architectures whose ground
truths are models of random halves (protocol *averaged seeds*): docs/choice.md says which, and where each rule failed.
"""

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
from upweight.planning.long import duration
from upweight.planning.plan import DEFAULT_QUERIES
from upweight.retraining import expansion
from upweight.retraining.by_weights import taking_weights
from upweight.retraining.expanded import Expansion
from upweight.retraining.workers import Train, TrainingFailedError

WEIGHT = 0.5
"""Of the expansion points that were measured: the share that halves keep."""
TEMPERATURE = 2.0
"""That outputs are divided by where they are tempered."""


@dataclass(frozen=True)
class Rule:
    """What a way gained on the tasks measured.

    Attributes
    ----------
    gain, worst
        LDS over one model by automatic choice: the mean over tasks, and the least.
    tasks
        How many were measured.
    """

    gain: float
    worst: float
    tasks: int


ONE, TEMPERED, MOVED, TRAINED = "one model", "one model, tempered by 2", "moved to weight ½", "trained at weight ½"
RULES = {
    (ONE, 0): Rule(0.0, 0.0, 12),
    (TRAINED, 1): Rule(0.051, -0.020, 12),
    (TEMPERED, 0): Rule(0.084, -0.030, 8),
    (MOVED, 0): Rule(0.102, -0.030, 11),
    (TRAINED, 3): Rule(0.103, 0.075, 5),
}
"""By way and models; from experiments/choice."""


@dataclass(frozen=True)
class Way:
    """One of the ways to score.

    Attributes
    ----------
    name
        In words.
    models
        How many are trained and averaged over; 0: none is trained.
    seconds
        What it would take: trainings, fits and scores.
    rule
        What it gained where it was measured.
    """

    name: str
    models: int
    seconds: float
    rule: Rule

    def __str__(self) -> str:
        return (
            f"{self.name}: {duration(self.seconds)}, LDS {self.rule.gain:+.3f} over one model "
            f"(worst {self.rule.worst:+.3f}, {self.rule.tasks} tasks)"
        )


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


def ways(
    scored: float, moving: float, training: float, *, linear: bool = False, classes: bool = True
) -> tuple[Way, ...]:
    """The ways that there are, from the least to the highest expected LDS.

    Parameters
    ----------
    scored, moving, training
        Seconds of a fit with its scores, of moving the model (nan: it does harm), and of one training (nan: there is
        none).
    linear
        Whether outputs are linear in θ: there influence is of the optimum itself, and nothing else was measured.
    classes
        Whether the loss is a cross-entropy, whose outputs can be tempered.
    """
    found = []
    for (name, models), rule in RULES.items():
        if name == ONE or (name == TEMPERED and classes and not linear):
            found.append(Way(name, models, scored, rule))
        elif name == MOVED and not math.isnan(moving) and not linear:
            found.append(Way(name, models, moving + scored, rule))
        elif name == TRAINED and not math.isnan(training) and not linear:
            words = name if models == 1 else f"{name}, {models} seeds"
            found.append(Way(words, models, (models + 1) * training + models * scored, rule))  # one more: the check
    return tuple(sorted(found, key=lambda way: way.rule.gain))


def choose(every: tuple[Way, ...], budget: float) -> Way:
    """The highest expected LDS that is affordable; the cheapest way where none is."""
    affordable = [way for way in every if way.seconds <= budget]
    return affordable[-1] if affordable else min(every, key=lambda way: way.seconds)


def reason(best: Way, every: tuple[Way, ...], budget: float, training: float, fit: float) -> str:
    """Why, in words with figures."""
    costs = f"a fit took {duration(fit)}" + ("" if math.isnan(training) else f", a training {duration(training)}")
    if best.seconds > budget:
        return f"{best.name}: nothing fits {duration(budget)}; this is the cheapest, {duration(best.seconds)} ({costs})"
    gain = "" if best.name == ONE else f": {best.rule.gain:+.3f} LDS over one model on {best.rule.tasks} tasks"
    words = f"{best.name}, about {duration(best.seconds)} ({costs}){gain}"
    better = [way for way in every if way.rule.gain > best.rule.gain]
    if better:
        next_up = better[0]
        words += (
            f"; {next_up.name} would gain {next_up.rule.gain - best.rule.gain:.3f} more in {duration(next_up.seconds)}"
        )
    elif math.isnan(training):
        words += "; with train= trainings at weight ½ could be weighed too"
    if best.rule.worst < 0:
        words += f"; where it did worst it lost {-best.rule.worst:.3f}"
    return words
