"""The passes over a problem's training data, and what is kept between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.checks.per_example import Sizes
from upweight.data import ArrayData, Batch, Data, batch_length
from upweight.engine.budget import Budget
from upweight.engine.stationarity import Moments
from upweight.errors import InputError
from upweight.gradients import ExampleFunction, Gradients, LinearFactors, example_function
from upweight.gradients.saved import saved_numbers
from upweight.gradients.substituted import substituted
from upweight.gradients.terms import Outer
from upweight.kept import random_states_kept
from upweight.losses import as_split
from upweight.problem import Problem

T = TypeVar("T")


class Engine:
    """Passes over the training data of a problem.

    Whatever outlives a pass is kept here, and nowhere else: the loss's derivatives with their plan, the features of a
    linear model, spectra in the outputs. It depends on the problem alone, so that an engine that was pickled makes it
    again when it is needed.

    Attributes
    ----------
    problem
        What was minimised.
    budget
        What a pass may hold.
    """

    def __init__(self, problem: Problem, budget: Budget | None = None):
        self.problem = problem
        self.budget = Budget() if budget is None else budget
        self._kept: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"problem": self.problem, "budget": self.budget, "_kept": {}}  # memory: of the machine that has it now

    def kept(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once: it may depend on the problem alone."""
        if name not in self._kept:
            with random_states_kept():
                self._kept[name] = make()
        return self._kept[name]

    # Derivatives

    @property
    def function(self) -> ExampleFunction:
        """The loss with its derivatives in θ."""
        return self.kept("function", lambda: self._bound(self.problem.loss))

    def bind(self, measurement: Any) -> ExampleFunction:
        """A per-example function of (model, batch) with its derivatives in θ."""
        return self.function if measurement is self.problem.loss else self._bound(measurement)

    def _bound(self, function: Any) -> ExampleFunction:
        problem = self.problem
        return example_function(problem.model, function, problem.layout, problem.params, problem.probe())

    @property
    def is_linear(self) -> bool:
        """Whether the outputs are linear in θ, so that a convex loss makes R convex."""
        return self.function.linear is not None

    @property
    def linear_factors(self) -> LinearFactors | None:
        """Where outputs are linear in θ and the factors fit: features, output gradients and curvatures, weighted.

        They depend on θ alone, so every product with the curvature can share them.
        """
        return self.kept("linear factors", self._linear_factors)

    def _linear_factors(self) -> LinearFactors | None:
        function, problem = self.function.linear, self.problem
        if function is None:
            return None
        if self.bytes(problem.n * (function.features_count + function.curvature_numbers)) > self.budget.kept:
            return None
        parts = []
        # Held whole anyway: one batch of arrays is a view, not a copy.
        whole = problem.n if isinstance(problem.data, ArrayData) else problem.batch_size
        for index, batch in problem.data.batches(None, whole):
            features, slope, curvature = function.output_curvature(problem.params, batch)
            weight = problem.weights_at(index)
            parts.append(LinearFactors(features, weight[:, None] * slope, curvature.weighted(weight)))
        return LinearFactors.joined(parts)

    # Sizes of batches

    def bytes(self, numbers: int) -> int:
        """Bytes of so many numbers in the precision of θ."""
        return numbers * self.problem.dtype.itemsize

    @cached_property
    def memory(self) -> int:
        """Bytes that a pass may hold; the same for all of them."""
        return self.budget.bytes_on(self.problem.device)

    def block_rows(self, numbers: int) -> int:
        """Examples per block where each takes ``numbers`` numbers: bounded by memory, and by a pass's own batch."""
        return min(self.fitting(numbers), self.problem.batch_size or self.problem.data.rows)

    @cached_property
    def activations(self) -> int:
        """Numbers that a forward pass keeps of each example for the backward pass."""
        problem, probe = self.problem, self.problem.probe()
        try:
            with random_states_kept(), torch.enable_grad(), saved_numbers() as saved:
                leaves = {name: value.requires_grad_() for name, value in problem.called_with.items()}
                substituted(problem.model, problem.loss, twice=False)(leaves, probe)
        except Exception:  # of the user's model: the checks that follow say what
            return 0
        return saved.beside(leaves.values()) // problem.dtype.itemsize // batch_length(probe)

    @property
    def rows(self) -> int:
        """Examples per pass through the model, whose activations fit the memory."""
        return self.rows_of(self.activations)

    def rows_of(self, numbers: int) -> int:
        """Examples per pass that holds so many numbers of each: the user's, or as many as fit the memory."""
        return self.problem.batch_size or min(self.problem.data.rows, self.fitting(numbers))

    @property
    def sizes(self) -> Sizes:
        """How many examples the checks look at together."""
        return Sizes(self.rows, self.fitting(self.activations))

    @property
    def pass_rows(self) -> int:
        """Examples per pass that reads factors of a model's operations."""
        return self.rows_beside(0)

    def rows_beside(self, numbers: int) -> int:
        """Examples per pass by factors, where ``numbers`` more of each are made on the way."""
        return self.rows_of(self.held + numbers)

    @cached_property
    def formed(self) -> int:
        """Numbers of the largest matrix that is made of an example's gradient where it has several positions."""
        found = self.function.each(self.problem.params, self.problem.data.take([0]))
        sizes = [
            block.shape.rows * block.shape.columns
            for block in found.blocks
            if any(isinstance(term, Outer) and term.left.shape[1] > 1 for term in block.terms)
        ]
        return max(sizes, default=0)

    @property
    def held(self) -> int:
        """Numbers of each example that a pass by factors holds."""
        return self.function.factors + (0 if self.is_linear else self.activations)

    def queries(self, numbers: int) -> int:
        """Queries of so many numbers that share a pass over the training data."""
        return max(self.budget.queries // self.bytes(max(numbers, 1)), 1)

    def fitting(self, numbers: int, dtype: torch.dtype | None = None) -> int:
        """Examples of so many numbers that fit the memory of a pass, in the precision of θ or another."""
        size = max(numbers, 1) * (dtype or self.problem.dtype).itemsize
        if self.budget.memory is not None and size > self.budget.memory:
            raise InputError(
                f"budget: a pass of one example holds {size:,} bytes here, and memory={self.budget.memory:,} are "
                f"allowed; give Budget(memory={size}) or more, or leave memory out"
            )
        return max(self.memory // size, 1)

    def halve(self) -> None:
        """Half the memory for the passes to come, after one that the device could not hold.

        Raises
        ------
        InputError
            If a pass held one example only.
        """
        rows, one = min(self.pass_rows, self.problem.n), self.bytes(self.held)
        if rows == 1 or self.problem.batch_size is not None:
            raise InputError(
                f"memory: the device can't hold a pass of {rows} example{'s' if rows > 1 else ''} ({one * rows:,} bytes"
                " of activations and factors, beside model, data and curvature); give a smaller batch_size, a smaller "
                "model or fewer of its parameters, or a device with more memory"
            )
        self.__dict__["memory"] = min(self.memory, rows * one) // 2

    def hold(self, memory: int) -> None:
        """Let passes hold so many bytes, as those of another process that did a part of the same work."""
        self.__dict__["memory"] = memory

    # Passes

    def batches(self, positions: Tensor | None = None) -> Iterator[tuple[Tensor, Batch]]:
        """Training examples batch by batch: pairs of positions and batch, in order."""
        return self.problem.data.batches(positions, self.rows)

    def losses(self, params: Float[Tensor, " p"], source: Data | None = None) -> Float[Tensor, " examples"]:
        """The loss of each example, of the training data unless a ``source`` is given."""
        data = self.problem.data if source is None else source
        return torch.cat([self.function.values(params, batch) for _, batch in data.batches(None, self.rows)])

    def outputs(self, source: Data | None = None) -> Tensor:
        """The model's outputs on examples, as the loss sees them."""
        problem = self.problem
        outputs_of = substituted(problem.model, as_split(problem.loss).outputs)
        batches = (problem.data if source is None else source).batches(None, self.rows)
        with torch.no_grad():
            return torch.cat([outputs_of(problem.named, batch) for _, batch in batches])

    def risks_and_gradients(self, params: Float[Tensor, "k p"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
        """R and ∇R at k parameter vectors, in one pass over the data."""
        problem = self.problem
        risks = torch.zeros(len(params), dtype=problem.dtype, device=problem.device)
        grads = torch.zeros_like(params)
        rows = self.rows if problem.half is None else self.pass_rows  # by factors, where torch's sums have 16 bits
        for index, batch in problem.data.batches(None, rows):
            totals, sums = self.function.gradients(params, batch, problem.weights_at(index))
            risks += totals
            grads += sums
        return risks / problem.n + problem.penalty(params), grads / problem.n + problem.l2 * params

    def each(self, positions: Tensor | None = None, rows: int | None = None) -> Iterator[tuple[Tensor, Gradients]]:
        """Pairs of positions and gradients w_i ∇ℓ_i as factors, in batches of ``rows``, or as many as memory holds."""
        problem = self.problem
        for index, batch in problem.data.batches(positions, rows or self.pass_rows):
            yield index, self.function.each(problem.params, batch).weighted(problem.weights_at(index))

    def gradients(self, positions: Tensor | None = None) -> Iterator[tuple[Tensor, Float[Tensor, "batch p"]]]:
        """The same written out ``[batch, p]``, in blocks of bounded size."""
        problem = self.problem
        for index, batch in problem.data.batches(positions, self.block_rows(problem.p)):
            gradients = self.function.each(problem.params, batch).materialize()
            yield index, problem.weights_at(index)[:, None] * gradients

    def inner(self, vectors: Float[Tensor, "k p"], positions: Tensor | None = None) -> Float[Tensor, "k train"]:
        """Inner products of k vectors with the gradients w_i ∇ℓ_i of training examples; one pass over them."""
        kept, function = self.linear_factors, self.function.linear
        if kept is not None and function is not None:
            rows = slice(None) if positions is None else positions
            return function.outers(kept.features[rows], kept.slopes[rows]).inner(vectors)
        parts = []
        for _, found in self.each(positions, self.rows_beside(self.formed)):
            parts.append(found.inner(vectors))
            del found  # before the next batch is made
        return torch.cat(parts, dim=1)

    def moments(self) -> Moments:
        """Sums of the gradients and of their squared norms; one pass over the data."""
        kept, function, moments = (
            self.linear_factors,
            self.function.linear,
            Moments(self.problem.params, self.problem.layout),
        )
        if kept is not None and function is not None:
            moments.add_gradients(function.outers(kept.features, kept.slopes))
            return moments
        for _, found in self.each(rows=self.rows_beside(self.formed)):
            moments.add_gradients(found)
            del found  # before the next batch is made
        return moments
