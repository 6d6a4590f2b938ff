"""Unlearning and correcting labels by generalised influence (Lyu et al. 2023), with lengths computed or judged.

The step is that of `quantities.generalized`, of its computed length. Several steps are re-linearised: curvature
and gradient are taken anew at each θ, and g becomes −∇R′(θ) less what R was away from its optimum at the start, so that
nothing but the change is learnt. With ``search`` each step's length is chosen among multiples by the likelihood of what
is wanted on held-out training examples, of which some stay and some change, and δ follows the lengths, as in a trust
region; test data are never looked at.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from upweight import kinds, scalars, select
from upweight.errors import InputError
from upweight.kept import random_states_kept
from upweight.losses import with_targets
from upweight.objective import Objective
from upweight.predictions import given_labels, predictions
from upweight.progress import track
from upweight.quantities.generalized.equations import Equations
from upweight.quantities.generalized.methods import asked, generalized
from upweight.quantities.generalized.response import Response
from upweight.tasks.unlearning.lengths import LENGTHENED, SHORTENED, best_length
from upweight.tasks.unlearning.problem import Problem, held_out, left, posed, sampled
from upweight.tasks.unlearning.report import UnlearningReport, compared
from upweight.tasks.unlearning.rounds import Rounds


@dataclass(frozen=True, eq=False)
class Unlearned:
    """A model that has changed in part of its parameters.

    Attributes
    ----------
    before, after
        The objectives, with the given model and with the new one.
    responses
        The computed step of each round, with its residuals.
    lengths
        Of each step, in multiples of what was computed; 1 without a search.
    subset
        The entries of θ that moved.
    changed
        Positions of the training examples that were removed or relabelled.
    targets
        Their new labels; None if they were removed.
    score
        With a search: how likely what is wanted is on the held-out examples (`Judgement.score`), by which rules,
        methods and dampings can be compared without test data; else None.
    seconds
        All of it, the choice of parameters included.
    """

    before: Objective
    after: Objective
    responses: tuple[Response, ...]
    lengths: tuple[float, ...]
    subset: select.Subset
    changed: Int[Tensor, " u"]
    targets: Tensor | None
    score: float | None
    seconds: float

    def learnt(self) -> tuple[float, float]:
        """Share of the changed training examples predicted by their label, the new one if they got one: before, after.

        Those held out for a search are among them.
        """
        data = self.before.data
        batch = data.take(self.changed)
        if self.targets is not None:
            batch = with_targets(batch, self.targets)
        found = [(~predictions(each, batch).wrong).double().mean() for each in (self.before, self.after)]
        return float(found[0]), float(found[1])

    @property
    def model(self) -> nn.Module:
        """The new model; the given one is untouched."""
        return self.after.model

    def report(
        self, test: Any, retrained: nn.Module | None = None, retraining_seconds: float = float("nan")
    ) -> UnlearningReport:
        """Accuracy on removed and remaining classes of test data; beside a retrained model and the seconds it took."""
        ideal = None if retrained is None else self.before.replace(model=retrained)
        return compared(self.before, self.after, ideal, self.changed, test, (self.seconds, retraining_seconds))

    def __repr__(self) -> str:
        steps = ", ".join(f"{length:g} × ‖Δ‖ {float(r.step.norm()):.3g}" for length, r in self._steps())
        return (
            f"Unlearned: {len(self.changed):,} of {self.before.n:,} training examples changed, "
            f"{self.subset.size:,} of {self.before.p:,} parameters moved ({self.subset.share:.1%}) by "
            f"{self.responses[0].method} in {self.seconds:.1f} s\n  {self.subset}\n  steps: {steps}"
        )

    def _steps(self) -> Sequence[tuple[float, Response]]:
        return list(zip(self.lengths, self.responses, strict=True))


@dataclass(frozen=True, eq=False)
class Way:
    """How a model is moved, read and checked before any pass over it."""

    chosen: select.Subset | select.Rule
    method: str
    rounds: Rounds
    equations: Equations
    seed: int


@random_states_kept()
def unlearn(
    objective: Objective,
    remove: Any = None,
    *,
    classes: Any = None,
    parameters: Any = None,
    method: str = "GIF",
    rounds: Rounds | None = None,
    equations: Equations = Equations(),
    seed: int = 0,
) -> Unlearned:
    """Forget training examples, a group of them, or whole classes.

    Parameters
    ----------
    objective
        The trained model with all of its training data.
    remove
        Positions of training examples, or
    classes
        the classes whose every example goes.
    parameters
        Which entries of θ may move (default: ``select.highest_output(0.05)``, ranked on what is removed).
    method
        ``GIF``, ``FIF``, ``PIF``, ``IF`` or ``SIF`` (see `quantities.generalized`).
    rounds
        Steps, their lengths and samples (default: ``Rounds()``, one step of the computed length).
    equations
        Of each step: curvature, damping and how to solve; δ is that of the first.
    seed
        Of the examples held out and of samples.

    Raises
    ------
    InputError
        If nothing or everything would be removed, a class isn't there, or equations don't fit the objective.
    """
    kinds.check(unlearn, locals())
    way = _way(objective, parameters, method, rounds, equations, seed)
    return _moved(posed(objective, _removed(objective, remove, classes), None), way)


@random_states_kept()
def correct_labels(
    objective: Objective,
    indices: Any,
    targets: Any,
    *,
    parameters: Any = None,
    method: str = "GIF",
    rounds: Rounds | None = None,
    equations: Equations = Equations(),
    seed: int = 0,
) -> Unlearned:
    """Take other labels for training examples.

    The model moves towards what it would have learnt from them. `Influence.relabel` gives the change that influence
    functions predict instead, and `retraining.relabel` trains on the other labels.

    Parameters
    ----------
    objective
        The trained model with the labels as they were.
    indices
        Positions, a mask or ids of training examples.
    targets
        Their other labels, one for each index, in the form of the training data's.
    parameters, method, rounds, equations, seed
        As for `unlearn`; the default entries of θ are ranked on the examples that change.

    Raises
    ------
    InputError
        If there isn't one target for each index, a target is impossible, or equations don't fit the objective.
    """
    kinds.check(correct_labels, locals())
    way = _way(objective, parameters, method, rounds, equations, seed)
    positions = objective.positions(indices)
    given = torch.atleast_1d(kinds.numbers("targets", targets)).to(objective.device)
    return _moved(posed(objective, positions, given), way)


def _way(
    objective: Objective, parameters: Any, method: str, rounds: Rounds | None, equations: Equations, seed: int
) -> Way:
    scalars.seed("seed", seed)
    rule = select.highest_output(0.05) if parameters is None and method != "IF" else parameters
    return Way(asked(objective, rule, method, equations), method, rounds or Rounds(), equations, seed)


def _removed(objective: Objective, remove: Any, classes: Any) -> Int[Tensor, " u"]:
    if (remove is None) == (classes is None):
        raise InputError("remove: give positions of training examples, or classes=…, one of the two")
    if classes is None:
        positions = objective.positions(remove, "remove")
    else:
        wanted = torch.atleast_1d(kinds.whole_numbers("classes", classes)).cpu()
        if not len(wanted):
            raise InputError("classes: got none; give at least one label, or remove=…")
        given = given_labels(objective).cpu()
        missing = [int(label) for label in wanted if not bool((given == label).any())]
        if missing:
            raise InputError(f"classes: {missing} aren't among the training labels {given.unique().tolist()}")
        positions = torch.isin(given, wanted).nonzero().flatten()
    if len(positions) == objective.n:
        raise InputError(f"remove: they are all {objective.n:,} training examples; nothing would be left")
    return positions


def _moved(problem: Problem, way: Way) -> Unlearned:
    """The model after all rounds."""
    start = time.perf_counter()
    objective, positions, targets = problem.objective, problem.positions, problem.targets
    rounds, seed, chosen, equations = way.rounds, way.seed, way.chosen, way.equations
    judge = None
    if rounds.search:
        problem, judge = held_out(problem, rounds.holdout, rounds.sample, seed)
    equations.refuse_more_examples(left(problem, rounds.sample))
    drawn = sampled(problem, rounds.sample, seed)
    responses: list[Response] = []
    lengths: list[float] = []
    params, slope = objective.params, None
    for number in track(range(rounds.steps), f"{way.method} of {len(positions):,} examples, step by step"):
        current, further = drawn.objective, None
        if number:
            if rounds.sample is not None:
                drawn, slope = sampled(problem, rounds.sample, seed + number), None
            slope = drawn.objective.gradient() if slope is None else slope
            current = drawn.objective.at(params)
            further = slope - current.gradient()
        response = generalized(
            current, drawn.change, chosen, method=way.method, equations=equations, further=further, seed=seed
        )
        length = 1.0 if judge is None else best_length(lambda x, step=response: judge.score(step.params(x)))  # type: ignore[misc]
        chosen = response.subset  # ranked once, on the examples of the first step
        responses.append(response)
        lengths.append(length)
        params = response.params(length)
        if judge is not None and length != 1:
            equations = replace(equations, damping=response.damping * (SHORTENED if length < 1 else LENGTHENED))
    return Unlearned(
        before=objective,
        after=objective.at(params),
        responses=tuple(responses),
        lengths=tuple(lengths),
        subset=responses[0].subset,
        changed=positions,
        targets=targets,
        score=None if judge is None else judge.score(params),
        seconds=time.perf_counter() - start,
    )
