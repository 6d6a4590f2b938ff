"""Scores of pairs of a query and a training example parted by token: of the example, of the query, or of both.

∇L_qᵀ(H+δI)⁻¹∇ℓ_z is linear in either gradient, and each is a sum over the positions through whose activations it flows
(`upweight.gradients.tokens`). So one side is solved for whole, and meets the parts of the other; for both, the query's
parts are solved for. Nothing larger than some examples' scores is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from upweight.data import Batch, Data
from upweight.errors import InputError
from upweight.gradients import FactoredFunction
from upweight.gradients.tokens import MASKS, Field, TokenGradients, named_tokens
from upweight.inverse import Solver, warned
from upweight.measurements import Measurement
from upweight.objective import Objective
from upweight.quantities.queries import query_gradients

By = Literal["train-token", "query-token", "token"]

PADDING, MADE_UP = -1, -2
"""In place of a token's number: padding, and tokens that the model made itself."""


@dataclass(frozen=True)
class Part:
    """Scores of some training examples for one query.

    Attributes
    ----------
    query, examples
        The query's row, and the examples' columns.
    train, query_tokens
        Scores by the examples' tokens ``[examples, time]``, or by the query's; None where they aren't asked for.
    pairs
        By both, ``[examples, query time, train time]``.
    rest
        What belongs to no token, or to no pair of them, ``[examples]``.
    """

    query: int
    examples: Int[Tensor, " m"]
    train: Float[Tensor, "m t"] | None
    query_tokens: Float[Tensor, "m s"] | None
    pairs: Float[Tensor, "m s t"] | None
    rest: Float[Tensor, " m"]


