"""What is made of an index's rows, and kept beside them for as long as they are the same: curvature, coefficients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import EmpiricalFisher
from upweight.files import NotWrittenError
from upweight.index import codec, factors, flat
from upweight.index.building import curvature_name
from upweight.index.projections import LowRank
from upweight.index.stored import PROJECTOR, Description, Part, Stored
from upweight.store.tensors import pack

CURVATURE = "curvature-whole"


@dataclass(frozen=True, eq=False)
class Derived:
    """The curvature of all parts together, and what examples need of it.

    Attributes
    ----------
    stored, said, parts
        The index.
    """

    stored: Stored
    said: Description
    parts: list[Part]

    @property
    def n(self) -> int:
        """Number of examples."""
        return sum(part.n for part in self.parts)

    @property
    def is_own(self) -> bool:
        """Whether the curvature is that of the rows themselves."""
        return self.said.curvature["kind"] == EmpiricalFisher.__name__

    @cached_property
    def numbers(self) -> dict[str, Tensor]:
        """Of every number of a row: scale and λ; and second moments inside and outside of rows."""
        kept = self.stored.tensors(PROJECTOR)
        return {name: kept[name].clone() for name in ("scale", "penalty", "inside", "outside")}

    @cached_property
    def _key(self) -> str:
        """What the curvature was made of: it is made anew where that has changed."""
        marks = self.stored.blocks.marks
        own = {} if not self.is_own else marks("rows-")
        parts = {name: mark for name, mark in marks("curvature-").items() if name != CURVATURE}
        return " ".join([str(self.n), *(mark.sha256[:16] for mark in {**parts, **own}.values())])

    @cached_property
    def whole(self) -> flat.FlatCurvature | factors.FactorCurvature:
        """Read where the store has it for these rows; else made, and kept there if that can be."""
        key, blocks = self._key, self.stored.blocks
        mark = blocks.mark(CURVATURE)
        is_there = mark is not None and mark.facts.get("of") == key and blocks.fault(CURVATURE) is None
        if isinstance(self.said.settings, LowRank):
            return self._factor_curvature(key, is_there)
        numbers = self.numbers
        known = (numbers["scale"], numbers["penalty"], numbers["inside"], numbers["outside"])
        if is_there:
            return flat.restored({name: each.clone() for name, each in self.stored.tensors(CURVATURE).items()}, *known)
        if self.is_own and self.n < self.said.width and _is_even(known[1]):
            rows = torch.cat([self._weighted(*each) for each in self._all()])
            found = flat.by_examples(rows / self.n**0.5, *known)
        else:
            found = flat.decomposed(self._mean_square(), *known)
        return flat.restored(self._kept(found.tensors(), key), *known)

    def _mean_square(self) -> Float[Tensor, "k k"]:
        """The mean Σ φφᵀ of the curvature's rows."""
        width = self.said.width
        if not self.is_own:
            names = [curvature_name(number) for number in range(len(self.parts))]
            return flat.mean_of(
                (part.n, self.stored.tensors(name)["sum"]) for part, name in zip(self.parts, names, strict=True)
            )
        total = torch.zeros(width, width, dtype=torch.float64)
        for rows, weights in self._all():
            flat.add_squares(total, rows, weights)
        return total / self.n

    def _all(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows, piece by piece, with their examples' weights."""
        for _, places, inside, held in self.stored.rows(self.said, self.parts, torch.arange(self.n)):
            assert isinstance(inside, slice)
            for piece in codec.pieces(len(places), self.said.width):
                rows = codec.decode(held, piece, self.said.widths)
                yield rows, held["weights"][piece].to(rows)

    def _weighted(self, rows: Tensor, weights: Tensor) -> Tensor:
        return rows * weights.sqrt()[:, None]

    def _factor_curvature(self, key: str, is_there: bool) -> factors.FactorCurvature:
        settings, shapes, numbers = self.said.settings, self.said.shapes, self.numbers
        penalty, known = numbers["penalty"], (numbers["penalty"], numbers["inside"], numbers["outside"])
        assert isinstance(settings, LowRank)
        rows, weights = self._curvature_rows(settings.rows)
        if is_there:
            kept = {name: each.clone() for name, each in self.stored.tensors(CURVATURE).items()}
            return factors.restored(kept, rows, weights, shapes, *known)
        found = factors.decomposed(rows, weights, shapes, settings.curvature_rank, penalty)
        return factors.restored(self._kept(found.tensors(), key), rows, weights, shapes, *known)

    def _curvature_rows(self, most: int) -> tuple[Tensor, Tensor]:
        """Rows l of the curvature Σ l lᵀ over all parts, as factors, with their weights."""
        if not self.is_own:
            parts = []
            for number, part in enumerate(self.parts):
                held = self.stored.tensors(curvature_name(number))
                rows, weights = (
                    held[name].to(codec.working(self.said.dtype), copy=True) for name in ("rows", "weights")
                )
                parts.append((rows, weights * (part.n / self.n) ** 0.5))
            return torch.cat([rows for rows, _ in parts]), torch.cat([weights for _, weights in parts])
        chosen = torch.linspace(0, self.n - 1, min(most, self.n)).round().long().unique()
        found: list[Tensor] = []
        shares: list[Tensor] = []
        for _, _, inside, held in self.stored.rows(self.said, self.parts, chosen):
            found.append(codec.decode(held, inside, self.said.widths).clone())
            shares.append((held["weights"][inside] / len(chosen)).sqrt().to(found[-1]))
        return torch.cat(found), torch.cat(shares)

    def coefficients(self, name: str) -> dict[str, Tensor]:
        """Vᵀg of a shard's examples: kept beside its rows, never in int8, whose error 1/(λ + δ) would multiply."""
        block, key = name.replace("rows", "coefficients"), self._key
        mark = self.stored.blocks.mark(block)
        if mark is not None and mark.facts.get("of") == key:
            return self.stored.tensors(block)
        curvature, held = self.whole, self.stored.tensors(name)
        assert isinstance(curvature, factors.FactorCurvature)
        said = self.said
        step = codec.pieces(len(held["weights"]), said.width)
        found = torch.cat([curvature.coefficients(codec.decode(held, piece, said.widths)) for piece in step])
        content = codec.encode(found, (), "bfloat16" if said.dtype == "int8" else said.dtype)
        with suppress(NotWrittenError):
            self.stored.blocks.commit(block, content, facts={"of": key})
        return codec.views(bytearray(content), block)

    def _kept(self, held: dict[str, Tensor], key: str) -> dict[str, Tensor]:
        """What was made as a store has it, put there where that can be."""
        small = {} if self.said.dtype == "float64" else {"vectors": torch.float32, "combine": torch.float32}
        tensors = {each: value.to(small.get(each, value.dtype)) for each, value in held.items()}
        with suppress(NotWrittenError):
            self.stored.blocks.commit(CURVATURE, pack(tensors), facts={"of": key})
        return tensors


def _is_even(penalty: Tensor) -> bool:
    return float(penalty.min()) == float(penalty.max())
