"""Rates and examples of some consecutive steps, as one block of a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upweight.store.tensors import pack, unpack

UNSAID = -1
"""In place of the number of a step's examples, where nobody said which they were."""


@dataclass(frozen=True)
class Group:
    """A group of an optimiser's parameters.

    Attributes
    ----------
    names
        Of its parameters, as the model has them.
    gain
        How many times a gradient is stepped along in all, with the momentum it leaves behind.
    """

    names: tuple[str, ...]
    gain: float

    @classmethod
    def of(cls, group: Mapping[str, Any], names: Mapping[int, str]) -> Group:
        """A group by the names of the model's parameters, which are told by identity.

        A gradient that enters a velocity with momentum μ and dampening d is stepped along (1−d)(1 + μ + μ² + …) times.
        Adam's mean adds up to one.
        """
        found = tuple(names[id(value)] for value in group["params"] if id(value) in names)
        momentum, dampening = float(group.get("momentum") or 0.0), float(group.get("dampening") or 0.0)
        return cls(found, (1 - dampening) / (1 - momentum) if momentum else 1.0)


@dataclass(frozen=True)
class Log:
    """What was said of the steps after the ``first``-th.

    Attributes
    ----------
    rates
        Learning rate of each group at each step.
    examples
        Positions of each step's examples; None where they weren't said.
    unordered
        Why they weren't; "" if nobody knows.
    """

    first: int
    groups: tuple[Group, ...]
    rates: list[list[float]] = field(default_factory=list)
    examples: list[list[int] | None] = field(default_factory=list)
    unordered: str = ""

    @property
    def last(self) -> int:
        """Steps that had been taken when it ends."""
        return self.first + len(self.rates)

    @property
    def name(self) -> str:
        """Of its block."""
        return f"log-{self.first:010d}"

    def until(self, last: int) -> Log:
        """The same without the steps after the ``last``-th."""
        count = last - self.first
        return replace(self, rates=self.rates[:count], examples=self.examples[:count])

    def effective(self) -> np.ndarray:
        """What a gradient is multiplied by in all, ``[steps, groups]``."""
        rates = np.array(self.rates, dtype=np.float64).reshape(len(self.rates), len(self.groups))
        return rates * np.array([group.gain for group in self.groups])

    def packed(self) -> bytes:
        """As bytes."""
        sizes = [UNSAID if chosen is None else len(chosen) for chosen in self.examples]
        flat = [position for chosen in self.examples for position in chosen or ()]
        wide = max(flat, default=0) > torch.iinfo(torch.int32).max
        tensors = {
            "rates": torch.tensor(self.rates, dtype=torch.float64).reshape(len(self.rates), len(self.groups)),
            "sizes": torch.tensor(sizes, dtype=torch.int32),
            "order": torch.tensor(flat, dtype=torch.int64 if wide else torch.int32),
        }
        groups = [{"names": group.names, "gain": group.gain} for group in self.groups]
        return pack(tensors, {"first": self.first, "groups": groups, "unordered": self.unordered})

    @classmethod
    def of(cls, content: bytes, name: str) -> Log:
        """The log of a block's bytes."""
        tensors, facts = unpack(content, name)
        groups = tuple(Group(tuple(each["names"]), float(each["gain"])) for each in facts["groups"])
        examples = _parted(tensors["order"], tensors["sizes"].tolist())
        return cls(int(facts["first"]), groups, tensors["rates"].tolist(), examples, facts["unordered"])


def _parted(order: Tensor, sizes: Sequence[int]) -> list[list[int] | None]:
    parts = iter(order.split([max(size, 0) for size in sizes]))
    return [None if size == UNSAID else part.tolist() for part, size in zip(parts, sizes, strict=True)]
