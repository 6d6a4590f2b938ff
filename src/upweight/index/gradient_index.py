"""`GradientIndex`: queries answered from stored rows, block by block, without the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.attribution import Attribution, Magnitude, Ranking
from upweight.curvature import EmpiricalFisher, RowCurvature
from upweight.errors import InputError
from upweight.index import codec, factors, flat, whole_products
from upweight.index.building import (
    Settings,
    add_part,
    begun,
    chosen_curvature,
    curvature_name,
    fitted_of,
    read_curvature,
    refuse_other,
)
from upweight.index.derived import Derived
from upweight.index.examples import Examples, Where
from upweight.index.projections import Leading, LowRank, Projection
from upweight.index.queries import ProjectedQueries, projected
from upweight.index.spectrum import resolved
from upweight.index.stored import PROJECTOR, Description, Part, Stored
from upweight.inverse.damping import Damping
from upweight.kept import random_states_kept
from upweight.measurements import as_measurement
from upweight.objective import Objective
from upweight.progress import track
from upweight.store.backend import backend
from upweight.store.blocks import NAME, Blocks

SHARD = 4096
"""Examples of a shard."""
MOST_DAMPED = 0.1
"""Share by which damping may shrink a score beside l2 for its size to be believed."""

Score = Callable[[str, slice | Tensor, dict[str, Tensor]], Float[Tensor, "q b"]]


def build(
    objective: Objective,
    store: Any,
    projection: Projection | None = None,
    *,
    dtype: codec.Dtype = "int8",
    curvature: RowCurvature | None = None,
    ids: Any = None,
    columns: Any = None,
    shard: int = SHARD,
    resume: bool = True,
) -> GradientIndex:
    """Make an index of an objective's training examples in a store, or go on making it.

    Parameters
    ----------
    objective
        The trained model with its training data.
    store
        A folder, a URL (``s3://…``, needs fsspec) or a backend of `upweight.store`.
    projection
        One of ``index.Leading(1024)`` (the default), ``Factored``, ``Sparse`` and ``LowRank``.
    dtype
        ``int8`` with a scale for each layer of a row, ``bfloat16``, ``float32`` or ``float64``.
    curvature
        Whose damped inverse the scores have: one of `upweight.curvature` that has rows. Default: the GGN, by its
        largest rows, where the loss has one of few outputs; else ``EmpiricalFisher()``, the rows of the index
        themselves.
    ids, columns
        Names of the examples (default: the objective's), and arrays by name to choose from later.
    shard
        Examples of a block, which is committed as it ends.
    resume
        Whether an index that is there is gone on with, once it is found to be of the same model, data and settings.

    Raises
    ------
    InputError
        If what is there is another index (says what differs, and both values), or an argument is none.
    upweight.files.NotWrittenError
        If the store can't be written to.
    """
    kinds.check(build, locals())
    projection = Leading() if projection is None else projection
    if not isinstance(projection, Projection):
        raise InputError(
            "projection: give index.Leading(), Factored(), Sparse() or LowRank(); got " + scalars.shown(projection)
        )
    scalars.one_of("dtype", dtype, ("float64", "float32", "bfloat16", "int8"))
    scalars.flag("resume", resume)
    found = chosen_curvature(objective) if curvature is None else curvature
    settings = Settings(projection, dtype, found, scalars.whole("shard", shard))
    stored = Stored(Blocks(backend(store)))
    with random_states_kept(), stored.backend.held():
        description, fitted = begun(stored, objective, settings, resume=resume)
        add_part(stored, description, fitted, objective, found, 0, ids, columns)
    return GradientIndex(stored)


def open(store: Any) -> GradientIndex:
    """An index that was built, whose queries need no model.

    Parameters
    ----------
    store
        Where `build` made it: a folder, a URL (``s3://…``, needs fsspec) or a backend of `upweight.store`.

    Raises
    ------
    InputError
        If there is none, it isn't finished, or it is damaged or of another version.
    """
    return GradientIndex(Stored(Blocks(backend(store))))


class GradientIndex:
    """Projected gradients of training examples in a store: made by `build`, read by `open`.

    Parameters
    ----------
    stored
        The store's content; `build` and `open` give it.

    Raises
    ------
    InputError
        If the store holds no index that is whole: a description, training examples and all shards of them.

    Notes
    -----
    With φ the rows and C their curvature, scores are those of removal, (1/n)·φ_qᵀ(C + λ + δI)⁻¹φ_z·w_z. Every shard is
    one matrix product; what is held doesn't depend on the number of examples, but for the result.
    """

    def __init__(self, stored: Stored):
        self._stored = stored
        self._read()

    def _read(self) -> None:
        self.description: Description = self._stored.description()
        self._parts: list[Part] = self._stored.parts()
        missing = self._stored.missing(self.description, self._parts)
        if not self._parts or missing:
            what = f"{len(missing):,} of its shards ({missing[0]} first)" if missing else "its training examples"
            raise InputError(f"store: the index in {self._stored.backend} lacks {what}; run build or append again")
        self.examples = Examples.joined(part.examples for part in self._parts)
        self._derived = Derived(self._stored, self.description, self._parts)

    @property
    def n(self) -> int:
        """Number of training examples."""
        return len(self.examples.ids)

    @property
    def ids(self) -> np.ndarray:
        """Names of the training examples."""
        return self.examples.ids

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """What can be chosen from."""
        return dict(self.examples.columns)

    @property
    def row_bytes(self) -> float:
        """Bytes of an example in the store: rows, scales, weights and coefficients."""
        marks = self._stored.blocks.marks
        return sum(mark.size for mark in [*marks("rows-").values(), *marks("coefficients-").values()]) / self.n

    @property
    def fixed_bytes(self) -> int:
        """Bytes in the store that don't grow with the examples: projector and curvature."""
        marks = self._stored.blocks.marks
        return sum(mark.size for mark in [*marks(PROJECTOR).values(), *marks("curvature-").values()])

    def __repr__(self) -> str:
        said = self.description
        columns = f", columns {', '.join(self.examples.columns)}" if self.examples.columns else ""
        return (
            f"GradientIndex({self.n:,} examples × {said.width:,} numbers in {said.dtype}, {said.settings}, "
            f"curvature {said.curvature['kind']}{columns}; {self._stored.backend})"
        )

    # Queries

    @random_states_kept()
    def project(
        self,
        objective: Objective,
        queries: Any,
        *,
        measurement: Any = None,
        query_ids: Any = None,
        name: str | None = None,
    ) -> ProjectedQueries:
        """Rows of queries, by the model; ``name`` keeps them in the store for `queries`.

        Raises
        ------
        InputError
            If the objective isn't the index's, or the queries aren't in the form of its examples.
        """
        kinds.check(GradientIndex.project, {**locals()})
        if name is not None:
            _refuse_name(name)
        refuse_other(self.description, objective, self._stored)
        fitted = fitted_of(self._stored, self.description, objective)
        kind = as_measurement(measurement)
        found = projected(objective, fitted, self.description.projector, queries, kind, query_ids)
        if name is not None:
            found.commit(self._stored.blocks, name)
        return found

    def queries(self, name: str) -> ProjectedQueries:
        """Queries that were projected and kept under a name."""
        return ProjectedQueries.read(self._stored.blocks, _refuse_name(name))

    def append(self, objective: Objective, *, ids: Any = None, columns: Any = None) -> None:
        """Add training examples: those of an objective of the same model with other data.

        The curvature is then that of all of them. A projector by eigenvectors stays that of the first ones. Where it
        was cut short, the same call goes on.

        Raises
        ------
        InputError
            If the model differs, or examples are there already.
        """
        kinds.check(GradientIndex.append, locals())
        refuse_other(self.description, objective, self._stored)
        append(self._stored, objective, ids, columns)
        self._read()

    # Scores

    def scores(
        self,
        queries: ProjectedQueries,
        *,
        damping: Damping = "auto",
        where: Where | None = None,
        train: Any = None,
    ) -> Attribution:
        """Scores of training examples for each query, ``[queries, train]``.

        Parameters
        ----------
        queries
            What `project` gave, or `queries`.
        damping
            δ, or a rule for it, as elsewhere; no pass is needed for another.
        where
            Values by column, ``{"label": 3, "source": ["a", "b"]}``, or a function of the columns that gives a mask.
        train
            Positions or ids of the training examples to score.
        """
        chosen, absolute, score = self._asked(queries, damping, where, train)
        order = chosen.argsort()
        scores = torch.empty(len(queries), len(chosen), dtype=codec.working(self.description.dtype))
        for places, part in self._walked(chosen[order], score):
            if len(places) == len(chosen) or bool((order[places] == places).all()):
                scores[:, int(places[0]) : int(places[-1]) + 1] = part
            else:
                scores[:, order[places]] = part
        sizes = self.magnitude(absolute)
        ids = self.examples.ids[chosen.numpy()]
        return Attribution(scores, queries.quantity, ids, queries.ids, absolute, self._words(), self._facts(), sizes)

    def top(
        self,
        queries: ProjectedQueries,
        k: int = 10,
        *,
        harmful: bool = False,
        damping: Damping = "auto",
        where: Where | None = None,
        train: Any = None,
    ) -> Ranking:
        """The k most helpful (or harmful) training examples of each query; the other scores are never held together.

        As `Attribution.top` and `bottom`, equal scores by position.
        """
        scalars.flag("harmful", harmful)
        chosen, _, score = self._asked(queries, damping, where, train)
        chosen = chosen.sort().values
        k = min(scalars.whole("k", k), len(chosen))
        largest = (not harmful) == (queries.quantity.helpful_sign >= 0)
        sign = 1.0 if largest else -1.0
        best = torch.empty(len(queries), k, dtype=codec.working(self.description.dtype)).fill_(-torch.inf)
        where_best = torch.full((len(queries), k), -1)
        for places, part in self._walked(chosen, score):
            values = part.mul_(sign)
            # Of equal scores the first stays, so those alone that are above the last of the best change anything.
            above = (values > best[:, -1:]).sum(1)
            rows = above.nonzero()[:, 0]
            if len(rows):
                new = values[rows]
                columns = new.topk(int(above.max()), dim=1).indices.sort(dim=1).values
                both = torch.cat([best[rows], new.gather(1, columns)], 1)
                there = torch.cat([where_best[rows], chosen[places][columns]], 1)
                order = both.argsort(dim=1, descending=True, stable=True)[:, :k]
                best[rows], where_best[rows] = both.gather(1, order), there.gather(1, order)
        kind = "most harmful" if harmful else "most helpful"
        if queries.quantity.helpful_sign == 0:
            kind = "largest" if largest else "smallest"
        title = f"{kind}, {queries.quantity.name} [{queries.quantity.unit}]"
        return Ranking(title, where_best, sign * best, self.examples.ids[where_best.numpy()], queries.ids)

    def rows(self, train: Any = None) -> Float[Tensor, "chosen k"]:
        """Projected gradients of training examples: all of them, or those at some positions or of some ids.

        In float32 (float64 where they are kept so); without the examples' weights.
        """
        chosen = self.examples.chosen(None, train)
        order = chosen.argsort()
        found = torch.empty(len(chosen), self.description.width, dtype=codec.working(self.description.dtype))
        for _, places, inside, held in self._stored.rows(self.description, self._parts, chosen[order]):
            found[order[places]] = codec.decode(held, inside, self.description.widths)
        return found

    def damping(self, damping: Damping = "auto") -> float:
        """The absolute δ that a rule gives for this index."""
        kinds.check(GradientIndex.damping, locals())
        curvature = self._derived.whole
        return resolved(damping, curvature.spectrum, self.n, float(self._derived.numbers["penalty"].mean()))

    def magnitude(self, damping: float) -> Magnitude:
        """Whether scores at this δ have the size that leaving examples out would have, and why not."""
        said, reasons = self.description, []
        if not said.lossless:
            reasons.append(f"rows of {said.width:,} numbers stand for gradients of {said.p:,}")
        if said.dtype in ("int8", "bfloat16"):
            reasons.append(f"rows are kept in {said.dtype}")
        if said.curvature["kind"] != "GGN":
            reasons.append("the Fisher matrix stands for the curvature")
        if isinstance(said.settings, LowRank) and self._derived.whole.values.shape[0] < self.n:
            reasons.append(f"the curvature is that of {self._derived.whole.values.shape[0]:,} directions")
        floor = float(self._derived.numbers["penalty"].min())
        share = damping / (floor + damping) if damping else 0.0
        if share > MOST_DAMPED:
            reasons.append(f"damping δ={damping:.3g} beside l2={floor:.3g} shrinks a score by up to {share:.0%}")
        reasons += [f"θ is not at an optimum, {part.stationarity}" for part in self._parts[:1] if part.stationarity]
        if reasons:
            return Magnitude(False, "; ".join(reasons))
        return Magnitude(True, "gradients are kept whole, and the GGN solved exactly at an optimum")

    # Parts

    def _asked(
        self, queries: ProjectedQueries, damping: Damping, where: Where | None, train: Any
    ) -> tuple[Tensor, float, Score]:
        scalars.instance("queries", queries, ProjectedQueries, "what index.project(objective, queries) gives")
        if queries.projector != self.description.projector:
            raise InputError(
                f"queries: they were projected for another index: {queries.projector[:16]} there, "
                f"{self.description.projector[:16]} here; project them for this one"
            )
        chosen = self.examples.chosen(where, train)
        absolute = self.damping(damping)
        return chosen, absolute, self._score(queries.rows, absolute)

    def _score(self, rows: Float[Tensor, "q k"], damping: float) -> Score:
        """Products of solved queries with some rows of a shard."""
        said, curvature = self.description, self._derived.whole
        kind = codec.working(said.dtype)
        if isinstance(curvature, flat.FlatCurvature):
            solved = (curvature.solved(rows, damping) / self.n).to(kind)

            if said.dtype == "int8" and whole_products.pays(said.widths):
                multiplied = whole_products.product(solved, said.widths)
                return lambda name, chosen, held: multiplied(held, chosen)

            def by_rows(name: str, chosen: slice | Tensor, held: dict[str, Tensor]) -> Tensor:
                return solved @ codec.decode(held, chosen, said.widths).T

            return by_rows
        given = rows.to(kind)
        mine, own = factors.layers(given, said.shapes), curvature.coefficients(given)
        shrunk, scale = curvature.shrunk(own, damping), 1 / (curvature.shift(damping) * self.n)

        def by_factors(name: str, chosen: slice | Tensor, held: dict[str, Tensor]) -> Tensor:
            found = factors.grams(mine, factors.layers(codec.decode(held, chosen, said.widths), said.shapes))
            if said.settings.coefficients:  # type: ignore[union-attr]
                there = self._derived.coefficients(name)
                own_of = codec.decode(there, chosen, ())
            else:
                own_of = curvature.coefficients(codec.decode(held, chosen, said.widths))
            found -= shrunk @ own_of.T
            return found.mul_(scale)

        return by_factors

    def _walked(self, chosen: Tensor, score: Score) -> Iterator[tuple[Tensor, Float[Tensor, "q b"]]]:
        """Places among those chosen, with their scores, piece by piece."""
        said = self.description
        shards = self._stored.rows(said, self._parts, chosen)
        total = sum(len(part.shards(said.shard)) for part in self._parts)
        for name, places, inside, held in track(shards, "scoring", total):
            for piece in codec.pieces(len(places), said.width):
                rows = piece if isinstance(inside, slice) else inside[piece]
                weights = held["weights"][rows]
                yield places[piece], score(name, rows, held) * weights.to(codec.working(said.dtype))

    def _words(self) -> str:
        said = self.description
        whose = "stored gradients" if self._derived.is_own else said.curvature["kind"]
        return f"inverse curvature of {whose}, in rows of {said.width:,} numbers by {said.settings}, {said.dtype}"

    def _facts(self) -> dict[str, float]:
        said = self.description
        return {"n": float(self.n), "p": float(said.p), "numbers": float(said.width)}


def append(stored: Stored, objective: Objective, ids: Any, columns: Any) -> None:
    """Add a part, or go on with the last one."""
    with random_states_kept(), stored.backend.held():
        description, parts = stored.description(), stored.parts()
        curvature = read_curvature(description.curvature)
        fitted = fitted_of(stored, description, objective)
        unfinished = bool(stored.missing(description, parts[-1:]))
        if not isinstance(curvature, EmpiricalFisher):
            unfinished |= stored.blocks.mark(curvature_name(len(parts) - 1)) is None
        number = len(parts) - 1 if unfinished else len(parts)
        add_part(stored, description, fitted, objective, curvature, number, ids, columns)


def _refuse_name(name: Any) -> str:
    if not NAME.fullmatch(scalars.text("name", name)) or len(name) > 60:
        raise InputError(f"name: give up to 60 letters, digits, '.', '_' and '-'; got {scalars.shown(name)}")
    return name
