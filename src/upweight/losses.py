"""Per-example losses ℓ, with the split into model outputs and loss of outputs that the GGN needs.

A loss maps ``(model, batch)`` to one value per example. The losses here also say what the outputs are
(``outputs``) and what the loss of given outputs is (``of_outputs``); a user's own function says only the
whole, which is enough for everything but the GGN.

Conventions: sequences sum over positions; positions that the loss ignores contribute nothing. Batches are
``(inputs, targets)``, ``(input_1, …, input_k, targets)``, or a dict whose targets are under ``labels``,
``label``, ``targets``, ``target`` or ``y`` and whose other entries are the model's keyword arguments. Whole numbers of
any kind (int8 … uint8, bool) are targets.

The outputs are the model's tensor. Of a model that returns anything else they are its ``logits`` (an attribute or a
key), else the first tensor with a dimension in its tuple, dict or dataclass, depth first.

torch's own ``nn.CrossEntropyLoss``, ``nn.BCEWithLogitsLoss`` and ``nn.MSELoss`` are taken with all their options
(`upweight.torch_losses`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from upweight import scalars, softmax
from upweight.data import Batch, Data
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
    """Inputs and targets of a batch by the conventions of this module; whole-number targets are int64."""
    if isinstance(batch, Mapping):
        key = next((key for key in TARGET_KEYS if key in batch), None)
        if key is None:
            raise InputError(f"data: a dict batch needs its targets under one of {TARGET_KEYS}; it has {list(batch)}")
        return {name: value for name, value in batch.items() if name != key}, _widened(batch[key])
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        return (batch[0] if len(batch) == 2 else tuple(batch[:-1])), _widened(batch[-1])
    raise InputError(
        f"data: this loss needs batches (inputs, targets) or dicts; got {type(batch).__name__}. "
        "For other forms give your own loss: a function (model, batch) -> one value per example"
    )


def _widened(targets: Any) -> Any:
    """Whole numbers of any kind as int64, the only kind that indexes and that holds −100."""
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex():
        return targets
    return targets.long()


def with_targets(batch: Batch, targets: Tensor) -> Batch:
    """The same batch with other targets."""
    if isinstance(batch, Mapping):
        key = next(key for key in TARGET_KEYS if key in batch)
        return {**batch, key: targets}
    return (*batch[:-1], targets)


def checked_temperature(loss: Loss, temperature: float) -> None:
    """Refuse a temperature that isn't a finite number > 0."""
    scalars.number(f"{type(loss).__name__}, temperature", temperature, above=0)


def call(model: nn.Module, inputs: Any) -> Tensor:
    """The model's output tensor: of what isn't one, its ``logits``, else its first tensor with a dimension.

    Raises
    ------
    InputError
        If there is none.
    """
    if isinstance(inputs, Mapping):
        outputs = model(**inputs)
    elif isinstance(inputs, tuple | list):
        outputs = model(*inputs)
    else:
        outputs = model(inputs)
    found = _first_tensor(outputs)
    if found is None:
        raise InputError(
            f"model: it returned {type(outputs).__name__}, in which there is no tensor of outputs; return one, or a "
            "tuple, dict or dataclass with one, under 'logits' where there are several"
        )
    return found


