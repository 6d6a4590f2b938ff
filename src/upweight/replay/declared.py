"""A training as it is declared: what is the same for every seed, and the run that a seed makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from upweight import scalars
from upweight.data import Data
from upweight.errors import InputError
from upweight.forward import half_of
from upweight.gradients.substituted import substituted
from upweight.kept import copied, snapshot
from upweight.kinds import numbers, whole_numbers
from upweight.losses import AnyLoss
from upweight.parameters import Layout
from upweight.penalty import penalties
from upweight.replay.optimizers import SGD, Rate, Rule
from upweight.replay.run import Run
from upweight.retraining.recipe import Schedule, scheduled
from upweight.retraining.together import seeded
from upweight.scalars import generator
from upweight.wrappers import unwrapped

Model = nn.Module | Callable[[], nn.Module]
"""An untrained model, or a function that makes one."""


def made(model: Any, seed: int) -> nn.Module:
    """The untrained model, without what stands around it.

    Raises
    ------
    InputError
        If it is no module, and no function that makes one; or in 16 bits, which steps of an optimiser round away.
    """
    if not isinstance(model, nn.Module) and (isinstance(model, type) or not callable(model)):
        raise InputError(
            f"model: give the untrained torch.nn.Module, or a function () -> module that makes it; got "
            f"{scalars.shown(model)}"
        )
    try:
        found = model if isinstance(model, nn.Module) else seeded(model, seed)
    except TypeError as error:
        raise InputError(
            f"model: a function must make the untrained module without arguments ({error}). A function that trains, "
            "train(indices, seed), can't be differentiated: declare the training by model, optimizer, epochs and "
            "batch_size, and give weights to replay.train(weights)"
        ) from error
    found = unwrapped(found)
    if half_of(found) is not None:
        raise InputError(f"model: it is in {half_of(found)}, in which steps are rounded away; give model.float()")
    return found


@dataclass(frozen=True)
class Order:
    """Which examples are in which step.

    Attributes
    ----------
    epochs, batch_size, drop_last
        Passes over the data in a new order each, drawn by the seed, and whether a last batch that is smaller is left
        out.
    batches
        Instead: the positions of every step's examples, whatever the seed.
    """

    epochs: int | None = None
    batch_size: int | None = None
    drop_last: bool = False
    batches: tuple[Int[Tensor, " _"], ...] | None = None

    def of(self, examples: int, seed: int) -> tuple[Int[Tensor, " _"], ...]:
        """Positions of each step's examples."""
        if self.batches is not None:
            return self.batches
        assert self.epochs is not None
        assert self.batch_size is not None
        drawn, found = generator(seed), []
        for _ in range(self.epochs):
            parts = torch.randperm(examples, generator=drawn).split(self.batch_size)
            found += [part for part in parts if len(part) == self.batch_size or not self.drop_last]
        return tuple(found)


def as_order(epochs: Any, batch_size: Any, drop_last: Any, batches: Any, examples: int) -> Order:
    """Read what says which examples are in which step.

    Raises
    ------
    InputError
        If it is said twice, or not at all, or a position is none of the data.
    """
    scalars.flag("drop_last", drop_last)
    if batches is None:
        if epochs is None or batch_size is None:
            raise InputError("epochs, batch_size: give both, or batches, the positions of each step's examples")
        order = Order(scalars.whole("epochs", epochs), scalars.whole("batch_size", batch_size), bool(drop_last))
        if not order.of(min(examples, 2 * scalars.whole("batch_size", batch_size)), 0):
            raise InputError(f"drop_last: no batch of {batch_size} can be made of {examples} examples; give False")
        return order
    if epochs is not None or batch_size is not None:
        raise InputError("batches: they say what epochs and batch_size would; give either")
    if isinstance(batches, str) or not isinstance(batches, Sequence) or not len(batches):
        raise InputError(f"batches: give a list of the positions of each step's examples; got {scalars.shown(batches)}")
    found = []
    for number, given in enumerate(batches):
        positions = whole_numbers(f"batches[{number}]", given)
        if positions.dim() != 1 or not len(positions):
            raise InputError(f"batches[{number}]: give a list of positions; got shape {tuple(positions.shape)}")
        if int(positions.min()) < 0 or int(positions.max()) >= examples:
            raise InputError(f"batches[{number}]: positions are from 0 to {examples - 1}; got {positions.tolist()[:8]}")
        found.append(positions.cpu())
    return Order(batches=tuple(found))


