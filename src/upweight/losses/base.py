"""What a loss is: a value per example, where possible split into outputs and a value of outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from upweight import kinds, scalars
from upweight.data import Batch, batch_length
from upweight.errors import InputError
from upweight.losses.batches import split_batch, with_targets
from upweight.losses.outputs import call


@runtime_checkable
class Split(Protocol):
    """A per-example value that is a function of the model's outputs."""

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says about the batch, ``[batch, ...]``."""
        ...

    def of_outputs(self, outputs: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        """The value of these outputs, one per example."""
        ...


class Loss:
    """Base of the losses of this module: the model is called on the inputs, the loss compares with targets."""

    unit = "loss"
    is_likelihood = False
    """Whether it is −log p(target | outputs) up to a constant, so that targets can be drawn from the model."""
    is_convex = False
    """Whether it is convex in the outputs, so that the GGN has no negative curvature."""
    classifies = True
    """Whether targets are classes, of which the outputs say one."""

    def draws(self, outputs: Tensor) -> tuple[int, ...]:
        """Shape of the uniform random numbers that one example's targets are made of."""
        return tuple(outputs.shape[1:])

    def sample(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """Targets drawn from the model's own distribution, by inversion of uniform numbers in [0, 1)."""
        raise TypeError(f"{type(self).__name__} is no likelihood, so it has no targets to draw")

    def drawn_slope(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """∂ℓ/∂outputs at targets drawn from the model, scaled so that its mean square is the Hessian in the outputs."""
        labelled = with_targets(batch, self.sample(outputs, batch, uniform))
        with torch.enable_grad():
            point = outputs.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.of_outputs(point, labelled).sum(), point)
        return slope

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says about the batch, ``[batch, ...]``."""
        return call(model, self.inputs(batch))

    def inputs(self, batch: Batch) -> Any:
        """What the model is called on."""
        return split_batch(batch)[0]

    def targets(self, batch: Batch) -> Tensor:
        """The targets as they are compared with the outputs."""
        return split_batch(batch)[1]

    def of_outputs(self, outputs: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        """The loss of these outputs, one value per example."""
        values = self.compare(outputs, self.targets(batch))
        return values.reshape(outputs.shape[0], -1).sum(-1)

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss by example and position, not yet summed over positions."""
        raise TypeError(f"{type(self).__name__} does not define a loss; subclasses give compare(outputs, targets)")

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """Refuse targets that this loss isn't defined for."""

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " batch"]:
        """The loss of each example."""
        return self.of_outputs(self.outputs(model, batch), batch)


@dataclass(frozen=True)
class Function:
    """A user's own ``(model, batch) -> [batch]`` as a loss. Examples must not depend on each other.

    Values ``[batch, tokens]``, or with more dimensions, are summed over all but the first, as sequences are in every
    loss here: places that don't count must be 0 in them.

    Parameters
    ----------
    function
        Called on the model and a batch in the data's own form; gives a value per example, ``[batch]`` or more
        dimensions.
    unit
        What its values are called where scores have a unit.
    """

    function: Callable[[nn.Module, Batch], Tensor]
    unit: str = "loss"

    def __post_init__(self) -> None:
        kinds.check_fields(self)

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " batch"]:
        """The loss of each example."""
        values = self.function(model, batch)
        if not isinstance(values, Tensor) or values.dim() < 2 or len(values) != batch_length(batch):
            return values
        return values.flatten(1).sum(1)


AnyLoss = Loss | Function


def all_ignored(loss: AnyLoss, batch: Batch) -> Bool[Tensor, " batch"]:
    """Whether every target of an example is the one that the loss ignores; of no example where it ignores none.

    Parameters
    ----------
    loss
        With an ``ignore_index``, else nothing is ignored.
    batch
        In the form of the training data.
    """
    ignored = getattr(loss, "ignore_index", None)
    if ignored is None or not isinstance(loss, Loss):
        return torch.zeros(batch_length(batch), dtype=torch.bool)
    targets = loss.targets(batch)
    return torch.eq(targets, ignored).reshape(len(targets), -1).all(1)


def checked_temperature(loss: Loss, temperature: float) -> None:
    """Refuse a temperature that isn't a finite number > 0.

    Parameters
    ----------
    loss
        Whose temperature it is: the message names its class.
    temperature
        What the model's outputs are to be divided by.

    Raises
    ------
    InputError
        If it isn't one.
    """
    scalars.number(f"{type(loss).__name__}, temperature", temperature, above=0)


def class_weights(name: str, weight: Any) -> tuple[float, ...] | None:
    """A number ≥ 0 for each class, as Python's own, so that losses can be compared, hashed and stored."""
    if weight is None:
        return None
    given = weight.tolist() if hasattr(weight, "tolist") else weight
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"{name}: give a number for each class, such as [1.0, 2.5]; got {weight!r}")
    return tuple(scalars.number(name, value, least=0) for value in given)


def one_hot(targets: Tensor, classes: int) -> Tensor:
    """Where each class is the target, as booleans with the classes last; ``F.one_hot`` can't be vectorised by vmap.

    Parameters
    ----------
    targets
        Class numbers, ``[...]``.
    classes
        How many there are: the result is ``[..., classes]``.
    """
    return targets.unsqueeze(-1) == torch.arange(classes, device=targets.device)