def _first_tensor(outputs: Any) -> Tensor | None:
    """The tensor itself; else ``logits``, else the first that has a dimension (a reduced loss has none)."""
    if isinstance(outputs, Tensor):
        return outputs
    named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    parts: list[Any] = [named]
    if isinstance(outputs, Mapping):
        parts += outputs.values()
    elif isinstance(outputs, tuple | list):
        parts += outputs
    elif is_dataclass(outputs):
        parts += [getattr(outputs, part.name) for part in fields(outputs)]
    for part in parts:
        found = None if part is None else _first_tensor(part)
        if found is not None and found.dim():
            return found
    return None


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
        return call(model, split_batch(batch)[0])

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
class CrossEntropy(Loss):
    """−log softmax(outputs)[target], in all the forms of torch's ``cross_entropy``; a value per example.

    Outputs are ``[batch, classes]``, or ``[batch, ..., classes]`` or as in torch ``[batch, classes, ...]``. Targets are
    class numbers ``[batch, ...]``, whose shape tells which dimension of the outputs is the classes': an image's
    ``[b, C, H, W]`` with ``[b, H, W]`` is read as torch reads it, a sequence's ``[b, T, C]`` with ``[b, T]`` as it
    stands. Where both fit (C = H = W, C = T) it is refused until ``class_axis`` says it. Or targets are probabilities
    of the classes, of the outputs' shape (floating-point; beyond ``[b, C]`` they need ``class_axis``).

    Parameters
    ----------
    ignore_index
        Class numbers equal to it contribute nothing.
    temperature
        T that divides the model's outputs. 1 is the loss that was trained; above it gradients and curvature are those
        of a model less sure of its training data, as it was earlier in training, and would be on half of the data.
        Leaving out a *large share* of the data is then foretold better (LDS, see benchmarks/fidelity/RESULTS.md: most
        at 1.4); a single example's influence, whose magnitude is to mean something, asks for 1.
    weight
        Of each class, as in torch: a place of class y counts w_y.
    label_smoothing
        α: targets are 1 − α of themselves and α of all classes alike.
    class_axis
        Dimension of the classes in the outputs, 1 or −1 (default: by shape).
    factor
        What every value is multiplied by.

    Notes
    -----
    An example's value is the sum over its places, as torch's ``reduction='sum'`` gives it for the example alone.
    torch's ``reduction='mean'`` divides by the weights of all places that count, Σ w_y (by their number without
    weights; for probabilities by their number always), while R(θ) divides by the number of examples. So for a model
    trained with the weighted mean give ``nn.CrossEntropyLoss(weight=…)`` itself as the loss, or, what is the same,
    ``factor = n / Σ w_y`` over the training labels: then R without penalty is torch's mean over the training data, and
    l2 means what it meant there. ``Objective(model, CrossEntropy(), data, weights=w[y] / w[y].mean())`` has the same R
    too (without smoothing), where the loss of queries is unweighted. Weights not divided so have the same minimum only
    at l2 = 0.

    Targets for a Fisher matrix are drawn from the softmax and count as much as the given target does (w_y; with
    smoothing and probabilities Σ_c q_c of its coefficients), so that its mean is the GGN.
    """

    ignore_index: int = -100
    temperature: float = 1.0
    weight: Sequence[float] | Tensor | None = None
    label_smoothing: float = 0.0
    class_axis: int | None = None
    factor: float = 1.0
    unit = "nats"
    is_likelihood = True
    is_convex = True

    def __post_init__(self) -> None:
        checked_temperature(self, self.temperature)
        scalars.whole("ignore_index", self.ignore_index, -(2**63))
        scalars.number("label_smoothing", self.label_smoothing, least=0, most=1)
        scalars.number("factor", self.factor, above=0)
        object.__setattr__(self, "weight", class_weights("weight", self.weight))
        if self.class_axis is not None and scalars.whole("class_axis", self.class_axis, -1) not in (1, -1):
            raise InputError(f"class_axis: give 1 (as in torch) or -1 (the last); got {self.class_axis!r}")

    @property
    def is_plain(self) -> bool:
        """Whether the value is −log p of one class as it stands: no weights, smoothing or factor."""
        return self.weight is None and self.label_smoothing == 0 and self.factor == 1

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits over the temperature, ``[batch, ..., classes]``."""
        logits, targets = super().outputs(model, batch), split_batch(batch)[1]
        if isinstance(targets, Tensor):
            logits = softmax.classes_last(logits, targets, self.class_axis)
        return logits if self.temperature == 1 else logits / self.temperature

    def targets(self, batch: Batch) -> Tensor:
        """Class numbers, or probabilities with the classes as last dimension."""
        targets = super().targets(batch)
        is_second = self.class_axis == 1 and targets.is_floating_point() and targets.dim() > 2
        return targets.movedim(1, -1) if is_second else targets

    def draws(self, outputs: Tensor) -> tuple[int, ...]:
        """One number for each position."""
        return tuple(outputs.shape[1:-1])

    def sample(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """Classes by the softmax; positions that the loss ignores stay ignored."""
        cumulative = outputs.double().softmax(-1).cumsum(-1)
        drawn = (uniform.unsqueeze(-1) >= cumulative).sum(-1).clamp_max(outputs.shape[-1] - 1)
        targets = self.targets(batch)
        if softmax.are_probabilities(outputs, targets):
            return drawn
        return torch.where(targets == self.ignore_index, targets, drawn)

    def drawn_slope(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """√Q (p − e_ỹ) at drawn classes ỹ, Q as much as the given target counts."""
        drawn = self.sample(outputs, batch, uniform)
        slope = outputs.softmax(-1) - one_hot(drawn, outputs.shape[-1]).to(outputs.dtype)
        return self.mass(outputs, self.targets(batch)).sqrt().unsqueeze(-1) * slope

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy by position."""
        found = softmax.values(outputs, targets, self._weight, self.label_smoothing, self.ignore_index)
        return found if self.factor == 1 else self.factor * found

    def mass(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How much every position counts, Q: the Hessian in its outputs is Q (diag p − ppᵀ). 0 where it is ignored."""
        return self.factor * softmax.masses(outputs, targets, self._weight, self.label_smoothing, self.ignore_index)

    @property
    def _weight(self) -> softmax.ClassWeights:
        return None if self.weight is None else tuple(self.weight)

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """Targets must be whole numbers in 0 … classes − 1, or probabilities."""
        targets = self.targets(batch)
        classes = outputs.shape[-1]
        if self._weight is not None and len(self._weight) != classes:
            raise InputError(f"CrossEntropy: weight has {len(self._weight)} numbers, and the model {classes} classes")
        if softmax.are_probabilities(outputs, targets):
            return self._check_probabilities(outputs, targets)
        if targets.is_floating_point():
            raise InputError(
                f"CrossEntropy: targets are {targets.dtype}; it needs integer class numbers, or a probability for "
                f"every class in the outputs' shape {tuple(outputs.shape)}"
            )
        if targets.shape != outputs.shape[:-1]:
            raise InputError(
                f"CrossEntropy: outputs {tuple(outputs.shape)} must be targets' shape {tuple(targets.shape)} "
                "with the classes as a last dimension, or as the second, as in torch"
            )
        kept = targets[targets != self.ignore_index]
        if kept.numel() and (kept.min() < 0 or kept.max() >= classes):
            raise InputError(
                f"CrossEntropy: targets range from {int(kept.min())} to {int(kept.max())}, but the model has "
                f"{classes} outputs (classes 0 … {classes - 1})"
            )

    def _check_probabilities(self, outputs: Tensor, targets: Tensor) -> None:
        if targets.shape != outputs.shape:
            raise InputError(
                f"CrossEntropy: probabilities {tuple(targets.shape)} must have the outputs' shape "
                f"{tuple(outputs.shape)}"
            )
        if self.ignore_index >= 0:
            raise InputError("CrossEntropy: ignore_index stands for a class number, and targets are probabilities")
        if targets.numel() and (targets.min() < 0 or targets.max() > 1):
            raise InputError(
                f"CrossEntropy: targets are {targets.dtype} from {float(targets.min()):.3g} to "
                f"{float(targets.max()):.3g}; probabilities of classes are in 0 … 1"
            )


def class_weights(name: str, weight: Any) -> tuple[float, ...] | None:
    """A number ≥ 0 for each class, as Python's own, so that losses can be compared, hashed and stored."""
    if weight is None:
        return None
    given = weight.tolist() if hasattr(weight, "tolist") else weight
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"{name}: give a number for each class, such as [1.0, 2.5]; got {weight!r}")
    return tuple(scalars.number(name, value, least=0) for value in given)


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


