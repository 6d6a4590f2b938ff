"""`Replay`: a training that is declared, run, and differentiated by the weight of every training example."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from upweight import scalars
from upweight.attribution import Attribution
from upweight.data import Batch
from upweight.engine import Budget
from upweight.gradients.denormals import flushed
from upweight.kept import copied, random_states_kept, snapshot
from upweight.measurements import as_measurement
from upweight.objective import Objective
from upweight.parameters import Selection, select
from upweight.quantities import meanings
from upweight.quantities.queries import check_measurement, check_query_targets, query_names
from upweight.replay.declared import Declared, Model, as_order, as_schedule, made, refuse_changing_buffers
from upweight.replay.judged import read_seeds, warn_if_rough
from upweight.replay.optimizers import AdamW, as_rule
from upweight.replay.plan import ReplayPlan, refuse_no_room
from upweight.replay.smoothness import STEP, Metasmoothness
from upweight.replay.work import Work
from upweight.retraining.recipe import Schedule
from upweight.store.backend import Place, backend


class Replay:
    """Exact derivatives of a trained model's measurements by the weight of every training example.

    The training is declared, and replay owns it: `train` runs it, `attribute` differentiates it in reverse, step by
    step, for all queries at once (REPLAY and MAGIC: Engstrom et al. 2025, arXiv:2503.13751; Ilyas & Engstrom 2025,
    arXiv:2504.16430). What it answers is of *this run*: same seed, same batches, no other assumption, no inverse.

    Parameters
    ----------
    model
        The untrained model, in the mode in which it is trained (a fresh module is in training mode, so its dropout is
        on); every seed begins from its parameters. Or a function that makes it, called after
        ``torch.manual_seed(seed)``: then a seed decides the first parameters too.
    loss
        As for `Objective`: one value per example.
    data
        Training examples, as for `Objective`.
    optimizer
        `replay.SGD`, `replay.Adam` or `replay.AdamW`, or a `torch.optim` optimiser of one of these kinds, whose
        settings are read as they are now: give it before a schedule has moved them, or ``schedule`` step by step.
    epochs, batch_size, drop_last
        Passes over the data, each in an order ``torch.randperm(n, generator=…)`` of one generator that the seed begins;
        examples per step; whether a smaller last batch is left out.
    batches
        In place of these, the positions of each step's examples (`upweight.Recording.order`), for every seed.
    schedule
        ``"constant"``; ``"one-cycle"``, as torch's with its defaults, momentum cycled if ``cycle_momentum``; a function
        ``step -> factor of lr``, step from 0; or the learning rate of each step.
    clip
        The norm to which each step's gradient is shortened, as by ``clip_grad_norm_``.
    seed
        Of the order, of what the model draws (dropout), and of ``model`` where that is a function.
    weights
        w_i of the examples, ``[train]`` (default 1): a step minimises (1/B) Σ w_i ℓ_i, B the number of its examples.
    parameters
        Which are trained, as for `Objective`.
    ids, collate, num_workers, budget
        As for `Objective`. The budget's ``kept`` bounds the states of the training that are held (all, or one every √T
        steps), its ``queries`` the cotangents of queries that share a reverse pass, its ``memory`` what is
        differentiated at once. None changes a result by more than rounding.
    store
        Where states and reverse passes are kept, a folder or a URL: the same call after a kill goes on, to the same
        result bit by bit. It belongs to one model, data and settings, and refuses others.

    Raises
    ------
    InputError
        If an argument can't be right, the optimiser has no rule, a buffer of the model changes in training
        (batch-norm), or the loss isn't one value per example.
    """

    untrained: Objective
    """The objective at the first parameters of the declared seed, in eval mode."""
    declared: Declared
    """The training."""

    @random_states_kept()
    def __init__(
        self,
        model: Model,
        loss: Any,
        data: Any,
        *,
        optimizer: Any,
        epochs: int | None = None,
        batch_size: int | None = None,
        batches: Sequence[Any] | None = None,
        drop_last: bool = False,
        schedule: Schedule | Sequence[float] | np.ndarray | Tensor = "constant",
        cycle_momentum: bool = True,
        clip: float | None = None,
        seed: int = 0,
        weights: Any = None,
        parameters: Selection = None,
        ids: Sequence[Any] | np.ndarray | None = None,
        collate: Callable[[list[Any]], Batch] | None = None,
        num_workers: int = 0,
        budget: Budget | None = None,
        store: Place | None = None,
    ):
        own_seed = scalars.seed("seed", seed)
        if clip is not None:
            scalars.number("clip", clip, above=0)
        scalars.flag("cycle_momentum", cycle_momentum)
        first = made(model, own_seed)
        rule, layout = as_rule(optimizer, first), select(first, parameters)
        own = snapshot(first)
        self.untrained = Objective(
            copied(own).eval(),
            loss,
            data,
            weights=weights,
            parameters=list(layout.names),
            ids=ids,
            collate=collate,
            num_workers=num_workers,
            budget=budget,
        )
        problem = self.untrained.problem
        refuse_changing_buffers(own, problem.loss, problem.data)
        self.declared = Declared(
            model=own if isinstance(model, nn.Module) else model,
            loss=problem.loss,
            data=problem.data,
            layout=problem.layout,
            rule=rule,
            schedule=as_schedule(schedule),
            cycle_momentum=cycle_momentum,
            order=as_order(epochs, batch_size, drop_last, batches, problem.n),
            clip=clip,
            seed=own_seed,
        )
        self._work = Work(self.untrained, self.declared, None if store is None else backend(store))
        self._work.trained(own_seed, None)  # penalties and rates are read, and refused, here

    def kept_in(self, store: Place) -> Replay:
        """The same training with its states in a store."""
        other = copy.copy(self)
        other._work = replace(self._work, backend=backend(store))
        return other

    def __repr__(self) -> str:
        run = self._work.trained(self.declared.seed, None).run
        n, p = self.untrained.n, self.untrained.p
        return f"Replay({type(self.untrained.model).__name__}, {run.rule}, n={n:,}, p={p:,}, {len(run):,} steps)"

    @random_states_kept()
    def train(self, weights: Any = None, seed: int | None = None) -> nn.Module:
        """The trained model, in eval mode: what a loop with `torch.optim` gives, to rounding.

        Parameters
        ----------
        weights
            What each example's weight is multiplied by, ``[train]``, or one number for all; 0 leaves an example out, at
            the same batches and divisors.
        seed
            Another than the declared one.
        """
        trained = self._work.trained(self._seed(seed), weights)
        with flushed():
            return trained.at(self._work.last(trained.run))

    @random_states_kept()
    def objective(self, weight: float = 1.0, seed: int | None = None) -> Objective:
        """The objective at the model trained with every weight times ``weight``, for `Influence` and others.

        Weight decay that is a part of the gradient is its l2; AdamW's is no penalty, and is left out.
        """
        factor = scalars.number("weight", weight, above=0)
        trained = self._work.trained(self._seed(seed), factor)
        decay = 0.0 if isinstance(trained.run.rule, AdamW) else trained.run.rule.weight_decay
        with flushed():
            model = trained.at(self._work.last(trained.run))
        return self.untrained.replace(model=model, l2=decay, weights=trained.run.weights)

    @random_states_kept()
    def plan(self, queries: int = 100, seeds: int = 1) -> ReplayPlan:
        """What `attribute` would take for so many queries and seeds: a step is timed, and a step in reverse."""
        scalars.whole("queries", queries)
        return self._work.plan(queries, scalars.whole("seeds", seeds), others=2)

    @random_states_kept()
    def metasmoothness(self, weight: float = 1.0, seed: int | None = None, step: float = STEP) -> Metasmoothness:
        """Whether neighbouring differences of the training agree, by three trainings (Engstrom et al. 2025, section 3).

        Parameters
        ----------
        weight
            Where: every weight times this.
        step
            h: by which share each weight is moved up or down, and then once more.

        Warns
        -----
        RoughTrainingWarning
            If it is below the bound; names the kinks.
        """
        factor, h = scalars.number("weight", weight, above=0), scalars.number("step", step, above=0, below=0.5)
        with flushed():
            found, _ = self._work.metasmoothness(self._seed(seed), factor, h)
        warn_if_rough(found)
        return found

    @random_states_kept()
    def attribute(
        self,
        queries: Any,
        measurement: Any = None,
        *,
        quantity: Literal["removal", "weight"] = "removal",
        weight: float = 1.0,
        seeds: Sequence[int] | None = None,
        train: Any = None,
        query_ids: Sequence[Any] | None = None,
        smoothness: bool = True,
    ) -> Attribution:
        """Scores of training examples for each query, ``[queries, train]``.

        Parameters
        ----------
        queries
            Examples in the same form as the training data.
        measurement
            What is explained: one of `upweight.measurements`, its name, or a function; default the loss.
        quantity
            ``"removal"``, the predicted change of the measurement without an example, −w_i ∂m/∂w_i; or ``"weight"``,
            w_i ∂m/∂w_i, the derivative by what the example's weight is multiplied by.
        weight
            The expansion point w̄: the model is trained, and differentiated, with every weight times w̄. Where many
            examples are left out at once, the share that stays (½ for halves) says more of these trainings, and less of
            the model given.
        seeds
            Scores are the mean over trainings with these (default: the declared one).
        train
            Positions or ids of the training examples to score (default: all).
        query_ids
            Names of the queries (default: their positions).
        smoothness
            Measure the `metasmoothness` too, of the first seed, for two more trainings; what the scores predict for one
            of these is compared with what came of it (``facts``).

        Raises
        ------
        InputError
            If an argument can't be right, the training diverges or isn't the same twice, the store belongs to another
            training, or there is no room for the states.

        Warns
        -----
        RoughTrainingWarning
            If the metasmoothness is below the bound; names the kinks.
        UpweightWarning
            If more than a minute of work is ahead.
        """
        scalars.one_of("quantity", quantity, ("removal", "weight"))
        scalars.flag("smoothness", smoothness)
        factor = scalars.number("weight", weight, above=0)
        chosen = (self.declared.seed,) if seeds is None else read_seeds(seeds)
        kind, data = as_measurement(measurement), self.untrained.queries(queries)
        names = query_names(data, query_ids)
        check_measurement(self.untrained, data, kind)
        check_query_targets(self.untrained, data, kind)
        positions = None if train is None else self.untrained.positions(train, "train")
        plan = self._work.plan(len(data), len(chosen), others=2 if smoothness else 0)
        refuse_no_room(plan, self._work.backend, self.untrained.device)
        plan.say_if_long()
        with self._work.at_work(plan.sizes.every):
            found = self._work.replayed(chosen, factor, data, kind, plan.sizes, smoothness)
        if found.metasmoothness is not None:
            warn_if_rough(found.metasmoothness)
        meaning = meanings.replayed_removal if quantity == "removal" else meanings.weight_derivative
        scores = found.derivatives * (-1 if quantity == "removal" else 1)
        ids = self.untrained.ids if positions is None else self.untrained.ids[positions.numpy()]
        return Attribution(
            scores if positions is None else scores[:, positions.to(scores.device)],
            meaning(kind, self.untrained.loss, factor),
            ids,
            names,
            report=f"{plan.steps:,} steps of {self.declared.rule} in reverse, {plan.sizes.words}",
            facts={
                "n": float(self.untrained.n),
                "p": float(self.untrained.p),
                "steps": float(plan.steps),
                "weight": factor,
                "seeds": float(len(chosen)),
                **found.facts,
            },
            magnitude=found.magnitude,
        )

    def _seed(self, seed: int | None) -> int:
        return self.declared.seed if seed is None else scalars.seed("seed", seed)
