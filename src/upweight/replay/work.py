"""The work of a replay: runs made, states kept, reverse passes taken, in memory or in a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight.checks.arguments import example_weights
from upweight.data import Data
from upweight.evaluation.agreement import agreement
from upweight.gradients.denormals import flushed
from upweight.jobs import fingerprints
from upweight.jobs.description import begin
from upweight.kept import copied
from upweight.measurements import Measurement
from upweight.objective import Objective
from upweight.quantities.measured import measured
from upweight.quantities.queries import query_gradient_blocks
from upweight.replay.declared import Declared
from upweight.replay.judged import FEWEST, Replayed
from upweight.replay.plan import ReplayPlan, Sizes, timed
from upweight.replay.reverse import Progress, weight_derivatives
from upweight.replay.run import Run
from upweight.replay.smoothness import STEP, Metasmoothness, direction, empirical_metasmoothness, kinks, rough_optimizer
from upweight.replay.trajectory import InMemory, InStore, Kept, spacing, train
from upweight.scalars import number, plain
from upweight.store.backend import Backend
from upweight.store.blocks import Blocks

SECOND = 3
"""How many times what a forward pass keeps is held while it is differentiated twice."""
VECTORS = 4
"""Vectors of p numbers for each query within a step, beside its cotangents before and after."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A run with its model.

    Attributes
    ----------
    model
        The untrained model of the run's seed, in the mode in which it is trained.
    run
        Its training.
    """

    model: nn.Module
    run: Run

    def at(self, theta: Float[Tensor, " p"]) -> nn.Module:
        """A copy of the model at a θ, in eval mode."""
        model = copied(self.model).eval()
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self.run.layout.unflatten(theta).items():
                own[name].copy_(value)
        return model


@dataclass(frozen=True, eq=False)
class Work:
    """What a declared training is worked on with.

    Attributes
    ----------
    untrained
        The objective at the first θ: loss, data, weights, budget.
    declared
        The training.
    backend
        Where states are kept; None: in memory.
    """

    untrained: Objective
    declared: Declared
    backend: Backend | None

    def trained(self, seed: int, weights: Any) -> Trained:
        """The run of a seed, with every weight multiplied: by a number, or by one for each example."""
        model = self.declared.built(seed)
        return Trained(model, self.declared.run(model, seed, self._weights(weights)))

    def _weights(self, given: Any) -> Float[Tensor, " train"]:
        own = self.untrained.weights
        if given is None:
            return own
        if isinstance(plain(given), int | float):
            return own * number("weights", given, above=0)
        return own * example_weights(given, self.untrained.n, self.untrained.params)

    @contextmanager
    def at_work(self, every: int) -> Iterator[None]:
        """No other process works in the store meanwhile, which is of this training; denormals are flushed."""
        held = nullcontext() if self.backend is None else self.backend.held()
        with held, flushed():
            self.open(every)
            yield

    # Sizes

    def sizes(self, run: Run, queries: int) -> Sizes:
        """How the work is cut to fit the budget."""
        engine, vectors = self.untrained.engine, 1 + run.rule.slots
        batch = max(map(len, run.batches))
        held = run.start.numel() * (2 * vectors + VECTORS) + SECOND * engine.activations * batch
        return Sizes(
            every=spacing(len(run), engine.bytes(vectors * run.start.numel()), engine.budget.kept),
            block=min(engine.queries(vectors * run.start.numel()), queries),
            chunk=max(min(engine.memory // engine.bytes(held), queries), 1),
        )

    def plan(self, queries: int, seeds: int, others: int) -> ReplayPlan:
        """What replaying so many queries would take; ``others``: trainings beside those replayed."""
        run = self.trained(self.declared.seed, None).run
        sizes, p = self.sizes(run, queries), run.start.numel()
        state = self.untrained.engine.bytes(p * (1 + run.rule.slots))
        kept = -(-len(run) // sizes.every) + 1
        blocks = -(-queries // sizes.block)
        again = blocks if sizes.every > 1 else 0
        with flushed():
            forward, back = timed(run, sizes.chunk)
        scores = self.untrained.engine.bytes(queries * self.untrained.n)
        stored = self.backend is not None
        block = (2 * sizes.block + 1) * state + scores
        pass_ = sizes.chunk * self.untrained.engine.bytes(p * VECTORS)
        return ReplayPlan(
            steps=len(run),
            parameters=p,
            queries=queries,
            seeds=seeds,
            sizes=sizes,
            memory=(sizes.every + (0 if stored else kept)) * state + block + pass_,
            disk=(kept * seeds + 2 * sizes.block) * state + seeds * scores if stored else 0,
            step_seconds=forward,
            reverse_seconds=back,
            trainings=seeds * (1 + again) + others,
        )

    # Trainings

    def kept(self, run: Run, name: str) -> Kept:
        """Where a run's states are kept."""
        if self.backend is None:
            return InMemory()
        return InStore(Blocks(self.backend), name, run.begin())

    def name(self, run: Run, seed: int) -> str:
        """What tells a run from others in the store: its seed, batches, first θ and weights."""
        return fingerprints.digest(str(seed), *run.batches, run.start, run.weights)

    def last(self, run: Run) -> Float[Tensor, " p"]:
        """θ of a run of which nothing is kept."""
        return train(run, InMemory(), len(run))[0]

    def open(self, every: int) -> None:
        """Describe the training in the store, or compare it with the one that was begun there.

        Raises
        ------
        InputError
            If the store holds something else; names the first thing that differs.
        """
        if self.backend is None:
            return
        problem, declared = self.untrained.problem, self.declared
        order = declared.order
        settings = {
            "model made by": "itself"
            if isinstance(declared.model, nn.Module)
            else fingerprints.of_code(declared.model),
            "modes": fingerprints.digest(*(module.training for module in declared.built(declared.seed).modules())),
            "optimizer": repr(declared.rule),
            "epochs": order.epochs,
            "batch_size": order.batch_size,
            "drop_last": order.drop_last,
            "batches": None if order.batches is None else fingerprints.digest(*order.batches),
            "rates": fingerprints.digest(*(repr(rate) for rate in self.trained(declared.seed, None).run.rates)),
            "clip": declared.clip,
            "steps between states": every,
        }
        said = {
            "kind": "replay",
            "fingerprints": {
                "model": fingerprints.of_model(problem),
                "loss": fingerprints.of_code(problem.loss),
                "data": fingerprints.digest(fingerprints.of_data(problem.data), problem.weights),
            },
            "settings": settings,
            "versions": fingerprints.versions(),
        }
        begin(self.backend, said, resume=True)

    def replayed(
        self, seeds: Sequence[int], weight: float, data: Data, kind: Measurement, sizes: Sizes, smoothness: bool
    ) -> Replayed:
        """Derivatives averaged over seeds, with what is known of their worth."""
        parts = []
        for seed in seeds:
            derivatives, theta = self.derivatives(seed, weight, data, kind, sizes)
            parts.append(derivatives * self.untrained.weights)
            if seed == seeds[0] and smoothness:
                rough, moved = self.metasmoothness(seed, weight, STEP, theta)
                found = seed, rough, [self.measured(seed, at, data, kind) for at in (theta, moved)]
        mean = torch.stack(parts).mean(0)
        if not smoothness:
            return Replayed(mean)
        seed, rough, (before, after) = found
        v = direction(self.untrained.n, seed, self.untrained.weights)
        predicted = parts[0] @ v * (weight * STEP)
        compared = agreement(predicted, after - before) if len(predicted) >= FEWEST else None
        return Replayed(mean, rough, compared)

    def measured(self, seed: int, theta: Tensor, data: Data, kind: Measurement) -> Float[Tensor, " queries"]:
        """The measurements at a θ of a seed's training."""
        objective = self.untrained.replace(model=self.trained(seed, None).at(theta))
        return measured(objective, data, kind)

    def derivatives(
        self, seed: int, weight: float, data: Data, kind: Measurement, sizes: Sizes
    ) -> tuple[Float[Tensor, "queries train"], Float[Tensor, " p"]]:
        """Derivatives of the measurements by the weights in one run, and its trained θ."""
        trained = self.trained(seed, weight)
        run, name = trained.run, self.name(trained.run, seed)
        kept = self.kept(run, name)
        theta = train(run, kept, sizes.every)[0]
        engine = self.untrained.engine
        budget = replace(engine.budget, queries=max(engine.budget.queries // (1 + run.rule.slots), 1))
        objective = self.untrained.replace(model=trained.at(theta), budget=budget)
        asked = fingerprints.digest(fingerprints.of_code(kind), fingerprints.of_data(data, len(data)), str(sizes.block))
        parts = []
        for block, gradients in enumerate(query_gradient_blocks(objective, data, kind)):
            progress = None
            if self.backend is not None:
                progress = Progress(Blocks(self.backend), f"reverse-{name}-{asked}-{block}")
            parts.append(weight_derivatives(run, kept, sizes.every, gradients, sizes.chunk, progress))
        return torch.cat(parts), theta

    # Metasmoothness

    def metasmoothness(
        self, seed: int, weight: float, step: float, theta: Float[Tensor, " p"] | None = None
    ) -> tuple[Metasmoothness, Float[Tensor, " p"]]:
        """The figure, with θ of the training at w+hv; ``theta``: at w, where that is known."""
        v, trained = direction(self.untrained.n, seed, self.untrained.weights), self.trained(seed, weight)
        first = self.last(trained.run) if theta is None else theta
        second, third = (self.last(self.trained(seed, weight * (1 + shift * step * v)).run) for shift in (1, 2))
        with torch.enable_grad():
            leaves = {name: value.requires_grad_() for name, value in self.untrained.problem.named.items()}
            losses = trained.run.evaluate(leaves, self.untrained.problem.probe())
        found = Metasmoothness(
            empirical_metasmoothness(first, second, third),
            step,
            kinks(trained.model, losses),
            rough_optimizer(trained.run.rule),
        )
        return found, second