@dataclass(frozen=True, eq=False)
class ByToken:
    """What scores tokens.

    Attributes
    ----------
    data, measurement
        The queries, and what is measured of them.
    by
        Whose tokens.
    factor
        What makes a score of a product: 1/n of a removal, −1 of an upweighting.
    positions
        Training examples of the columns; None: all.
    fields
        Keys of the batch that hold tokens.
    """

    objective: Objective
    solver: Solver
    data: Data
    measurement: Measurement
    by: By
    factor: float
    positions: Tensor | None
    fields: tuple[str, ...] | None = None

    @property
    def examples(self) -> int:
        """Number of columns."""
        return self.objective.n if self.positions is None else len(self.positions)

    def check(self) -> None:
        """Refuse what has no tokens, before work starts.

        Raises
        ------
        InputError
            If the model's gradients don't come by operations, or nothing looks up the tokens.
        """
        if self.by != "query-token":
            self._train(torch.arange(1))
        if self.by != "train-token":
            self._query([0])

    def remainder(self) -> dict[str, str]:
        """Parameters that act at no one position in the training loss, or in the measurement, with the reason."""
        found: dict[str, str] = {}
        if self.by != "query-token":
            found |= self._train(torch.arange(min(2, self.examples)))[0].remainder
        if self.by != "train-token":
            found |= self._query(range(min(2, len(self.data)))).remainder
        return found

    def times(self) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
        """The fields of tokens of the first query, and of the first example."""
        return self._query([0]).fields, self._train(torch.arange(1))[0].fields

    def query_tokens(self, place: int) -> Int[Tensor, " time"]:
        """The numbers of a query's tokens, `PADDING` or `MADE_UP` where there is none."""
        return token_numbers(self.data.take([place]), self.times()[0])

    def train_tokens(self, column: int) -> Int[Tensor, " time"]:
        """Those of a training example."""
        place = column if self.positions is None else int(self.positions[column])
        return token_numbers(self.objective.data.take([place]), self.times()[1])

    def walk(self, wanted: Bool[Tensor, "queries train"]) -> Iterator[Part]:
        """Scores of the pairs that are wanted, in parts of moderate size."""
        walks: dict[str, Callable[[Tensor], Iterator[Part]]] = {
            "train-token": self._by_train,
            "query-token": self._by_query,
            "token": self._by_both,
        }
        yield from walks[self.by](wanted.cpu())

    def _by_train(self, wanted: Tensor) -> Iterator[Part]:
        for queries in _chunks(wanted.any(1), self.objective.engine.queries(self.objective.p)):
            solved = self._solved(query_gradients(self.objective, self._taken(queries), self.measurement))
            for columns in self._columns(wanted[queries].any(0)):
                tokens, weights = self._train(columns)
                for row, query in enumerate(queries.tolist()):
                    mine = wanted[query, columns].nonzero().flatten()
                    if len(mine):
                        some = tokens if len(mine) == len(columns) else tokens.take(mine.tolist())
                        parts, rest = some.inner(solved[row : row + 1])
                        scale = self.factor * weights[mine]
                        yield Part(query, columns[mine], parts[0] * scale[:, None], None, None, rest[0] * scale)

    def _by_query(self, wanted: Tensor) -> Iterator[Part]:
        engine, rows = self.objective.engine, self.objective.engine.block_rows(self.objective.p)
        for queries in _chunks(wanted.any(1), min(engine.pass_rows, engine.queries(self.objective.p))):
            tokens = self._query(queries.tolist())
            for columns in self._columns(wanted[queries].any(0), rows):
                train = columns if self.positions is None else self.positions[columns]
                solved = self._solved(torch.cat([part for _, part in engine.gradients(train)]))
                for row, query in enumerate(queries.tolist()):
                    mine = wanted[query, columns].nonzero().flatten()
                    if len(mine):
                        parts, rest = tokens.take([row]).inner(solved[mine.to(solved.device)])
                        yield Part(
                            query, columns[mine], None, parts[:, 0] * self.factor, None, rest[:, 0] * self.factor
                        )

    def _by_both(self, wanted: Tensor) -> Iterator[Part]:
        for (query,) in wanted.any(1).nonzero().tolist():
            tokens = self._query([query])
            parts, rest = tokens.materialize()
            solved = self._solved(torch.cat([parts[0], rest]))  # [query time + 1, p]
            for columns in self._columns(wanted[query]):
                train, weights = self._train(columns)
                pairs, apart = train.inner(solved)  # [query time + 1, examples, time], [query time + 1, examples]
                scale = self.factor * weights
                pairs, apart = pairs.movedim(1, 0) * scale[:, None, None], apart.T * scale[:, None]
                beside = pairs[:, -1].sum(1) + apart.sum(1)
                yield Part(
                    query,
                    columns,
                    pairs.sum(1),
                    pairs[:, :-1].sum(2) + apart[:, :-1],
                    pairs[:, :-1],
                    beside,
                )

    def _solved(self, vectors: Tensor) -> Tensor:
        return warned(self.solver.solve(vectors)).x

    def _columns(self, wanted: Tensor, rows: int | None = None) -> tuple[Tensor, ...]:
        """Columns that are wanted, in batches that fit a pass."""
        chosen = wanted.nonzero().flatten()
        return chosen.split(rows or self.objective.engine.pass_rows) if len(chosen) else ()

    def _taken(self, queries: Tensor) -> Data:
        return self.objective.queries(self.data.take(queries))

    def _train(self, columns: Tensor) -> tuple[TokenGradients, Tensor]:
        """Examples' gradients by token, and their weights."""
        train = columns if self.positions is None else self.positions[columns]
        function = _factored(self.objective.engine.function)
        batch = self.objective.data.take(train)
        weights = self.objective.problem.weights_at(train)
        return function.tokens(self.objective.params, batch, self.fields), weights

    def _query(self, rows: Sequence[int]) -> TokenGradients:
        """Queries' gradients by token."""
        return self._measured.tokens(self.objective.params, self.data.take(list(rows)), self.fields)

    @cached_property
    def _measured(self) -> FactoredFunction:
        return _factored(self.objective.engine.bind(self.measurement.bind(self.objective.loss)))


def token_numbers(batch: Batch, fields: Sequence[Field]) -> Int[Tensor, " time"]:
    """The numbers of one example's tokens, field after field."""
    known, parts = named_tokens(batch, 1), []
    for field in fields:
        ids = known[field.name][0] if field.name in known else torch.full((field.stop - field.start,), MADE_UP)
        mask = batch.get(MASKS.get(field.name)) if isinstance(batch, Mapping) else None
        parts.append(ids if mask is None else ids.masked_fill(mask[0].to(ids.device) == 0, PADDING))
    return torch.cat(parts)


def _factored(function: object) -> FactoredFunction:
    if not isinstance(function, FactoredFunction):
        raise InputError(
            "by: tokens need gradients by a model's operations, which this model or measurement has none of; "
            "leave by out"
        )
    return function


def _chunks(wanted: Tensor, size: int) -> tuple[Tensor, ...]:
    chosen = wanted.nonzero().flatten()
    return chosen.split(size) if len(chosen) else ()
