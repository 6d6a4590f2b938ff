"""A model of the zoo with its examples, and its loss twice: as the package takes it, and as plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import upweight as uw

N, T, D, WORDS, CLASSES = 6, 5, 4, 11, 3

Plain = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes
    ----------
    data
        Nested tensors with the examples first; or a list of examples, with ``collate``.
    plain
        The loss of a batch of one example.
    padded
        The same examples with more padding.
    refused
        Words of the refusal, where there is one.
    differences
        Torch's own second derivative fails or is wrong, so differences of first ones stand for it.
    once
        Words of the refusal to differentiate twice, where torch can't.
    precision
        What a model leaves that computes in single precision on its way, whatever its own.
    """

    model: nn.Module
    data: Any
    loss: Any
    plain: Plain
    padded: Callable[[Any], Any] | None = None
    collate: Callable[[list[Any]], Any] | None = None
    refused: str = ""
    differences: bool = False
    once: str = ""
    precision: float = 0.0


def whole(outputs: Any) -> Tensor:
    """Of a model that gives a tensor."""
    return outputs


def logits(outputs: Any) -> Tensor:
    """Of one that gives several things."""
    return outputs["logits"] if isinstance(outputs, dict) else outputs.logits


def called(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def parted(batch: Any) -> tuple[Any, Tensor]:
    if isinstance(batch, dict):
        return {name: value for name, value in batch.items() if name != "labels"}, batch["labels"]
    return (batch[0] if len(batch) == 2 else batch[:-1]), batch[-1]


def compared(compare: Callable[[Tensor, Tensor], Tensor], read: Callable[[Any], Tensor]) -> Plain:
    def plain(model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = parted(batch)
        return compare(read(called(model, inputs)), targets)

    return plain


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Classes second in images and last in sequences."""
    if outputs.dim() == 3:
        outputs = outputs.movedim(-1, 1)
    return F.cross_entropy(outputs, targets, reduction="sum")


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * ((outputs.reshape(targets.shape) - targets) ** 2).sum()


def binary(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs.reshape(targets.shape), targets.to(outputs), reduction="sum")


def next_tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs[:, :-1].movedim(-1, 1), targets[:, 1:], reduction="sum")


def classified(
    model: nn.Module, *inputs: Any, labels: Tensor | None = None, read: Callable[[Any], Tensor] = whole, **options: Any
) -> Case:
    """Classes of examples, or of each of their places."""
    labels = torch.arange(N) % CLASSES if labels is None else labels
    axis = 1 if options.pop("image", False) else None
    loss = uw.losses.CrossEntropy(class_axis=axis)
    return Case(model, (*inputs, labels), loss, compared(cross_entropy, read), **options)


def named(
    model: nn.Module, read: Callable[[Any], Tensor] = whole, *, labels: Tensor | None = None, **data: Any
) -> Case:
    """Classes of examples that come as a dict."""
    options = {key: data.pop(key) for key in ("padded", "differences", "once", "precision", "refused") if key in data}
    labels = torch.arange(N) % CLASSES if labels is None else labels
    plain = compared(cross_entropy, read)
    return Case(model, {**data, "labels": labels}, uw.losses.CrossEntropy(), plain, **options)


def fitted(model: nn.Module, *inputs: Any, targets: Tensor, **options: Any) -> Case:
    """Squared errors."""
    return Case(model, (*inputs, targets), uw.losses.SquaredError(), compared(squares, whole), **options)


def judged(model: nn.Module, *inputs: Any, targets: Tensor, **options: Any) -> Case:
    """Logistic losses, of one label or of several."""
    return Case(model, (*inputs, targets), uw.losses.BinaryLogistic(), compared(binary, whole), **options)


def continued(model: nn.Module, tokens: Tensor, read: Callable[[Any], Tensor] = whole, **options: Any) -> Case:
    """Next tokens."""
    return Case(model, (tokens, tokens), uw.losses.CausalLM(), compared(next_tokens, read), **options)


def own(model: nn.Module, loss: Callable[[nn.Module, Any], Tensor], data: Any, **options: Any) -> Case:
    """A loss of the user's, one value per example."""
    return Case(model, data, loss, lambda model, batch: loss(model, batch).sum(), **options)


def tokens(length: int = T, first: int = 1) -> Tensor:
    return torch.randint(first, WORDS, (N, length))


def mask(lengths: tuple[int, ...] = (5, 3, 4, 2, 5, 1), length: int = T) -> Tensor:
    """Which places are there."""
    return torch.arange(length)[None] < torch.tensor(lengths)[:, None]


def longer(data: Any, at: dict[int, Any] | dict[str, Any], by: int = 2) -> Any:
    """The examples with ``by`` more places, filled up with what ``at`` says for each part that has them."""
    keys = list(data) if isinstance(data, dict) else range(len(data))

    def filled(key: Any) -> Tensor:
        part = data[key]
        if key not in at:
            return part
        return torch.cat([part, torch.full((len(part), by, *part.shape[2:]), at[key], dtype=part.dtype)], 1)

    parts = {key: filled(key) for key in keys}
    return parts if isinstance(data, dict) else tuple(parts.values())


def in_double(data: Any) -> Any:
    def moved(leaf: Any) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    return pytree.tree_map(moved, data)
