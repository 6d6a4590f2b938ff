"""A measurement of queries at θ + Δ, for many steps Δ, where the model's outputs are linear in θ.

A step that is right moves such outputs by exactly JΔ, so whatever is measured of them needs no linearisation: of a
residual r that becomes r/(1−h), the loss of the example's own is ½r²(1/(1−h)² − 1), of which ∇ℓᵀΔ = r²h/(1−h) is the
part of first order (Cook & Weisberg 1982, section 2.2). Differences are taken in float64: removals are small beside
what is measured.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from upweight import scalars
from upweight.data import Batch, Data, batch_length, cast, tensors
from upweight.errors import InputError
from upweight.gradients.substituted import substituted
from upweight.gradients.workspace import rows_at_once
from upweight.losses import Split
from upweight.measurements import Measurement
from upweight.objective import Objective

WIDE = torch.float64
PROBES = 8
SCALES = (0.1, 1.0, 10.0)
"""Sizes of random steps, in units of the parameters' own, along which outputs must go straight to be called linear."""
STRAIGHT = 100
"""Multiple of the precision by which they may bend."""


def linear_outputs(objective: Objective) -> bool:
    """Whether the outputs are linear in θ: by the model's form, or along random steps of several sizes."""
    if objective.is_linear:
        return True
    loss = objective.loss
    if not isinstance(loss, Split):
        return False
    batch = objective.data.take(torch.linspace(0, objective.n - 1, min(objective.n, PROBES)).long().unique())
    evaluate = substituted(objective.model, loss.outputs, twice=False)
    theta = objective.params

    def at(step: Tensor) -> Tensor:
        with torch.no_grad():
            return evaluate(objective.layout.unflatten(theta + step), batch)

    size = float(theta.norm()) / len(theta) ** 0.5 or 1.0
    try:
        return all(_is_straight(at, _random(theta, seed) * scale * size) for seed, scale in enumerate(SCALES))
    except (RuntimeError, ValueError):  # a model that not every θ can be put in
        return False


def _random(like: Tensor, seed: int) -> Tensor:
    return torch.randn(len(like), generator=scalars.generator(seed)).to(like)


def _is_straight(at: Callable[[Tensor], Tensor], step: Tensor) -> bool:
    start, there, back, far = at(torch.zeros_like(step)), at(step), at(-step), at(2 * step)
    allowed = STRAIGHT * torch.finfo(start.dtype).eps * (far.norm() + start.norm())
    return bool((there + back - 2 * start).norm() <= allowed and (far + start - 2 * there).norm() <= allowed)


def each(function: Callable[[Tensor], Tensor], rows: Shaped[Tensor, "k ..."]) -> Float[Tensor, "k batch"]:
    """A function of every row: vectorised, or row by row where it can't be."""
    with torch.no_grad():
        try:
            return torch.vmap(function)(rows)
        except (RuntimeError, ValueError, TypeError):
            return torch.stack([function(row) for row in rows])


def own_changes(
    loss: Split, outputs: Shaped[Tensor, "batch ..."], batch: Batch, moved: Float[Tensor, "batch c"]
) -> Float[Tensor, " batch"]:
    """How much each example's own loss changes where its (flattened) outputs do by ``moved``."""
    function, wide = _widened(loss.of_outputs, outputs, batch)
    start = outputs.to(wide)
    with torch.no_grad():
        return (function(start + moved.to(wide).reshape(start.shape)) - function(start)).to(moved.dtype)


def _widened(
    of_outputs: Callable[[Tensor, Batch], Tensor], outputs: Tensor, batch: Batch
) -> tuple[Callable[[Tensor], Tensor], torch.dtype]:
    """A value of outputs in float64, or in their own precision where it can't be had."""
    for dtype in (WIDE, outputs.dtype):
        shown = cast(batch, dtype, outputs.device)
        try:
            with torch.no_grad():
                of_outputs(outputs.to(dtype), shown)
        except RuntimeError:  # a loss that holds tensors of its own, in another precision
            if dtype == outputs.dtype:
                raise
            continue
        return lambda z, shown=shown: of_outputs(z, shown), dtype
    raise AssertionError  # the last one raises itself


