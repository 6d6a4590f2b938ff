"""Per-example losses ℓ, with the split into model outputs and loss of outputs that the GGN needs.

A loss maps ``(model, batch)`` to one value per example. The losses here also say what the outputs are
(``outputs``) and what the loss of given outputs is (``of_outputs``); a user's own function says only the
whole, which is enough for everything but the GGN.

Conventions: sequences sum over positions; positions that the loss ignores contribute nothing. Batches are
``(inputs, targets)``, ``(input_1, …, input_k, targets)``, or a dict whose targets are under ``labels``,
``label``, ``targets``, ``target`` or ``y`` and whose other entries are the model's keyword arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from upweight import kinds, scalars
from upweight.data import Batch
from upweight.messages import InputError

TARGET_KEYS = ("labels", "label", "targets", "target", "y")


@runtime_checkable
class Split(Protocol):
    """A per-example value that is a function of the model's outputs."""

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says about the batch, ``[batch, ...]``."""
        ...

    def of_outputs(self, outputs: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        """The value of these outputs, one per example."""
        ...


def split_batch(batch: Batch) -> tuple[Any, Tensor]:
    """Inputs and targets of a batch by the conventions of this module."""
    if isinstance(batch, dict):
        key = next((key for key in TARGET_KEYS if key in batch), None)
        if key is None:
            raise InputError(f"data: a dict batch needs its targets under one of {TARGET_KEYS}; it has {list(batch)}")
        return {name: value for name, value in batch.items() if name != key}, _labels(batch[key])
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        return (batch[0] if len(batch) == 2 else tuple(batch[:-1])), _labels(batch[-1])
    raise InputError(
        f"data: this loss needs batches (inputs, targets) or dicts; got {type(batch).__name__}. "
        "For other forms give your own loss: a function (model, batch) -> one value per example"
    )


def all_ignored(batch: Batch, index: Any) -> Tensor:
    """Whether every target of an example is the one that a loss ignores, ``[batch]``."""
    targets = split_batch(batch)[1]
    return torch.eq(targets, index).reshape(len(targets), -1).all(1)


SMALL = (torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32)
"""Whole numbers that labels are stored in, and that torch can't index with."""


def _labels(targets: Any) -> Any:
    return targets.long() if isinstance(targets, Tensor) and targets.dtype in SMALL else targets


def with_targets(batch: Batch, targets: Tensor) -> Batch:
    """The same batch with other targets."""
    if isinstance(batch, dict):
        key = next(key for key in TARGET_KEYS if key in batch)
        return {**batch, key: targets}
    return (*batch[:-1], targets)


def checked_temperature(loss: Loss, temperature: float) -> None:
    """Refuse a temperature that isn't a finite number > 0."""
    scalars.number(f"{type(loss).__name__}, temperature", temperature, above=0)


