"""How networks are trained: the optimiser, its schedule, and the order of the examples.

The meaning of every word is torch's own: the learning rate and momentum of each step are read from
``torch.optim`` and ``torch.optim.lr_scheduler`` themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from upweight import scalars
from upweight.errors import InputError

ADAM_SQUARES = 0.999
ADAM_EPSILON = 1e-8

Schedule = Literal["constant", "one-cycle"] | Callable[[int], float]


@dataclass(frozen=True)
class Recipe:
    """Mini-batch training as `torch.optim` does it.

    Attributes
    ----------
    epochs
        Passes over a model's own examples.
    batch_size
        Examples per step, whose mean loss is differentiated; the last batch of an epoch may be smaller.
    lr
        Learning rate; with ``one-cycle`` its peak.
    momentum
        Of ``torch.optim.SGD``, without dampening.
    weight_decay
        λ added to the gradient as λθ, of all parameters (the l2 of an objective with the same minimum).
    schedule
        ``constant``; ``one-cycle``: ``OneCycleLR(lr, total_steps)`` with torch's defaults, **which replace the
        momentum (Adam's β₁) by a cycle .95 → .85 → .95**; or a function ``step -> factor of lr``, step from 0.
    cycle_momentum
        Whether ``one-cycle`` does so; if not, the momentum stays as given.
    optimizer
        ``sgd``, or ``adam`` with torch's β = (.9, .999) and ε = 1e-8.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    cycle_momentum: bool = True
    optimizer: Literal["sgd", "adam"] = "sgd"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            scalars.whole(name, getattr(self, name))
        for name in ("lr", "momentum", "weight_decay"):
            scalars.number(name, getattr(self, name), least=0)
        scalars.flag("cycle_momentum", self.cycle_momentum)
        if self.optimizer not in ("sgd", "adam"):
            raise InputError(
                f"optimizer: 'sgd' or 'adam'; got {self.optimizer!r}. For others see retraining.train_many"
            )
        if self.optimizer == "adam" and self.momentum:
            raise InputError(f"momentum: belongs to 'sgd'; 'adam' has its own, so give 0; got {self.momentum}")
        if self.schedule not in ("constant", "one-cycle") and not callable(self.schedule):
            raise InputError(
                f"schedule: 'constant', 'one-cycle' or a function step -> factor of lr; got {self.schedule!r}"
            )

    def steps(self, examples: int) -> int:
        """Steps that training on so many examples takes."""
        return self.epochs * -(-examples // self.batch_size)

    def rates(self, steps: int) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
        """Learning rate and momentum (Adam: β₁) of each step, from torch's own optimiser and schedule."""
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD([parameter], lr=self.lr, momentum=self.momentum)
        else:
            optimizer = torch.optim.Adam([parameter], lr=self.lr)
        return scheduled(optimizer, self.schedule, steps, cycle_momentum=self.cycle_momentum)

    def states(self, params: Float[Tensor, "k p"]) -> tuple[Float[Tensor, "k p"], ...]:
        """What the optimiser remembers of k models before their first step: momentum, and Adam's squares."""
        return tuple(torch.zeros_like(params) for _ in range(1 if self.optimizer == "sgd" else 2))

    def step_(
        self,
        params: Float[Tensor, "k p"],
        gradients: Float[Tensor, "k p"],
        states: Sequence[Float[Tensor, "k p"]],
        rates: tuple[Float[Tensor, "k 1"], Float[Tensor, "k 1"]],
        number: int,
    ) -> None:
        """Step ``number`` (from 1) of k models, in place: the updates of ``torch.optim.SGD`` and ``Adam``.

        ``rates`` are each model's learning rate and momentum of this step. The gradients are used up.
        """
        lr, momentum = rates
        gradients.add_(params, alpha=self.weight_decay)
        if self.optimizer == "sgd":
            (velocity,) = states
            torch.addcmul(gradients, velocity, momentum, out=velocity)
            params.addcmul_(lr, velocity, value=-1)
            return
        mean, square = states
        mean.mul_(momentum).add_((1 - momentum) * gradients)
        square.mul_(ADAM_SQUARES).addcmul_(gradients, gradients, value=1 - ADAM_SQUARES)
        scale = (square / (1 - ADAM_SQUARES**number)).sqrt_().add_(ADAM_EPSILON)
        params.sub_(lr / (1 - momentum**number) * mean / scale)

    def batches(self, subset: Int[Tensor, " size"], seed: int) -> Iterator[Int[Tensor, " batch"]]:
        """Positions of the examples of each step: every epoch a new ``torch.randperm`` of the subset from the seed."""
        generator = scalars.generator(seed)
        for _ in range(self.epochs):
            yield from subset[torch.randperm(len(subset), generator=generator)].split(self.batch_size)


def scheduled(
    optimizer: torch.optim.Optimizer, schedule: Schedule, steps: int, *, cycle_momentum: bool = True
) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
    """Learning rate and momentum (Adam: β₁) of each step, from an optimiser of torch and torch's own schedule."""
    group, found = optimizer.param_groups[0], []
    scheduler = _scheduler(optimizer, schedule, steps, cycle_momentum)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a schedule that walks without its optimiser
        for step in range(steps):
            if step:
                scheduler.step()
            found.append((float(group["lr"]), float(group["momentum"] if "momentum" in group else group["betas"][0])))
    lrs, momenta = torch.tensor(found, dtype=torch.float64).T
    return lrs, momenta


def _scheduler(optimizer: torch.optim.Optimizer, schedule: Schedule, steps: int, cycle_momentum: bool) -> LRScheduler:
    if schedule == "one-cycle":
        lr = optimizer.param_groups[0]["lr"]
        return OneCycleLR(optimizer, lr, total_steps=steps, cycle_momentum=cycle_momentum)
    return LambdaLR(optimizer, schedule if callable(schedule) else lambda step: 1.0)
