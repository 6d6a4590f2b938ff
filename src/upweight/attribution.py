"""The result: scores with their quantity, sign, unit, ids, damping and solver report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import notebooks, scalars
from upweight.arrays import dense
from upweight.errors import InputError
from upweight.optional import imported
from upweight.places import place
from upweight.solve_report import SolveReport

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 10


@dataclass(frozen=True)
class Quantity:
    """What a number is.

    Attributes
    ----------
    name
        The field's word: removal, upweight, self-influence …
    words
        The number in a sentence.
    unit
        Its unit.
    positive
        What a positive number says.
    helpful_sign
        +1 if helpful examples have large scores, −1 if small ones, 0 if the number doesn't say.
    """

    name: str
    words: str
    unit: str
    positive: str
    helpful_sign: int = 1

    def __post_init__(self) -> None:
        for word in ("name", "words", "unit", "positive"):
            scalars.text(word, getattr(self, word))
        scalars.whole("helpful_sign", self.helpful_sign, -1, 1)

    def __str__(self) -> str:
        return f"{self.name}: {self.words} [{self.unit}]; positive: {self.positive}"


@dataclass(frozen=True)
class Magnitude:
    """Whether the sizes of scores can be believed.

    Attributes
    ----------
    trusted
        Whether a score is the change it is called, to first order; otherwise scores are to be compared with each
        other alone.
    reason
        Why, with the figure that decides it.
    """

    trusted: bool
    reason: str

    def __str__(self) -> str:
        return f"{'trusted' if self.trusted else 'ranks only'}: {self.reason}"


@dataclass(frozen=True)
class Ranking:
    """The k highest or lowest scores of each query, best first.

    Attributes
    ----------
    positions, scores
        ``[queries, k]``.
    ids
        Names of the training examples, ``[queries, k]``.
    count
        Number of examples that were scored.
    """

    title: str
    positions: Int[Tensor, "queries k"]
    scores: Float[Tensor, "queries k"]
    ids: np.ndarray
    query_ids: np.ndarray
    count: int | None = None

    def to_pandas(self, columns: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """One row per query and rank.

        Parameters
        ----------
        columns
            What else is known of the scored examples, by name, one value for each: ``objective.columns``, texts say.
            Shown beside the scores.

        Raises
        ------
        InputError
            If one has not as many values as examples were scored, or the name of another column.
        """
        with imported("tables", "Ranking.to_pandas"):
            import pandas as pd
        queries, k = self.positions.shape
        found = {
            "query": np.repeat(self.query_ids, k),
            "rank": np.tile(np.arange(1, k + 1), queries),
            "id": self.ids.reshape(-1),
            "position": self.positions.reshape(-1).numpy(),
            "score": self.scores.reshape(-1).numpy(),
        }
        return pd.DataFrame(found | self._shown(columns, set(found)))

    def _shown(self, columns: Any, taken: set[str]) -> dict[str, list[Any]]:
        if columns is None:
            return {}
        if not isinstance(columns, Mapping):
            raise InputError(f"columns: give values by name, {{'text': […]}}; got {scalars.shown(columns)}")
        places = self.positions.reshape(-1).tolist()
        shown = {}
        for name, values in columns.items():
            if name in taken:
                raise InputError(f"columns: {name!r} is a column of every ranking; give it another name")
            if isinstance(values, str) or not hasattr(values, "__getitem__") or not hasattr(values, "__len__"):
                raise InputError(f"columns: {name!r} needs a list of values; got {scalars.shown(values)}")
            if self.count is not None and len(values) != self.count:
                raise InputError(
                    f"columns: {name!r} has {len(values)} values, and {self.count} examples were scored; give one for "
                    "each of these, in their order (of a part of the training data, [values[i] for i in part])"
                )
            shown[name] = [values[place] for place in places]
        return shown

    def __repr__(self) -> str:
        lines = [self.title]
        for row, query in enumerate(self.query_ids[:SHOWN]):
            pairs = zip(self.ids[row], self.scores[row].tolist(), strict=True)
            lines.append(f"  query {query}: " + ", ".join(f"{name} ({score:+.3g})" for name, score in pairs))
        if len(self.query_ids) > SHOWN:
            lines.append(f"  … and {len(self.query_ids) - SHOWN} more queries; .to_pandas() holds all")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Attribution:
    """Scores of training examples (columns) for queries (rows).

    Attributes
    ----------
    scores
        ``[queries, train]``, or ``[train]`` where there is no query (self-influence).
    quantity
        What a score is, its unit and sign.
    ids, query_ids
        Names of columns and rows.
    damping
        The absolute δ of (H+δI)⁻¹; None where no inverse was taken.
    report
        What the solver did: its residual, iterations and the rest as figures, a sentence as text. None where there was
        none. (Of results that earlier versions saved, the sentence alone.)
    facts
        Figures that belong to the result (n, p, ‖∇R‖ …).
    magnitude
        Whether the sizes of the scores can be believed; None where nothing is known of it.
    """

    scores: Float[Tensor, "queries train"] | Float[Tensor, " train"]
    quantity: Quantity
    ids: np.ndarray
    query_ids: np.ndarray
    damping: float | None = None
    report: SolveReport | str | None = None
    facts: dict[str, float] = field(default_factory=dict)
    magnitude: Magnitude | None = None

    def __post_init__(self) -> None:
        scalars.instance("scores", self.scores, Tensor, "a tensor [queries, train] or [train]")
        dense(self.scores, "scores")
        scalars.instance("quantity", self.quantity, Quantity, "what a score is, as upweight.Quantity(name, words, …)")
        if self.damping is not None:
            scalars.number("damping", self.damping, least=0)
        if not isinstance(self.report, SolveReport | str | None):
            raise InputError(f"report: give what a solution says of itself, solution.report; got {self.report!r}")
        scalars.instance("facts", self.facts, dict, "figures by name, {}")
        for name in ("ids", "query_ids"):
            found = np.asarray(getattr(self, name))
            if found.ndim != 1:
                raise InputError(f"{name}: give a list of names; got {scalars.shown(getattr(self, name))}")
            object.__setattr__(self, name, found)
        expected = (len(self.query_ids), len(self.ids)) if self.scores.dim() == 2 else (len(self.ids),)
        if tuple(self.scores.shape) != expected:
            raise InputError(f"scores: shape {tuple(self.scores.shape)} does not match ids {expected}")

    @property
    def matrix(self) -> Float[Tensor, "queries train"]:
        """The scores with a row for every query (one row for self-influence)."""
        return torch.atleast_2d(self.scores)

    def top(self, k: int = 5) -> Ranking:
        """The k most helpful training examples of each query (largest scores where the sign says nothing)."""
        return self._ranking(k, helpful=True)

    def bottom(self, k: int = 5) -> Ranking:
        """The k most harmful training examples of each query (smallest scores where the sign says nothing)."""
        return self._ranking(k, helpful=False)

    def _ranking(self, k: int, *, helpful: bool) -> Ranking:
        k = min(scalars.whole("k", k), len(self.ids))
        largest = helpful == (self.quantity.helpful_sign >= 0)
        # Stable, so that equal scores rank by position on every machine.
        order = torch.argsort(self.matrix, dim=1, descending=largest, stable=True)[:, :k].cpu()
        kind = "most helpful" if helpful else "most harmful"
        if self.quantity.helpful_sign == 0:
            kind = "largest" if largest else "smallest"
        names = self.query_ids if self.scores.dim() == 2 else np.array(["-"])
        scores = self.matrix.cpu().gather(1, order)
        return Ranking(
            f"{kind}, {self.quantity.name} [{self.quantity.unit}]",
            order,
            scores,
            self.ids[order.numpy()],
            names,
            len(self.ids),
        )

    def relative_to(self, own: Attribution) -> Attribution:
        """Scores over the root of each example's self-influence: RelatIF (Barshan et al. 2020, section 4.2).

        What moves all predictions, its own above all, no longer comes first everywhere: in the metric of the inverse
        curvature a score becomes a cosine, up to a factor for each query. For tracing facts and finding what is
        characteristic of a query; sizes no longer predict a change.

        Parameters
        ----------
        own
            The ``self_influence()`` of the same training examples by the same method.

        Raises
        ------
        InputError
            If it is of other examples, or isn't ``[train]``.
        """
        scalars.instance("own", own, Attribution, "what influence.self_influence() gives")
        n = len(self.ids)
        if own.scores.dim() != 1 or not np.array_equal(own.ids, self.ids):
            raise InputError(
                f"own: got scores {tuple(own.scores.shape)}; give the self-influence of the same {n} examples"
            )
        sizes = own.scores.to(self.scores.device).abs().double()
        relative = torch.where(sizes > 0, self.scores.double() / sizes.sqrt(), 0.0)
        quantity = Quantity(
            f"{self.quantity.name}, relative",
            f"{self.quantity.words}, over the root of the example's {own.quantity.name}",
            f"{self.quantity.unit} over the root of {own.quantity.unit}",
            self.quantity.positive,
            self.quantity.helpful_sign,
        )
        sizes_of = Magnitude(False, "scores are over the root of each example's own, and comparable within a query")
        return replace(self, scores=relative.to(self.scores.dtype), quantity=quantity, magnitude=sizes_of)

    def to_pandas(self) -> pd.DataFrame:
        """A frame with queries as rows and training ids as columns; a series in a frame for ``[train]``.

        Its ``attrs`` say what a score is (``quantity``, ``unit``) and whether its size can be believed (``magnitude``).
        """
        with imported("tables", "Attribution.to_pandas"):
            import pandas as pd
        if self.scores.dim() == 1:
            frame = pd.DataFrame({self.quantity.name: self.scores.cpu().numpy()}, index=pd.Index(self.ids, name="id"))
        else:
            frame = pd.DataFrame(
                self.scores.cpu().numpy(),
                index=pd.Index(self.query_ids, name="query"),
                columns=pd.Index(self.ids, name="id"),
            )
        frame.attrs |= {"quantity": self.quantity.name, "unit": self.quantity.unit}
        if self.magnitude is not None:
            frame.attrs["magnitude"] = str(self.magnitude)
        return frame

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to a folder, whole or not at all; an earlier result stays until this one is in place.

        Raises
        ------
        InputError
            If the path holds something else, or ids are of a kind that wouldn't come back as it is.
        upweight.files.NotWrittenError
            If it can't be written: a full disk, say. An earlier result is as it was.
        """
        from upweight.store import attributions  # here, since zarr takes a third of a second to import

        target = place("path", path)
        description = {
            "quantity": asdict(self.quantity),
            "ids": self.ids,
            "query_ids": self.query_ids,
            "damping": _number(self.damping),
            "report": "" if self.report is None else str(self.report),
            "solve": self.report.to_dict() if isinstance(self.report, SolveReport) else None,
            "facts": {name: _number(value) for name, value in self.facts.items()},
            "magnitude": None if self.magnitude is None else asdict(self.magnitude),
        }
        scores = self.scores.detach().cpu()
        # Half precisions are exact in single, and NumPy doesn't know them all.
        attributions.save(target, (scores.float() if scores.itemsize < 4 else scores).numpy(), description)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Attribution:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If there is none, or a file of it is missing, cut or altered; the message names it.
        """
        from upweight.store import attributions  # as above

        scores, said = attributions.load(place("path", path))
        return cls(
            torch.from_numpy(scores),
            Quantity(**said["quantity"]),
            said["ids"],
            said["query_ids"],
            None if said["damping"] is None else float(said["damping"]),
            (said["report"] or None) if said.get("solve") is None else SolveReport.from_dict(said["solve"]),
            dict(said["facts"]),
            None if said.get("magnitude") is None else Magnitude(**said["magnitude"]),
        )

    def __repr__(self) -> str:
        shape = " × ".join(f"{size:,}" for size in self.scores.shape)
        axes = "queries × train" if self.scores.dim() == 2 else "train"
        lines = [f"Attribution [{shape}] ({axes})", f"  {self.quantity.name}: {self.quantity.words}"]
        lines.append(f"  unit: {self.quantity.unit}; positive: {self.quantity.positive}")
        if self.magnitude is not None:
            lines.append(f"  sizes: {self.magnitude}")
        if self.report:
            lines.append(f"  solver: {self.report}")
        if self.facts:
            lines.append("  " + ", ".join(f"{name} {value:.6g}" for name, value in self.facts.items()))
        shown = self._rows(slice(0, 3))
        for ranking in (shown.top(3), shown.bottom(3)):
            lines += [f"  {line}" for line in repr(ranking).splitlines()]
        if len(self.matrix) > 3:
            lines.append(f"  … and {len(self.matrix) - 3} more queries")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """As a notebook shows it: what a score is, and of the first queries the most helpful and most harmful."""
        sizes = " × ".join(f"{size:,}" for size in self.scores.shape)
        said = [
            f"{self.quantity.words}; unit: {self.quantity.unit}; positive: {self.quantity.positive}",
            "" if self.magnitude is None else f"Sizes: {self.magnitude}.",
            f"Solver: {self.report}" if self.report else "",
        ]
        few, is_self = self._rows(slice(0, 3)), self.scores.dim() == 1
        rows: list[tuple[Any, ...]] = []
        helpful: list[bool | None] = []
        for ranking, side in ((few.top(3), True), (few.bottom(3), False)):
            for query, names, scores in zip(
                ranking.query_ids.tolist(), ranking.ids.tolist(), ranking.scores.tolist(), strict=True
            ):
                pairs = zip(names, scores, strict=True)
                rows += [pair if is_self else (query, *pair) for pair in pairs]
                helpful += [side if self.quantity.helpful_sign else None] * len(names)
        columns = ["training example", f"{self.quantity.name} [{self.quantity.unit}]"]
        if not is_self:
            columns.insert(0, "query")
        more = [f"… and {len(self.matrix) - 3:,} more queries"] if len(self.matrix) > 3 else []
        body = notebooks.table(columns, rows, helpful)
        return notebooks.page(f"Attribution [{sizes}]", [*said, *more], body)

    def _rows(self, rows: slice) -> Attribution:
        if self.scores.dim() == 1:
            return self
        return Attribution(self.scores[rows], self.quantity, self.ids, self.query_ids[rows])


def _number(value: Any) -> Any:
    """A number of NumPy or torch as Python's own; anything else as it is."""
    return value.item() if isinstance(value, np.generic | Tensor) and value.ndim == 0 else value
