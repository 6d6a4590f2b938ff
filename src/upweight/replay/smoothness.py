"""Metasmoothness: is a training smooth enough in its examples' weights for a derivative to say what they do?"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight.errors import UpweightWarning
from upweight.replay.optimizers import Adam, Rule
from upweight.scalars import generator

BOUND = 0.9
"""Metasmoothness below which sizes of scores aren't trusted. Measured in benchmarks/replay/RESULTS.md."""
STEP = 0.05
"""h: by how much weights are moved."""
ROUGH_EPS = 1e-6
"""ε of Adam below which it is named."""
BENT = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Threshold, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish),
    *(nn.Hardshrink, nn.Softshrink, nn.SELU, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d),
    *(nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
)
"""Modules whose slope jumps."""
OPERATIONS = re.compile(
    r"^(Relu|LeakyRelu|Threshold|Hardtanh|Hardsigmoid|Hardswish|Hardshrink|Softshrink|Prelu|Rrelu|Clamp\w*|Abs|"
    r"Maximum|Minimum|Max|Min|AMax|AMin|Sort|Topk|\w*MaxPool\w*?)(WithIndices)?Backward\d*$"
)
"""Operations whose slope jumps, by the names of autograd's nodes."""


class RoughTrainingWarning(UpweightWarning):
    """A training is so rough in its examples' weights that a derivative says little of what a change of them does."""


@dataclass(frozen=True)
class Metasmoothness:
    """Whether two neighbouring finite differences of a training agree.

    Attributes
    ----------
    value
        From −1 to 1: agreement of the signs of θ(w+hv) − θ(w) and θ(w+2hv) − θ(w+hv), entry by entry, weighted by the
        size of the first. 1 for a training that is linear along v; 0 for one whose differences say nothing of the next.
    step
        h, the share by which each weight is moved; v is ±1, drawn by seed.
    kinks
        Operations of the model whose slope jumps: modules by name, and operations called as functions.
    optimizer
        What in the optimiser's settings may be rough; "" if nothing.
    """

    value: float
    step: float
    kinks: tuple[str, ...] = ()
    optimizer: str = ""

    @property
    def smooth(self) -> bool:
        """Whether it is above the bound, `BOUND`."""
        return self.value >= BOUND

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        said = f"metasmoothness {self.value:.3f} at h={self.step:g}"
        return said if self.smooth else f"{said}, below {BOUND:g}{self._causes()}"

    def _causes(self) -> str:
        causes = [f"kinks: {', '.join(self.kinks)}"] if self.kinks else []
        causes += [self.optimizer] if self.optimizer else []
        return f" ({'; '.join(causes)})" if causes else ""

    @property
    def mend(self) -> str:
        """What helps where it is low."""
        smooth = "smooth activations (GELU, Tanh) and average pooling" if self.kinks else "a smaller learning rate"
        return f"{smooth}, or fewer steps, make it smoother" + (", as does a larger eps" if self.optimizer else "")


def empirical_metasmoothness(
    first: Float[Tensor, " p"], second: Float[Tensor, " p"], third: Float[Tensor, " p"]
) -> float:
    """Σ |Δ₁| sign(Δ₁) sign(Δ₂) / Σ |Δ₁|, of θ at w, w+hv and w+2hv (Engstrom et al. 2025, definition 2).

    arXiv:2503.13751. 1 where nothing moves.
    """
    before, after = (second - first).double(), (third - second).double()
    total = float(before.abs().sum())
    return 1.0 if total == 0 else float((before * after.sign()).sum()) / total


def rough_optimizer(rule: Rule) -> str:
    """What of an optimiser's settings may be rough, in words."""
    if isinstance(rule, Adam) and rule.eps < ROUGH_EPS:
        return f"{type(rule).__name__}'s eps={rule.eps:g}: its steps have slope 1/eps where gradients are tiny"
    return ""


def direction(examples: int, seed: int, like: Tensor) -> Float[Tensor, " train"]:
    """v: ±1 for each training example."""
    signs = torch.randint(0, 2, (examples,), generator=generator(seed)) * 2 - 1
    return signs.to(like)


def kinks(model: nn.Module, values: Tensor | None = None) -> tuple[str, ...]:
    """What of a model has slopes that jump: modules by name, and of ``values`` operations that are none of a module's.

    Parameters
    ----------
    values
        Losses with their graph.
    """
    modules: list[tuple[str, nn.Module]] = [pair for pair in model.named_modules() if isinstance(pair[1], BENT)]
    found = [f"{type(part).__name__} {name!r}" if name else type(part).__name__ for name, part in modules]
    counted = Counter(name for name in _operations(values) if not modules or not _by_module(name, modules))
    return (*found, *(f"{name} × {count}" for name, count in sorted(counted.items())))


def _operations(values: Tensor | None) -> list[str]:
    stack: list[Any] = [] if values is None else [values.grad_fn]
    seen, found = set(), []
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        match = OPERATIONS.match(node.name())
        found += [match[1]] if match else []
        stack += [child for child, _ in node.next_functions]
    return found


def _by_module(name: str, modules: list[tuple[str, nn.Module]]) -> bool:
    """Whether an operation is one that a module of the list does."""
    kind = name.lower().removesuffix("withindices")
    return any(kind.startswith(type(part).__name__.lower()[:5]) for _, part in modules)
