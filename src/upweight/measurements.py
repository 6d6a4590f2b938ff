"""What is explained about a query: its loss, its margin, the log-probability of a class, or a user's own.

A measurement is a value per query. ``helpful_sign`` says which way is good: −1 where a smaller value is
better (a loss), +1 where a larger one is (a margin), 0 where that isn't known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from upweight import kinds, scalars
from upweight.data import Batch
from upweight.errors import InputError
from upweight.losses import AnyLoss, CrossEntropy, Split, margins, one_hot
from upweight.losses import Loss as BaseLoss
from upweight.losses.softmax import are_probabilities


class Measurement:
    """Base of the measurements: bind to the objective's loss to get a per-example function of (model, batch)."""

    name = "measurement"
    helpful_sign = 0
    reads_targets = True
    """Whether the value depends on the query's own target, which must then be one that the loss is defined for."""

    def bind(self, loss: AnyLoss) -> Any:
        """The per-example function of ``(model, batch)`` this measures, where possible a `losses.Split`."""
        raise TypeError(f"{type(self).__name__} does not say what it measures; subclasses give bind(loss)")

    def unit(self, loss: AnyLoss) -> str:
        """The unit of the values."""
        return "nats"


@dataclass(frozen=True)
class OfOutputs:
    """A per-example value of the outputs that ``loss`` defines.

    Attributes
    ----------
    loss
        Gives the outputs, and the targets as they are compared with them.
    value
        ``(outputs, targets)`` → numbers, one for each target.
    reads_targets
        Whether the value depends on the query's own target.
    """

    loss: BaseLoss
    value: Callable[[Tensor, Tensor], Tensor]
    reads_targets: bool = True

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says about the batch."""
        return self.loss.outputs(model, batch)

    def of_outputs(self, outputs: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        """The value of these outputs, 0 at positions that the loss ignores.

        Raises
        ------
        InputError
            If the value is of the query's own class, and targets are probabilities of all classes.
        """
        targets = self.loss.targets(batch)
        if isinstance(self.loss, CrossEntropy) and are_probabilities(outputs, targets):
            if self.reads_targets:
                raise InputError(
                    "measurement: the targets are probabilities, of which none is the label; give "
                    "LogProbability(target=…), 'loss' or a function"
                )
            targets = targets.new_zeros(targets.shape[:-1], dtype=torch.long)
        ignored = getattr(self.loss, "ignore_index", None)
        if ignored is not None:  # those positions stand for no class, and contribute nothing
            kept = targets != ignored
            values = self.value(outputs, torch.where(kept, targets, 0)) * kept
        else:
            values = self.value(outputs, targets)
        return values.reshape(outputs.shape[0], -1).sum(-1)

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " batch"]:
        """The value of each example."""
        return self.of_outputs(self.outputs(model, batch), batch)


def _needs_outputs(loss: AnyLoss, name: str) -> BaseLoss:
    if not isinstance(loss, BaseLoss) or not isinstance(loss, Split):
        raise InputError(
            f"measurement: {name} needs a loss with outputs (one of upweight.losses); with your own loss give "
            "measurements.Function(lambda model, batch: …)"
        )
    return loss


@dataclass(frozen=True)
class Loss(Measurement):
    """The query's loss, without the regulariser; the default."""

    name = "loss"
    helpful_sign = -1

    def bind(self, loss: AnyLoss) -> Any:
        """The objective's own loss."""
        return loss

    def unit(self, loss: AnyLoss) -> str:
        """The loss's unit."""
        return loss.unit


@dataclass(frozen=True)
class Margin(Measurement):
    """log p(y)/(1 − p(y)) = f_y − log Σ_{c≠y} exp f_c of the given label; y·f for a single output."""

    name = "margin"
    helpful_sign = 1

    def bind(self, loss: AnyLoss) -> Any:
        """Margin of the outputs."""
        return OfOutputs(_needs_outputs(loss, "Margin"), _margin)


def _margin(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.dim() == targets.dim() or outputs.shape[-1] == 1:
        return margins(outputs, targets)
    others = outputs.masked_fill(one_hot(targets, outputs.shape[-1]), -torch.inf).logsumexp(-1)
    return outputs.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - others


@dataclass(frozen=True)
class LogProbability(Measurement):
    """log p of class ``target`` (default: the query's own label), from a softmax or a logistic output.

    Parameters
    ----------
    target
        A class number from 0, of a softmax one of its outputs; None: the query's own.
    """

    target: int | None = None
    name = "log-probability"
    helpful_sign = 1

    def __post_init__(self) -> None:
        if self.target is not None:
            scalars.whole("target", self.target, 0)

    @property
    def reads_targets(self) -> bool:  # type: ignore[override]
        """Not where a class is given."""
        return self.target is None

    def bind(self, loss: AnyLoss) -> Any:
        """Log-probability of the class."""
        return OfOutputs(_needs_outputs(loss, "LogProbability"), self._value, self.reads_targets)

    def _value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.dim() == targets.dim() or outputs.shape[-1] == 1:
            wanted = targets if self.target is None else torch.full_like(targets, self.target)
            return F.logsigmoid(margins(outputs, wanted))
        wanted = targets if self.target is None else torch.full_like(targets, self.target)
        if self.target is not None and not 0 <= self.target < outputs.shape[-1]:
            raise InputError(f"LogProbability: target {self.target} is not one of {outputs.shape[-1]} classes")
        return F.log_softmax(outputs, dim=-1).gather(-1, wanted.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class Function(Measurement):
    """A user's own ``(model, batch) -> [batch]``.

    Parameters
    ----------
    function
        Called on the model and a batch in the form of the queries; may not let examples depend on each other.
    name
        What scores call it.
    units
        The unit of its values, in words.
    helpful_sign
        −1 where a smaller value is better, +1 where a larger one is, 0 (default) where that isn't known.
    """

    function: Callable[[nn.Module, Batch], Tensor]
    name: str = "measurement"
    units: str = "units of the measurement"
    helpful_sign: int = 0
    reads_targets = False

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.whole("helpful_sign", self.helpful_sign, -1, 1)

    def bind(self, loss: AnyLoss) -> Any:
        """The user's function."""
        return self.function

    def unit(self, loss: AnyLoss) -> str:
        """The unit the user gave."""
        return self.units


def as_measurement(measurement: Any) -> Measurement:
    """Read a measurement, its name, a user's function, or None (the loss).

    Parameters
    ----------
    measurement
        A `Measurement` or a class of them; ``loss``, ``margin`` or ``log-probability``; a function
        ``(model, batch) -> [batch]``.

    Raises
    ------
    InputError
        If it is none of these.
    """
    if measurement is None:
        return Loss()
    if isinstance(measurement, Measurement):
        return measurement
    if isinstance(measurement, type) and issubclass(measurement, Measurement):
        return measurement()
    named: dict[Any, type[Measurement]] = {"loss": Loss, "margin": Margin, "log-probability": LogProbability}
    if isinstance(measurement, str) and measurement in named:
        return named[measurement]()
    if callable(measurement):
        return Function(measurement)
    raise InputError(f"measurement: {measurement!r} is not one of {list(named)}, upweight.measurements or a function")
