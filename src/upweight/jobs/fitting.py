"""Fitting as shards: an inverse's sums over training examples are committed in parts, and added in a fixed order.

K-FAC and EK-FAC are sums over rows and eigenvectors of sums, so their passes are divided like those of scores. Other
inverses are fitted whole. What was fitted is one block, of tensors and facts, wherever that can be (`solvers`); so a
job that goes on fits nothing anew.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from upweight.curvature import Rows
from upweight.curvature.eigenbasis import Basis, EigenOperator
from upweight.curvature.kronecker import Kronecker, Sides, kronecker, mixed_shapes, refuse_not_finite, side_sums
from upweight.engine.exhausted import within_memory
from upweight.executors import Executor
from upweight.forward import words
from upweight.gradients import Shape
from upweight.inverse import EKFAC, KFAC, Inverse, Solver, as_solver
from upweight.inverse.eigenbasis import eigenbases, rows_of
from upweight.inverse.ekfac import square_sums
from upweight.jobs import description, fingerprints, parts, solvers
from upweight.jobs.parts import Part, Parts, summed
from upweight.jobs.run import Log, run
from upweight.jobs.shards import Shard, cut
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.precision import Precision, products
from upweight.store.backend import Backend, backend
from upweight.store.blocks import Blocks
from upweight.store.tensors import pack, unpack
from upweight.stored.names import BASES, FACTORS, SIDES, SQUARES

SHARDS = 16
"""Of a fit, at least: each part is as large as the factors."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fit in a store.

    Attributes
    ----------
    passes
        Bytes that passes hold.
    """

    objective: Objective
    place: Backend
    executor: Executor
    precision: Precision | None
    passes: int

    @property
    def blocks(self) -> Blocks:
        """The committed blocks."""
        return Blocks(self.place)

    def solver(self, inverse: Inverse | Solver, known: Solver | None = None) -> Solver:
        """The inverse fitted: from the store where it is there, else shard by shard, and kept.

        Parameters
        ----------
        known
            The same fitted already, which is kept then.

        Raises
        ------
        InputError
            If a gradient is NaN, with its training example, and as the inverse's own fit does.
        upweight.executors.TaskFailedError, upweight.executors.WorkerDiedError
            If a shard failed.
        """
        if self.blocks.whole(FACTORS):
            cleared(self.blocks)  # of a kill between the factors and this
            return self._read()
        found = self._fitted(inverse) if known is None else known
        packed = solvers.packed(found)
        if packed is None:
            return found
        self.blocks.commit(FACTORS, pack(*packed))
        cleared(self.blocks)
        return self._read()  # as whoever goes on reads it: another layout in memory rounds otherwise

    def _fitted(self, inverse: Inverse | Solver) -> Solver:
        self.objective.engine.hold(self.passes)
        with random_states_kept(), products(self.precision):
            if isinstance(inverse, EKFAC):
                return self._ekfac(inverse)
            if isinstance(inverse, KFAC):
                rows = rows_of(self.objective, inverse.curvature, "KFAC")
                return inverse.solver(rows, list(eigenbases(self._factors(inverse, rows), self.objective.dtype)))
            return as_solver(inverse, self.objective)

    def _read(self) -> Solver:
        return solvers.unpacked(self.objective, *unpack(self.blocks.content(FACTORS)))

    def _ekfac(self, inverse: EKFAC) -> Solver:
        objective = self.objective
        rows = rows_of(objective, inverse.curvature, "EKFAC")
        inverse.refuse_rank(objective.engine.function.plan.shapes)
        if not self.blocks.whole(BASES):
            found = tuple(basis for basis, _, _ in eigenbases(self._factors(inverse, rows), objective.dtype))
            tensors, said = solvers.packed_bases(found)
            self.blocks.commit(BASES, pack(tensors, {"blocks": said}))
        tensors, facts = unpack(self.blocks.content(BASES))
        bases = solvers.unpacked_bases(objective, _on(objective, tensors), facts["blocks"])
        sums = self._sums(f"{SQUARES}-", _Squares(objective, inverse, bases))
        values = tuple(_on(objective, sums.tensors)[str(number)] for number in range(len(bases)))
        refuse_not_finite(rows, values)
        return inverse.solver(EigenOperator(objective, bases, values, inverse.named(rows), inverse.penalized))

    def _factors(self, inverse: EKFAC | KFAC, rows: Rows) -> dict[Shape, Kronecker]:
        """The two sides of every block."""
        mixed = frozenset[Shape]()
        while True:
            part = self._sums(f"{SIDES}{len(mixed)}-", _SidesOf(self.objective, inverse, mixed))
            sums = _by_shape(self.objective, part)
            refuse_not_finite(rows, [each for sides in sums.values() for each in sides.parts])
            again = mixed_shapes(sums)
            if not again:
                return kronecker(sums, rows.weights)
            mixed |= again

    def _sums(self, name: str, of: _Sums) -> Part:
        """Sums over all training examples, by shards."""
        found, n = Parts.found(self.blocks, summed, name), self.objective.n
        count = min(max(SHARDS, 4 * self.executor.workers), n)
        shards = cut(n, -(-n // count))
        missing = [shard for shard in shards if not found.has(shard.number)]
        worker = _Worker(of, self.place, self.precision, self.passes, name)
        run(
            f"fitting, {of.words}", missing, len(shards), self.executor, partial(_same, worker),
            lambda shard, last: found.add(shard.number, last=last), Log(self.place),
        )  # fmt: skip
        found.merge()
        assert found.merged is not None
        return found.merged


@dataclass(eq=False)
class _Sums(ABC):
    """Sums over the rows of some training examples."""

    objective: Objective
    inverse: EKFAC | KFAC

    words = ""

    def __post_init__(self) -> None:
        self._rows: Rows | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}

    @property
    def rows(self) -> Rows:
        """Those of the curvature."""
        if self._rows is None:
            self._rows = rows_of(self.objective, self.inverse.curvature, type(self.inverse).__name__)
        return self._rows

    @abstractmethod
    def __call__(self, chosen: Tensor) -> dict[str, Tensor]:
        """Over these rows."""


@dataclass(eq=False)
class _SidesOf(_Sums):
    mixed: frozenset[Shape]

    words = "covariances"

    def __call__(self, chosen: Tensor) -> dict[str, Tensor]:
        sums = side_sums(self.rows, chosen, self.mixed, self.inverse.approximation, self.inverse.inputs)
        shapes = self.objective.engine.function.plan.shapes
        return {
            f"{shapes.index(shape)}.{name}": value
            for shape, sides in sums.items()
            for name, value in sides.tensors.items()
        }


@dataclass(eq=False)
class _Squares(_Sums):
    bases: tuple[Basis, ...]

    words = "second moments"

    def __call__(self, chosen: Tensor) -> dict[str, Tensor]:
        return {str(number): values for number, values in enumerate(square_sums(self.rows, self.bases, chosen))}


def fit(
    objective: Objective,
    inverse: Inverse | Solver,
    store: Any,
    executor: Executor,
    precision: Precision | None,
    *,
    known: Solver | None = None,
    resume: bool = True,
) -> Solver:
    """The inverse fitted to the objective, by shards in a store of its own; read from there if it was before.

    Raises
    ------
    InputError
        If the store is of something else, or another process works on it; as the inverse's own fit does.
    upweight.files.NotWrittenError
        If the store can't be written to; what is committed stays.
    """
    place = backend(store)
    said = {
        "kind": "factors",
        "settings": {
            "inverse": fingerprints.of_inverse(inverse),
            "precision": precision,
            "forward": words(objective.problem.half or objective.dtype),
        },
        "fingerprints": fingerprints.of_objective(objective),
        "versions": fingerprints.versions(),
        "passes": objective.engine.memory,
    }
    with place.held():
        found, _ = description.begin(place, said, resume=resume)
        work = Fit(objective=objective, place=place, executor=executor, precision=precision, passes=found["passes"])
        return work.solver(inverse, known)


def cleared(blocks: Blocks, *, factors: bool = False) -> None:
    """Remove what a fit no longer needs, once its factors are there; these too, if they have served."""
    for prefix in (BASES, SIDES, SQUARES, *((FACTORS,) if factors else ())):
        parts.cleared(blocks, prefix)


def _by_shape(objective: Objective, part: Part) -> dict[Shape, Sides]:
    """Sides of every block, of sums by number and name."""
    held: dict[int, dict[str, Tensor]] = {}
    for name, value in _on(objective, part.tensors).items():
        number, _, rest = name.partition(".")
        held.setdefault(int(number), {})[rest] = value
    shapes = objective.engine.function.plan.shapes
    return {shapes[number]: Sides.of(shapes[number], tensors) for number, tensors in sorted(held.items())}


def _on(objective: Objective, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(objective.device) for name, value in tensors.items()}


def _same(worker: _Worker) -> Callable[[Shard], dict[str, Any]]:
    """What an executor calls in each of its processes: the worker as it was sent there."""
    return worker


@dataclass(eq=False)
class _Worker:
    """Sums over shards, and commits the sums."""

    of: _Sums
    place: Backend
    precision: Precision | None
    passes: int
    name: str

    def __call__(self, shard: Shard) -> dict[str, Any]:
        started, engine = time.perf_counter(), self.of.objective.engine
        engine.hold(self.passes)
        sums = within_memory(engine, lambda: self._summed(shard))
        self.passes = engine.memory
        parts.commit(Blocks(self.place), shard.number, Part(sums), self.name)
        return {"seconds": round(time.perf_counter() - started, 3), "process": os.getpid()}

    def _summed(self, shard: Shard) -> dict[str, Tensor]:
        with random_states_kept(), products(self.precision):
            return self.of(self.of.rows.between(shard.start, shard.stop))
