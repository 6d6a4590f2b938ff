"""A user's own loss that says its two halves: what the model's outputs are, and the loss of given outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from upweight import scalars
from upweight.data import Batch
from upweight.errors import InputError
from upweight.losses.base import Loss


def has_both(parts: Any) -> bool:
    """Whether it is an object with both halves of a loss as its methods."""
    halves = (getattr(parts, name, None) for name in ("outputs", "of_outputs"))
    return not isinstance(parts, type) and all(callable(half) for half in halves)


@dataclass(frozen=True)
class OfParts(Loss):
    """An object with the methods ``outputs(model, batch)`` and ``of_outputs(outputs, batch)``, as a loss.

    So it has a GGN, leverages and everything else that is taken of outputs. Its attributes ``unit``, ``is_convex`` (in
    the outputs) and ``classifies`` count, where it has them.

    Parameters
    ----------
    parts
        The object. ``outputs`` gives ``[batch, …]``, ``of_outputs`` a value per example, ``[batch]``.

    Raises
    ------
    InputError
        If it lacks one of the two, or is a class.
    """

    parts: Any

    def __post_init__(self) -> None:
        if not has_both(self.parts):
            raise InputError(
                "parts: give an object with the methods outputs(model, batch) and of_outputs(outputs, batch); got "
                f"{scalars.shown(self.parts)}"
            )

    @property
    def unit(self) -> str:  # type: ignore[override]
        """What its values are called."""
        return getattr(self.parts, "unit", "loss")

    @property
    def is_convex(self) -> bool:  # type: ignore[override]
        """Whether it says that it is convex in the outputs."""
        return bool(getattr(self.parts, "is_convex", False))

    @property
    def classifies(self) -> bool:  # type: ignore[override]
        """Whether it says that its targets are classes."""
        return bool(getattr(self.parts, "classifies", False))

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says about the batch, ``[batch, ...]``."""
        return self.parts.outputs(model, batch)

    def of_outputs(self, outputs: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        """The loss of these outputs, one value per example."""
        return self.parts.of_outputs(outputs, batch)
