"""Ways of scoring for agreement with retraining: what each gained where it was measured, and which a budget affords.

The gains are differences of LDS to one model by the automatic choice, on tasks of several architectures whose ground
truths are models of random halves (protocol *averaged seeds*): docs/choice.md says which, and where each way failed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from upweight.planning.long import duration


@dataclass(frozen=True)
class Measured:
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
GAINS = {
    (ONE, 0): Measured(0.0, 0.0, 12),
    (TRAINED, 1): Measured(0.053, -0.020, 11),
    (TEMPERED, 0): Measured(0.084, -0.030, 8),
    (TRAINED, 3): Measured(0.089, 0.075, 4),
    (MOVED, 0): Measured(0.116, 0.032, 10),
}
"""By way and models, as experiments/choice/gains.py has them from results."""


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
    measured
        What it gained where it was measured.
    """

    name: str
    models: int
    seconds: float
    measured: Measured

    def __str__(self) -> str:
        return (
            f"{self.name}: {duration(self.seconds)}, LDS {self.measured.gain:+.3f} over one model "
            f"(worst {self.measured.worst:+.3f}, {self.measured.tasks} tasks)"
        )


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
    for (name, models), measured in GAINS.items():
        if name == ONE or (name == TEMPERED and classes and not linear):
            found.append(Way(name, models, scored, measured))
        elif name == MOVED and not math.isnan(moving) and not linear:
            found.append(Way(name, models, moving + scored, measured))
        elif name == TRAINED and not math.isnan(training) and not linear:
            words = name if models == 1 else f"{name}, {models} seeds"
            found.append(Way(words, models, (models + 1) * training + models * scored, measured))  # one more: the check
    return tuple(sorted(found, key=lambda way: way.measured.gain))


def choose(every: tuple[Way, ...], budget: float) -> Way:
    """The highest expected LDS that is affordable; the cheapest way where none is."""
    affordable = [way for way in every if way.seconds <= budget]
    return affordable[-1] if affordable else min(every, key=lambda way: way.seconds)


def reason(best: Way, every: tuple[Way, ...], budget: float, training: float, fit: float) -> str:
    """Why, in words with figures."""
    costs = f"a fit took {duration(fit)}" + ("" if math.isnan(training) else f", a training {duration(training)}")
    if best.seconds > budget:
        return f"{best.name}: nothing fits {duration(budget)}; this is the cheapest, {duration(best.seconds)} ({costs})"
    gain = "" if best.name == ONE else f": {best.measured.gain:+.3f} LDS over one model on {best.measured.tasks} tasks"
    words = f"{best.name}, about {duration(best.seconds)} ({costs}){gain}"
    better = [way for way in every if way.measured.gain > best.measured.gain]
    if better:
        next_up = better[0]
        more = next_up.measured.gain - best.measured.gain
        words += f"; {next_up.name} would gain {more:.3f} more in {duration(next_up.seconds)}"
    elif math.isnan(training):
        words += "; with train= trainings at weight ½ could be weighed too"
    if best.measured.worst < 0:
        words += f"; where it did worst it lost {-best.measured.worst:.3f}"
    return words
