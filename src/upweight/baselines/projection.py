"""Random projections of per-example gradients: p numbers become k, inner products are kept on average.

Dense matrices are made column by column, each from its own seed, so that they never have to be held whole, and neither
the size of the blocks nor that of the batches changes them. The sparse one has at most four entries a row
whatever k is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.baselines.sketch import Sketch, seeded
from upweight.data import Data
from upweight.gradients import ExampleFunction, Gradients
from upweight.parameters import Layout

Kind = Literal["sparse", "rademacher", "gaussian"]
PROJECTION_ELEMENTS = 2**27
"""Numbers of P held at a time (512 MiB in float32); each block of columns costs a pass over the examples."""


@dataclass(frozen=True)
class Projection:
    """P with entries of mean 0 and variance 1/k, so that E[P Pᵀ] = I.

    Attributes
    ----------
    p, dimension
        Rows and columns; where ``dimension`` ≥ p nothing is projected, P = I.
    seed
        Whole numbers ≥ 0; other seeds, other matrices.
    kind
        ``sparse``: in every row four random signs over 2, one in each quarter of the columns (Kane & Nelson 2014; fewer
        where k can't be divided by four), and zeros, so that a gradient costs 4p additions in place of kp
        multiplications, and far less where its factors are known (see `Sketch`, for the variance too). ``rademacher``
        for independent signs everywhere, or ``gaussian`` entries.
    """

    p: int
    dimension: int
    seed: tuple[int, ...]
    kind: Kind = "sparse"

    def __post_init__(self) -> None:
        scalars.whole("dimension", self.dimension)
        for part in self.seed:
            scalars.seed("seed", part)
        scalars.one_of("projection", self.kind, get_args(Kind))

    @property
    def exact(self) -> bool:
        """Whether gradients are kept as they are."""
        return self.dimension >= self.p

    @property
    def takes_factors(self) -> bool:
        """Whether gradients needn't be formed where their factors are known."""
        return self.kind == "sparse" and not self.exact

    def column(self, number: int) -> Float[np.ndarray, " p"]:
        """One column, in float32 and not yet scaled."""
        generator = seeded(*self.seed, number)
        if self.kind == "gaussian":
            return generator.standard_normal(self.p, dtype=np.float32)
        bits = np.unpackbits(np.frombuffer(generator.bytes(-(-self.p // 8)), np.uint8), count=self.p)
        return 2 * bits.astype(np.float32) - 1

    def sketch(self, layout: Layout, device: torch.device) -> Sketch:
        """The sparse P for parameters of this layout."""
        return Sketch.drawn(layout, self.dimension, self.seed, device)

    def blocks(self, like: Tensor) -> Iterator[Float[Tensor, "columns p"]]:
        """A dense P's columns as rows, block by block, in the precision and place of ``like``."""
        for numbers in torch.arange(self.dimension).split(max(PROJECTION_ELEMENTS // self.p, 1)):
            block = torch.empty(len(numbers), self.p, dtype=like.dtype, device=like.device)
            for row, number in zip(block, numbers.tolist(), strict=True):
                row.copy_(torch.from_numpy(self.column(number)))
            yield block.mul_(self.dimension**-0.5)


def projected(
    function: ExampleFunction, params: Float[Tensor, " p"], data: Data, rows: int, projection: Projection
) -> Float[Tensor, "examples k"]:
    """Pᵀ∇f_i of every example.

    Parameters
    ----------
    rows
        Examples whose gradients are materialised together; never changes the result.
    """

    def passed(project: Callable[[Gradients], Tensor]) -> Tensor:
        return torch.cat([project(function.each(params, batch)) for _, batch in data.batches(None, rows)])

    if projection.exact:
        return passed(Gradients.materialize)
    if projection.kind == "sparse":
        return passed(projection.sketch(function.layout, params.device).of)
    return torch.cat([passed(partial(_products, columns)) for columns in projection.blocks(params)], dim=1)


def _products(columns: Float[Tensor, "columns p"], gradients: Gradients) -> Float[Tensor, "b columns"]:
    return gradients.materialize() @ columns.T
