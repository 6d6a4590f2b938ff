"""The point that influence is linearised at: the model that training gives at mean weight w̄, not the one handed in.

A model of a random half of the data was trained with weights of mean ½. What a derivative at weight 1 says of it is an
extrapolation over the whole way; at ½ it is in the middle of all halves. So the examples' losses are weighted w̄ (the
penalty as it is), a model is trained so, and influence is taken there. It explains the *procedure* around w̄.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.attribution import Attribution, Quantity
from upweight.errors import InputError
from upweight.executors import Executor
from upweight.objective import Objective
from upweight.retraining.by_weights import HOW, refuse_unlike, trained_at
from upweight.retraining.fit import refuse_coarse
from upweight.retraining.workers import Train

PASSES = 5
"""Iterations of L-BFGS from the shrunk model: enough to fit again what examples share, too few for what single ones
have. Measured (experiments/expansion)."""


@dataclass(frozen=True)
class Expansion:
    """Where to linearise: every training example's loss at this weight; made by `upweight.expansion`.

    Attributes
    ----------
    weight
        w̄.
    train
        The user's ``train(weights, seed)``; None: the model handed in is moved.
    seeds
        A model each.
    check
        Whether the first seed is trained twice, to be sure that it decides everything.
    passes
        Iterations of L-BFGS of a model that is moved.
    workers, folder, executor
        Of the trainings, as of `train_many`.
    """

    weight: float
    train: Train | None = None
    seeds: tuple[int, ...] = (0,)
    check: bool = True
    passes: int = PASSES
    workers: int = 0
    folder: str | os.PathLike[str] | None = None
    executor: Executor | None = None

    @property
    def words(self) -> str:
        """Where scores are linearised, in a sentence."""
        how = "the model handed in, moved there" if self.train is None else "a model trained there"
        return (
            f"expanded at mean weight {self.weight:g} ({how}): every example's loss counts {self.weight:g}, and this "
            "one's falls to 0. Explains what training does around that weight, not the model handed in"
        )

    def objectives(self, objective: Objective) -> list[Objective]:
        """The objective at mean weight w̄ with its model there, one for each seed.

        Raises
        ------
        InputError
            If ``train`` can't take weights, takes no notice of them, or isn't the same twice with one seed.
        TrainingFailedError
            If it fails by itself.
        """
        weighted = objective.replace(weights=self.weight * objective.weights)
        if self.train is None:
            return [moved(weighted, self.weight, self.passes)]
        everything = torch.arange(objective.n)
        jobs = [(everything, seed) for seed in self.seeds]
        trained = partial(
            trained_at,
            self.train,
            objective=objective,
            weight=self.weight,
            workers=self.workers,
            executor=self.executor,
        )
        found = trained(jobs=jobs, folder=self.folder)
        members = [weighted.replace(model=found.model(number)) for number in range(len(found))]
        if self.weight != 1 and any(torch.equal(member.params, objective.params) for member in members):
            raise InputError(
                f"train: with every weight {self.weight:g} it gives the very model that was handed in, so it takes no "
                f"notice of weights. Let it take them: {HOW}"
            )
        if self.check:
            again = trained(jobs=jobs[:1])
            refuse_unlike(members[0].params, weighted.replace(model=again.model(0)).params, self.seeds[0])
        return members

    def one(self, objective: Objective) -> Objective:
        """The same of a single seed.

        Raises
        ------
        InputError
            If there are more.
        """
        if len(self.seeds) > 1:
            raise InputError(
                f"at: {len(self.seeds)} seeds are as many models; give upweight.Ensemble(objective, at), which "
                "averages over them, or one seed"
            )
        return self.objectives(objective)[0]

    def said(self, quantity: Quantity) -> Quantity:
        """What a score is, with where it is linearised."""
        if self.weight == 1 and self.train is not None:
            return quantity
        return replace(quantity, words=f"{quantity.words}; {self.words}")

    def told(self, found: Attribution) -> Attribution:
        """A result that says so, in words and as a figure."""
        return replace(found, quantity=self.said(found.quantity), facts={**found.facts, "mean weight": self.weight})


def expansion(
    train: Train | None = None,
    *,
    weight: float = 0.5,
    seeds: Sequence[int] = (0,),
    check: bool = True,
    passes: int = PASSES,
    workers: int = 0,
    folder: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
) -> Expansion:
    """Where to linearise influence: at the model that training gives when every example has this weight.

    ``uw.Influence(objective, at=uw.expansion(train))``, ``uw.Ensemble(objective, uw.expansion(train, seeds=range(3)))``
    and ``uw.TRAK(objective, uw.expansion(train))`` explain what training does around that weight: for questions about
    subsets of the data, whose mean weight is their share. For one example left out of the model handed in, leave it.

    Parameters
    ----------
    train
        ``train(weights, seed)`` trains with each example's loss times its weight, ``[train]`` floats, the penalty and
        the number of steps as they are, and returns the model (or θ). A function of positions can't be used. Default:
        none is trained; the model handed in is shrunk to √w̄ θ and taken a few iterations of L-BFGS down its own
        objective at that weight, which unfits what single examples have and keeps what they share.
    weight
        w̄: the share of the data that subsets keep, in (0, 1].
    seeds
        One model for each; more than one for an `Ensemble` or `TRAK`.
    check
        Train the first seed twice, and refuse a training that isn't the same: one training more.
    passes
        Iterations of L-BFGS where no ``train`` is given.
    workers, folder, executor
        As of `upweight.retraining.train_many`.

    Raises
    ------
    InputError
        If an argument is impossible.
    """
    kinds.check(expansion, locals())
    given = scalars.number("weight", weight, above=0, most=1)
    scalars.flag("check", check)
    scalars.whole("passes", passes)
    scalars.whole("workers", workers, 0)
    if isinstance(seeds, str) or not hasattr(seeds, "__iter__") or not len(tuple(seeds)):
        raise InputError(f"seeds: give a list of one or more, such as (0, 1); got {scalars.shown(seeds)}")
    every = tuple(scalars.seed("seeds", seed) for seed in seeds)
    if train is None and len(every) > 1:
        raise InputError(f"seeds: got {len(every)}; without train= there is one model to move, so give one seed")
    return Expansion(given, train, every, check, passes, workers, folder, executor)


def moved(objective: Objective, weight: float, passes: int) -> Objective:
    """The objective with its model moved towards its optimum: shrunk to √w θ, then L-BFGS for a few iterations."""
    refuse_coarse(objective)
    start = math.sqrt(weight) * objective.params
    return objective.at(descended(objective, start, passes))


def descended(objective: Objective, start: Float[Tensor, " p"], passes: int) -> Float[Tensor, " p"]:
    """θ after some iterations of L-BFGS down R, with a line search (strong Wolfe conditions)."""
    theta = start.detach().clone()
    steps = torch.optim.LBFGS(
        [theta], max_iter=passes, max_eval=4 * passes, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def evaluate() -> Tensor:
        risks, gradients = objective.risks_and_gradients(theta[None])
        theta.grad = gradients[0]
        return risks[0]

    steps.step(evaluate)
    return theta