class Moved:
    """What is measured of the queries, as a function of a step of θ.

    Raises
    ------
    InputError
        If a query's value isn't finite, or there isn't one value per query.
    """

    def __init__(self, objective: Objective, data: Data, measurement: Measurement):
        self.objective, self.data = objective, data
        self.function: Any = measurement.bind(objective.loss)
        split = isinstance(self.function, Split)
        self.linear = objective.engine.bind(self.function).linear if objective.is_linear and split else None
        self.features: list[Tensor] = []
        if self.linear is None:
            self._prepare()
        self.start: list[Tensor] = []
        for number, (_, batch) in enumerate(self._batches()):
            if self.linear is not None:
                self.features.append(self.linear.features(batch, objective.dtype).to(WIDE))
            zero = torch.zeros(1, objective.p, dtype=WIDE, device=objective.device)
            self.start.append(self._values(number, batch, zero)[0])
        self._refuse_infinite()

    def _batches(self) -> Any:
        return self.data.batches(None, self.objective.engine.rows)

    def _refuse_infinite(self) -> None:
        finite = torch.isfinite(torch.cat(self.start))
        if not finite.all():
            bad = int((~finite).nonzero()[0, 0])
            raise InputError(f"queries: the measurement of query {bad} is NaN or infinite; check its input and label")

    def _prepare(self) -> None:
        """The model in float64, or in its own precision where the function takes no other."""
        batch = self.data.take([0])
        for dtype in (WIDE, self.objective.dtype):
            self.dtype = dtype
            self.evaluate = substituted(copy.deepcopy(self.objective.model).to(dtype), self.function, twice=False)
            try:
                self._at(self.objective.params.to(dtype), cast(batch, dtype, self.objective.device))
                return
            except RuntimeError:
                if dtype == self.objective.dtype:
                    raise

    def _at(self, params: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            values = self.evaluate(self.objective.layout.unflatten(params), batch)
        rows = batch_length(batch)
        if not isinstance(values, Tensor) or values.shape not in ((rows,), (rows, 1)):
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InputError(f"measurement: give one value per query, a tensor of shape [{rows}]; got {got}")
        return values.reshape(rows)

    def _values(self, number: int, batch: Batch, steps: Float[Tensor, "k p"]) -> Float[Tensor, "k rows"]:
        if self.linear is None:
            shown = cast(batch, self.dtype, self.objective.device)
            params = self.objective.params.to(self.dtype) + steps.to(self.dtype)
            return each(lambda theta: self._at(theta, shown), params).to(WIDE)
        a, linear = self.features[number], self.linear
        start = linear.outputs(self.objective.params.to(WIDE), a)
        moves = (a @ linear.matrix(steps).flatten(0, 1).T).reshape(len(a), len(steps), -1).transpose(0, 1)
        function, dtype = _widened(self.function.of_outputs, start.to(self.objective.dtype), batch)
        return each(function, (start + moves).to(dtype)).to(WIDE)

    def changes(self, steps: Float[Tensor, "k p"]) -> Float[Tensor, "queries k"]:
        """The measurement at θ + Δ less that at θ, of every query and every step."""
        wide, parts = steps.to(WIDE), []
        for number, (_, batch) in enumerate(self._batches()):
            rows = len(self.start[number])
            at_once = rows_at_once(rows * self._width(batch, rows), wide.device)  # outputs of queries at all steps
            moved = [self._values(number, batch, chunk) - self.start[number] for chunk in wide.split(at_once)]
            parts.append(torch.cat(moved).T)
        return torch.cat(parts).to(steps.dtype)

    def _width(self, batch: Batch, rows: int) -> int:
        """Numbers that a query takes for one step; of a model that is only run, about its input's."""
        if self.linear is not None:
            return self.linear.outputs_count
        return max(sum(leaf.numel() for leaf in tensors(batch)) // max(rows, 1), 1)