@dataclass(frozen=True)
class BinaryLogistic(OneAgainstRest):
    """log(1 + exp(−y f)), y = ±1; several outputs: one against the rest, summed.

    With targets of the outputs' shape every output has a label of its own (several labels an example).

    Parameters
    ----------
    pos_weight
        What a positive target counts, as in torch: one number, or one for each output.
    factor
        What every value is multiplied by.

    Notes
    -----
    torch's ``reduction='mean'`` divides by the number of targets, whatever ``pos_weight``: ``factor = 1 / outputs``
    gives its R, and so does ``nn.BCEWithLogitsLoss(…)`` itself as the loss.

    Targets for a Fisher matrix are drawn from the
    model and count as much as the given target does, so that its mean is the GGN.
    """

    pos_weight: float | Sequence[float] | Tensor | None = None
    factor: float = 1.0
    unit = "nats"
    is_likelihood = True

    def __post_init__(self) -> None:
        scalars.number("factor", self.factor, above=0)
        given = self.pos_weight.tolist() if isinstance(self.pos_weight, Tensor) else self.pos_weight
        one = given is not None and not isinstance(given, Sequence)
        object.__setattr__(self, "pos_weight", class_weights("pos_weight", [given] if one else given))

    @property
    def is_plain(self) -> bool:
        """Whether the value is −log p of the label as it stands."""
        return self.pos_weight is None and self.factor == 1

    def sample(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """1 with probability σ(f), else the other label that the targets use."""
        targets = self.targets(batch)
        self.refuse_several(outputs, targets)
        positive = (uniform < outputs.double().sigmoid()).reshape(targets.shape)
        low = -1 if bool((targets < 0).any()) else 0
        return torch.where(positive, 1, low).to(targets.dtype)

    def drawn_slope(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """√Q (σ(f) − ỹ) at drawn ỹ in {0, 1}, Q as much as the given target counts."""
        targets = self.targets(batch)
        drawn = (self.sample(outputs, batch, uniform) > 0).reshape(outputs.shape).to(outputs.dtype)
        return self.mass(outputs, targets).sqrt().reshape(outputs.shape) * (outputs.sigmoid() - drawn)

    def refuse_several(self, outputs: Tensor, targets: Tensor) -> None:
        """One against the rest is not the likelihood of a class."""
        if outputs.numel() != targets.numel():
            raise InputError(
                "curvature: with several outputs an example, BinaryLogistic (one against the rest) has no targets to "
                "draw; use curvature.GGN() or curvature.EmpiricalFisher()"
            )

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """−log σ of the margin; softplus would be cut off at 20, and its curvature with it."""
        found = -F.logsigmoid(margins(outputs, targets))
        return found if self.is_plain else self.mass(outputs, targets) * found

    def mass(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How much every output counts, Q: the second derivative is Q σ(f) σ(−f)."""
        wanted = signs(outputs, targets)
        if self.pos_weight is None:
            return torch.full_like(wanted, self.factor)
        weights = torch.tensor(self.pos_weight, dtype=outputs.dtype, device=outputs.device)
        return self.factor * torch.where(wanted > 0, weights, 1.0)

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """As for every loss of margins; and a weight for each output."""
        super().check(outputs, batch)
        if self.pos_weight is None:
            return
        shape, given = signs(outputs, self.targets(batch)).shape, len(tuple(self.pos_weight))  # type: ignore[arg-type]
        if given != 1 and (len(shape) < 2 or shape[-1] != given):
            raise InputError(
                f"BinaryLogistic: pos_weight has {given} numbers, and outputs are {tuple(outputs.shape)}; give one, or "
                "one for each output"
            )


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

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " batch"]:
        """The loss of each example."""
        return self.function(model, batch)


AnyLoss = Loss | Function


def as_loss(loss: Any, data: Data | None = None) -> AnyLoss:
    """Read a loss of this module, one of torch's, or a user's function.

    Parameters
    ----------
    data
        What torch's means are taken over: their divisor is counted there.
    """
    if isinstance(loss, Loss | Function):
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise InputError(f"loss: {loss.__name__} is a class; give an instance, {loss.__name__}()")
    from upweight import torch_losses  # which is made of the losses here

    if torch_losses.known(loss):
        return torch_losses.mapped(loss, data)
    if isinstance(loss, nn.Module):
        raise InputError(torch_losses.refusal(loss))
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