def call(model: nn.Module, inputs: Any) -> Tensor:
    """The model's output tensor; of outputs with ``logits``, those."""
    if isinstance(inputs, dict):
        outputs = model(**inputs)
    elif isinstance(inputs, tuple | list):
        outputs = model(*inputs)
    else:
        outputs = model(inputs)
    return getattr(outputs, "logits", outputs)


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

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says about the batch, ``[batch, ...]``."""
        return call(model, split_batch(batch)[0])

    def of_outputs(self, outputs: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        """The loss of these outputs, one value per example."""
        values = self.compare(outputs, split_batch(batch)[1])
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
class CrossEntropy(Loss):
    """−log softmax(outputs)[target]; outputs ``[batch, ..., classes]``, integer targets ``[batch, ...]``.

    Targets equal to ``ignore_index`` contribute nothing.

    ``temperature`` T divides the model's outputs. 1 is the loss that was trained; above it gradients and curvature are
    those of a model less sure of its training data, as it was earlier in training, and would be on half of the data.
    Leaving out a *large share* of the data is then foretold better (LDS, see benchmarks/fidelity/RESULTS.md: most at
    1.4); a single example's influence, whose magnitude is to mean something, asks for 1.
    """

    ignore_index: int = -100
    temperature: float = 1.0
    unit = "nats"
    is_likelihood = True
    is_convex = True

    def __post_init__(self) -> None:
        checked_temperature(self, self.temperature)
        scalars.whole("ignore_index", self.ignore_index, -(2**63))

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits over the temperature."""
        logits = super().outputs(model, batch)
        return logits if self.temperature == 1 else logits / self.temperature

    def draws(self, outputs: Tensor) -> tuple[int, ...]:
        """One number for each position."""
        return tuple(outputs.shape[1:-1])

    def sample(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """Classes by the softmax; positions that the loss ignores stay ignored."""
        cumulative = outputs.double().softmax(-1).cumsum(-1)
        drawn = (uniform.unsqueeze(-1) >= cumulative).sum(-1).clamp_max(outputs.shape[-1] - 1)
        targets = split_batch(batch)[1]
        return torch.where(targets == self.ignore_index, targets, drawn)

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy by position."""
        log_probabilities = F.log_softmax(outputs, dim=-1)
        kept = targets != self.ignore_index
        index = torch.where(kept, targets, 0).unsqueeze(-1)
        return -log_probabilities.gather(-1, index).squeeze(-1) * kept

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """Targets must be whole numbers in 0 … classes − 1."""
        targets = split_batch(batch)[1]
        if targets.is_floating_point():
            raise InputError(f"CrossEntropy: targets are {targets.dtype}; it needs integer class numbers")
        if targets.shape != outputs.shape[:-1]:
            raise InputError(
                f"CrossEntropy: outputs {tuple(outputs.shape)} must be targets' shape {tuple(targets.shape)} "
                "with the classes as a last dimension"
            )
        kept = targets[targets != self.ignore_index]
        if kept.numel() and (kept.min() < 0 or kept.max() >= outputs.shape[-1]):
            raise InputError(
                f"CrossEntropy: targets range from {int(kept.min())} to {int(kept.max())}, but the model has "
                f"{outputs.shape[-1]} outputs (classes 0 … {outputs.shape[-1] - 1})"
            )


def _aligned(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs in the shape of the targets (a model with one output gives ``[batch, 1]``)."""
    return outputs.reshape(targets.shape) if outputs.numel() == targets.numel() else outputs


def one_hot(targets: Tensor, classes: int) -> Tensor:
    """Where each class is the target, as booleans with the classes last; ``F.one_hot`` can't be vectorised by vmap."""
    return targets.unsqueeze(-1) == torch.arange(classes, device=targets.device)


def signs(outputs: Tensor, targets: Tensor) -> Tensor:
    """Targets as ±1 in the shape of the outputs; class numbers become one against the rest."""
    if outputs.dim() > targets.dim() and outputs.shape[-1] > 1:
        return 2 * one_hot(targets, outputs.shape[-1]).to(outputs.dtype) - 1
    return torch.where(targets > 0, 1, -1).to(outputs.dtype)


def margins(outputs: Tensor, targets: Tensor) -> Tensor:
    """Y · f: output times the target's sign, positive where the model is right; shape of the signs."""
    wanted = signs(outputs, targets)
    return wanted * outputs.reshape(wanted.shape)


class OneAgainstRest(Loss):
    """Losses of the margin y·f with y = ±1; targets in {0, 1} or {−1, 1}, class numbers of several outputs."""

    is_convex = True

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """Targets must be {0, 1} or {−1, 1}; with several outputs, class numbers."""
        targets = split_batch(batch)[1]
        name = type(self).__name__
        if outputs.dim() > targets.dim() and outputs.shape[-1] > 1:
            if targets.is_floating_point() or targets.min() < 0 or targets.max() >= outputs.shape[-1]:
                raise InputError(f"{name}: with {outputs.shape[-1]} outputs targets must be class numbers below that")
            return
        if outputs.numel() != targets.numel():
            raise InputError(f"{name}: outputs {tuple(outputs.shape)} against targets {tuple(targets.shape)}")
        values = set(targets.unique().tolist())
        if not (values <= {0, 1} or values <= {-1, 1}):
            raise InputError(f"{name}: targets must be in {{0, 1}} or {{-1, 1}}; got {sorted(values)[:6]}")


class BinaryLogistic(OneAgainstRest):
    """log(1 + exp(−y f)), y = ±1; several outputs: one against the rest, summed."""

    unit = "nats"

    is_likelihood = True

    def sample(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """1 with probability σ(f), else the other label that the targets use."""
        targets = split_batch(batch)[1]
        self.refuse_several(outputs, targets)
        positive = (uniform < outputs.double().sigmoid()).reshape(targets.shape)
        low = -1 if bool((targets < 0).any()) else 0
        return torch.where(positive, 1, low).to(targets.dtype)

    def refuse_several(self, outputs: Tensor, targets: Tensor) -> None:
        """One against the rest is not the likelihood of a class."""
        if outputs.numel() != targets.numel():
            raise InputError(
                "curvature: with several outputs an example, BinaryLogistic (one against the rest) has no targets to "
                "draw; use curvature.GGN() or curvature.EmpiricalFisher()"
            )

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """−log σ of the margin; softplus would be cut off at 20, and its curvature with it."""
        return -F.logsigmoid(margins(outputs, targets))


class Hinge(OneAgainstRest):
    """max(0, 1 − y f). Its second derivative is zero wherever it exists, so H = λI (see SmoothHinge)."""

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Hinge of the margin."""
        return F.relu(1 - margins(outputs, targets))


class SquaredHinge(OneAgainstRest):
    """max(0, 1 − y f)²: the default loss of scikit-learn's LinearSVC."""

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared hinge of the margin."""
        return F.relu(1 - margins(outputs, targets)) ** 2


@dataclass(frozen=True)
class SmoothHinge(OneAgainstRest):
    """t·log(1 + exp((1 − y f)/t)), the hinge as t → 0 (Koh & Liang 2017, section 4.3)."""

    t: float = 0.001

    def __post_init__(self) -> None:
        scalars.number("t (for t = 0 use Hinge())", self.t, above=0)

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """−t log σ((y f − 1)/t), which is the softplus without its cut-off at 20."""
        return -self.t * F.logsigmoid((margins(outputs, targets) - 1) / self.t)


@dataclass(frozen=True)
class SquaredError(Loss):
    """``factor`` · Σ (f − y)² over outputs; factor ½ makes the gradient of the output the residual."""

    factor: float = 0.5
    unit = "squared units of the target"
    is_likelihood = True
    is_convex = True
    classifies = False

    def __post_init__(self) -> None:
        scalars.number("factor", self.factor, above=0)

    def sample(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """Gaussian around the outputs with variance 1/(2·factor), of which this loss is the negative log-density."""
        noise = torch.special.ndtri(uniform.clamp(1e-15, 1 - 1e-15)) / (2 * self.factor) ** 0.5
        targets = split_batch(batch)[1]
        return (outputs + noise.to(outputs.dtype)).reshape(targets.shape)

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared error by output."""
        return self.factor * (_aligned(outputs, targets) - targets) ** 2

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """Outputs and targets must have as many numbers."""
        targets = split_batch(batch)[1]
        if outputs.numel() != targets.numel():
            raise InputError(f"SquaredError: outputs {tuple(outputs.shape)} against targets {tuple(targets.shape)}")


@dataclass(frozen=True)
class Function:
    """A user's own ``(model, batch) -> [batch]`` as a loss. Examples must not depend on each other."""

    function: Callable[[nn.Module, Batch], Tensor]
    unit: str = "loss"

    def __post_init__(self) -> None:
        kinds.check_fields(self)

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " batch"]:
        """The loss of each example."""
        return self.function(model, batch)


AnyLoss = Loss | Function


def as_loss(loss: Any) -> AnyLoss:
    """Read a loss of this module or a user's function."""
    if isinstance(loss, Loss | Function):
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise InputError(f"loss: {loss.__name__} is a class; give an instance, {loss.__name__}()")
    if isinstance(loss, nn.Module):
        raise InputError(
            f"loss: {type(loss).__name__} compares outputs with targets and usually averages; give one of "
            "upweight.losses or a function (model, batch) -> one value per example"
        )
    if callable(loss):
        return Function(loss)
    raise InputError(f"loss: {loss!r} is neither one of upweight.losses nor a function (model, batch) -> [batch]")


def as_split(loss: AnyLoss) -> Loss:
    """The loss, if it says what the model's outputs are.

    Raises
    ------
    InputError
        If it is a user's function of the whole.
    """
    if not isinstance(loss, Loss):
        raise InputError(
            f"loss: {loss!r} doesn't say what the model's outputs are; this needs one of upweight.losses, or a "
            "subclass of upweight.losses.Loss with compare(outputs, targets)"
        )
    return loss
