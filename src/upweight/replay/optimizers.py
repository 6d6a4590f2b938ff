"""Steps of optimisers as functions that can be differentiated: what `torch.optim` does in place, out of place.

A state is a tuple of vectors ``[p]``: θ first, then what the optimiser remembers. A step is a function of the state and
of the gradient of the batch's mean loss. It acts entry by entry, so its Jacobian is a few vectors, and its transpose
(``pull_``) a few passes over a block of cotangents, in place. A new optimiser is a class here, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight import kinds, scalars
from upweight.errors import InputError

State = tuple[Tensor, ...]
"""θ ``[p]``, then what the optimiser remembers; in a reverse pass the cotangents of these, ``[queries, p]``."""

KNOWN = "replay.SGD, replay.Adam, replay.AdamW"


@dataclass(frozen=True)
class Rate:
    """What a schedule says of a step.

    Attributes
    ----------
    lr, momentum
        Learning rate, and momentum (Adam: β₁).
    number
        Of the step, from 1.
    """

    lr: float
    momentum: float
    number: int


@dataclass(frozen=True)
class SGD:
    """`torch.optim.SGD`.

    Attributes
    ----------
    lr
        Learning rate, which a schedule multiplies.
    momentum, dampening, nesterov
        As torch's.
    weight_decay
        λ of λθ, added to the gradient; by name or pattern where it isn't the same for all: ``{"*weight": 1e-4}``.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float | Mapping[str, float] = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        _check_shared(self)
        scalars.number("momentum", self.momentum, least=0)
        scalars.number("dampening", self.dampening, least=0)
        scalars.flag("nesterov", self.nesterov)
        if self.nesterov and (self.momentum == 0 or self.dampening):
            raise InputError(
                f"nesterov: needs a momentum > 0 and no dampening, as in torch; got momentum={self.momentum}, "
                f"dampening={self.dampening}"
            )

    @property
    def slots(self) -> int:
        """Vectors that it remembers: a velocity, if there is momentum."""
        return 1 if self.momentum else 0

    def step(
        self, state: State, gradient: Float[Tensor, " p"], rate: Rate, decay: float | Float[Tensor, " p"]
    ) -> State:
        """θ and the velocity after a step."""
        theta, *before = state
        slope = gradient + decay * theta
        if not before:
            return (theta - rate.lr * slope,)
        velocity = slope if rate.number == 1 else rate.momentum * before[0] + (1 - self.dampening) * slope
        along = slope + rate.momentum * velocity if self.nesterov else velocity
        return theta - rate.lr * along, velocity

    def pull_(
        self,
        state: State,
        gradient: Float[Tensor, " p"],
        rate: Rate,
        decay: float | Float[Tensor, " p"],
        cotangents: State,
    ) -> Float[Tensor, "block p"]:
        """The transpose of `step`: from derivatives by the state after it, ``[block, p]`` each, to those before it.

        They are written over; that by the gradient is returned.
        """
        by_theta, *by_velocity = cotangents
        if not by_velocity:
            along = by_theta * -rate.lr
            by_theta.addcmul_(along, torch.as_tensor(decay))
            return along
        share = 1.0 if rate.number == 1 else 1 - self.dampening
        by_velocity[0].add_(by_theta, alpha=-rate.lr * (rate.momentum if self.nesterov else 1.0))
        along = by_velocity[0] * share
        if self.nesterov:
            along.add_(by_theta, alpha=-rate.lr)
        by_theta.addcmul_(along, torch.as_tensor(decay))
        by_velocity[0].mul_(0.0 if rate.number == 1 else rate.momentum)
        return along

    def torch(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Torch's own, without weight decay: for its schedules."""
        return torch.optim.SGD(
            parameters, self.lr, momentum=self.momentum, dampening=self.dampening, nesterov=self.nesterov
        )


@dataclass(frozen=True)
class Adam:
    """`torch.optim.Adam`: weight decay is a part of the gradient.

    Attributes
    ----------
    lr
        Learning rate, which a schedule multiplies.
    betas, eps, amsgrad
        As torch's.
    weight_decay
        λ of λθ, added to the gradient; by name or pattern where it isn't the same for all.

    Notes
    -----
    A step is m̂/(√v̂ + ε), whose slope where gradients are tiny is 1/ε: with torch's ε = 1e-8 a training may be far from
    smooth in its weights, which `Replay.metasmoothness` measures. A larger ε is smoother. Where an entry's gradients
    have all been exactly 0, the slope of the root is taken as 0, which gives the step its right slope 1/ε.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float | Mapping[str, float] = 0.0
    amsgrad: bool = False

    def __post_init__(self) -> None:
        _check_shared(self)
        kinds.check_fields(self)
        for beta in self.betas:
            scalars.number("betas", beta, least=0, below=1)
        scalars.number("eps", self.eps, above=0)

    @property
    def slots(self) -> int:
        """Vectors that it remembers."""
        return 3 if self.amsgrad else 2

    def step(
        self, state: State, gradient: Float[Tensor, " p"], rate: Rate, decay: float | Float[Tensor, " p"]
    ) -> State:
        """θ, the means of gradients and of their squares after a step."""
        return self._moved(state, gradient + decay * state[0], rate)

    def pull_(
        self,
        state: State,
        gradient: Float[Tensor, " p"],
        rate: Rate,
        decay: float | Float[Tensor, " p"],
        cotangents: State,
    ) -> Float[Tensor, "block p"]:
        """As of `SGD`."""
        along = self._pulled_(state, gradient + decay * state[0], rate, cotangents)
        cotangents[0].addcmul_(along, torch.as_tensor(decay))
        return along

    def _moved(self, state: State, slope: Float[Tensor, " p"], rate: Rate) -> State:
        theta, mean, square, *largest = state
        beta = self.betas[1]
        mean = rate.momentum * mean + (1 - rate.momentum) * slope
        square = beta * square + (1 - beta) * slope**2
        kept = (torch.maximum(largest[0], square),) if self.amsgrad else ()
        root = (kept[0] if kept else square).sqrt() / (1 - beta**rate.number) ** 0.5
        size = rate.lr / (1 - rate.momentum**rate.number)
        return theta - size * mean / (root + self.eps), mean, square, *kept

    def _pulled_(
        self, state: State, slope: Float[Tensor, " p"], rate: Rate, cotangents: State
    ) -> Float[Tensor, "block p"]:
        """With a = η/(1 − β₁ᵗ): θ' = θ − a m/(r + ε), r = √v̂, so ∂θ'/∂m = −a/(r + ε), ∂θ'/∂v = a m/(r + ε)² · ∂r/∂v."""
        by_theta, by_mean, by_square, *by_largest = cotangents
        _, mean, square, *kept = self._moved(state, slope, rate)
        beta, correction = self.betas[1], (1 - self.betas[1] ** rate.number) ** 0.5
        root = (kept[0] if kept else square).sqrt()
        below, size = root / correction + self.eps, rate.lr / (1 - rate.momentum**rate.number)
        by_mean.addcmul_(by_theta, -size / below)
        bend = torch.where(root > 0, size * mean / below**2 / (2 * root * correction), 0.0)  # see Notes
        if kept:
            by_largest[0].addcmul_(by_theta, bend)
            newest = (square > state[3]).to(bend)
            by_square.addcmul_(by_largest[0], newest)
            by_largest[0].mul_(1 - newest)
        else:
            by_square.addcmul_(by_theta, bend)
        along = (by_mean * (1 - rate.momentum)).addcmul_(by_square, 2 * (1 - beta) * slope)
        by_mean.mul_(rate.momentum)
        by_square.mul_(beta)
        return along

    def torch(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Torch's own, without weight decay: for its schedules."""
        return torch.optim.Adam(parameters, self.lr, betas=self.betas, eps=self.eps, amsgrad=self.amsgrad)


@dataclass(frozen=True)
class AdamW(Adam):
    """`torch.optim.AdamW`: weight decay apart from the gradient, θ ← (1 − ηλ)θ; torch's default λ is .01.

    Attributes
    ----------
    lr, betas, eps, amsgrad
        As of `Adam`.
    weight_decay
        λ; by name or pattern where it isn't the same for all.
    """

    weight_decay: float | Mapping[str, float] = 0.01

    def step(
        self, state: State, gradient: Float[Tensor, " p"], rate: Rate, decay: float | Float[Tensor, " p"]
    ) -> State:
        """θ, the means of gradients and of their squares after a step."""
        theta, *rest = state
        return self._moved((theta * (1 - rate.lr * decay), *rest), gradient, rate)

    def pull_(
        self,
        state: State,
        gradient: Float[Tensor, " p"],
        rate: Rate,
        decay: float | Float[Tensor, " p"],
        cotangents: State,
    ) -> Float[Tensor, "block p"]:
        """As of `SGD`."""
        along = self._pulled_(state, gradient, rate, cotangents)
        cotangents[0].mul_(1 - rate.lr * decay)
        return along


Rule = SGD | Adam


def _check_shared(rule: SGD | Adam) -> None:
    scalars.number("lr", rule.lr, above=0)
    if not isinstance(rule.weight_decay, Mapping):
        scalars.number("weight_decay", rule.weight_decay, least=0)


def as_rule(optimizer: Any, model: nn.Module) -> Rule:
    """A rule, or what a `torch.optim.Optimizer` of the model's parameters is set to.

    Raises
    ------
    InputError
        If there is no rule for it; names it, and those that there are.
    """
    if isinstance(optimizer, SGD | Adam):
        return optimizer
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"optimizer: give one of {KNOWN}, or a torch.optim.Optimizer; got {scalars.shown(optimizer)}")
    kind = type(optimizer)
    if kind not in RULES:
        raise InputError(f"optimizer: {kind.__name__} has no rule by which it could be replayed; there are {KNOWN}")
    rule, settings = RULES[kind]
    groups, names = optimizer.param_groups, {id(value): name for name, value in model.named_parameters()}
    if any(group.get("maximize") for group in groups):
        raise InputError("optimizer: it maximises; a loss is minimised, give maximize=False")
    first = {setting: groups[0][setting] for setting in settings}
    if kind is torch.optim.Adam and groups[0].get("decoupled_weight_decay"):
        rule = AdamW
    for group in groups[1:]:
        other = next((setting for setting in settings if group[setting] != first[setting]), None)
        if other is not None:
            raise InputError(
                f"optimizer: its groups have different {other} ({first[other]} and {group[other]}); replay has one for "
                "all parameters, and only weight_decay by name"
            )
    strengths = {float(group["weight_decay"]) for group in groups}
    if len(strengths) == 1 and not any(id(value) in names for group in groups for value in group["params"]):
        return rule(**first, weight_decay=strengths.pop())  # of the trained copy, say
    decay = {names.get(id(value), ""): float(group["weight_decay"]) for group in groups for value in group["params"]}
    if "" in decay:
        raise InputError("optimizer: one of its parameters is none of the model's; give the model that it trains")
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    if trained - decay.keys():
        raise InputError(
            f"optimizer: it doesn't train {sorted(trained - decay.keys())[0]!r}; hold that fixed by parameters=…, or "
            "requires_grad_(False)"
        )
    return rule(**first, weight_decay=strengths.pop() if len(strengths) == 1 else decay)


SHARED = ("lr", "betas", "eps", "amsgrad")
RULES: dict[type, tuple[Any, tuple[str, ...]]] = {
    torch.optim.SGD: (SGD, ("lr", "momentum", "dampening", "nesterov")),
    torch.optim.Adam: (Adam, SHARED),
    torch.optim.AdamW: (AdamW, SHARED),
}