@dataclass(frozen=True, eq=False)
class Declared:
    """What is the same for every seed.

    Attributes
    ----------
    model
        The untrained model, in the mode in which it is trained, or a function that makes it.
    loss, data, layout
        As the objective has them.
    rule, schedule, cycle_momentum, order, clip
        How it is trained.
    seed
        Of the training that is meant where none is said.
    """

    model: Model
    loss: AnyLoss
    data: Data
    layout: Layout
    rule: Rule
    schedule: Schedule | Sequence[float]
    cycle_momentum: bool
    order: Order
    clip: float | None
    seed: int

    def built(self, seed: int) -> nn.Module:
        """The untrained model of a seed, a copy that is ours."""
        return snapshot(made(self.model, seed))

    def run(self, model: nn.Module, seed: int, weights: Float[Tensor, " train"]) -> Run:
        """The training of a model with a seed, from where it is."""
        named = dict(model.named_parameters())
        missing = [name for name in self.layout.names if name not in named]
        if missing:
            raise InputError(f"model: made with seed {seed} it lacks the parameter {missing[0]!r}; make it alike")
        start = self.layout.flatten(named).detach().clone()
        batches = self.order.of(len(self.data), seed)
        rates = self.rates(len(batches))
        rule = self.rule
        if isinstance(rule, SGD) and not rule.momentum and any(rate.momentum for rate in rates):
            rule = replace(rule, momentum=rates[0].momentum)  # one-cycle's
        drawn = torch.randint(2**31, (len(batches),), generator=generator(seed)).tolist()
        return Run(
            evaluate=substituted(model, self.loss),
            layout=self.layout,
            data=self.data,
            rule=rule,
            rates=rates,
            batches=batches,
            seeds=tuple(drawn),
            decay=penalties(rule.weight_decay, self.layout, start, model),
            clip=self.clip,
            weights=weights,
            start=start,
        )

    def rates(self, steps: int) -> tuple[Rate, ...]:
        """What the schedule says of each step."""
        own = self.rule.torch([nn.Parameter(torch.zeros(1))])
        if isinstance(self.schedule, str) or callable(self.schedule):
            lrs, momenta = scheduled(own, self.schedule, steps, cycle_momentum=self.cycle_momentum)
        else:
            lrs, momenta = scheduled(own, "constant", steps)
            lrs = numbers("schedule", list(self.schedule)).double()
            if lrs.shape != (steps,) or bool((lrs < 0).any()):
                raise InputError(
                    f"schedule: give a learning rate ≥ 0 for each of {steps} steps; got {scalars.shown(self.schedule)}"
                )
        if not bool(torch.isfinite(lrs).all()):
            raise InputError("schedule: it gives a learning rate that is NaN or infinite")
        pairs = zip(lrs.tolist(), momenta.tolist(), strict=True)
        return tuple(Rate(lr, momentum, number) for number, (lr, momentum) in enumerate(pairs, 1))


def as_schedule(schedule: Any) -> Schedule | Sequence[float]:
    """Read a schedule.

    Raises
    ------
    InputError
        If it is none.
    """
    if schedule in ("constant", "one-cycle") if isinstance(schedule, str) else callable(schedule):
        if isinstance(schedule, type):
            raise InputError(f"schedule: give a function step -> factor of lr; got {scalars.shown(schedule)}")
        return schedule
    if isinstance(schedule, np.ndarray) and schedule.ndim == 1:
        return schedule.tolist()
    if isinstance(schedule, Tensor) and schedule.dim() == 1 and not schedule.is_meta:
        return schedule.tolist()
    if isinstance(schedule, Sequence) and not isinstance(schedule, str):
        return list(schedule)
    raise InputError(
        "schedule: give 'constant', 'one-cycle', a function step -> factor of lr, or a learning rate for each step; "
        f"got {scalars.shown(schedule)}"
    )


def refuse_changing_buffers(model: nn.Module, loss: AnyLoss, data: Data) -> None:
    """Refuse a model whose training changes more than its parameters.

    Raises
    ------
    InputError
        If a step changes a buffer: running means of batch-norm, say. Their way into the trained model isn't followed.
    """
    copy = copied(model)
    before = {name: value.detach().clone() for name, value in copy.named_buffers()}
    try:
        with torch.no_grad():
            loss(copy, data.take(list(range(min(len(data), 4)))))
    except Exception:  # what is wrong is said where the objective is read
        return
    for name, value in copy.named_buffers():
        if name not in before or not torch.equal(value, before[name]):
            module = name.rpartition(".")[0]
            raise InputError(
                f"model: buffer {name!r} is changed by training, and replay follows parameters alone; call .eval() on "
                f"the module {module!r} before, so that it stays as it is, or use a norm without running statistics "
                "(LayerNorm, GroupNorm)"
            )
