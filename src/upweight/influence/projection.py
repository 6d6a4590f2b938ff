"""Random projections of per-example gradients: p numbers become k, inner products are kept on average.

The p × k matrix P is made column by column, each from its own seed, so that it never has to be held whole, and
neither the size of the blocks nor that of the batches changes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.data import Data
from upweight.gradients import ExampleFunction

Kind = Literal["gaussian", "rademacher"]
PROJECTION_ELEMENTS = 2**27
"""Numbers of P held at a time (512 MiB in float32); each block of columns costs a pass over the examples."""


@dataclass(frozen=True)
class Projection:
    """P with independent entries of mean 0 and variance 1/k, so that E[P Pᵀ] = I.

    Attributes
    ----------
    p, dimension
        Rows and columns; where ``dimension`` ≥ p nothing is projected, P = I.
    seed
        Whole numbers ≥ 0; other seeds, other matrices.
    kind
        ``rademacher`` for random signs, or ``gaussian``.
    """

    p: int
    dimension: int
    seed: tuple[int, ...]
    kind: Kind = "rademacher"

    def __post_init__(self) -> None:
        scalars.whole("dimension", self.dimension)
        for part in self.seed:
            scalars.seed("seed", part)
        scalars.one_of("projection", self.kind, get_args(Kind))

    @property
    def exact(self) -> bool:
        """Whether gradients are kept as they are."""
        return self.dimension >= self.p

    def column(self, number: int) -> Float[np.ndarray, " p"]:
        """One column, in float32 and not yet scaled."""
        generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([*self.seed, number])))
        if self.kind == "gaussian":
            return generator.standard_normal(self.p, dtype=np.float32)
        bits = np.unpackbits(np.frombuffer(generator.bytes(-(-self.p // 8)), np.uint8), count=self.p)
        return 2 * bits.astype(np.float32) - 1

    def blocks(self, like: Tensor) -> Iterator[Float[Tensor, "columns p"]]:
        """P's columns as rows, block by block, in the precision and place of ``like``."""
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

    def passed(columns: Tensor | None) -> Tensor:
        gradients = (function.materialize(params, batch) for _, batch in data.batches(None, rows))
        return torch.cat([part if columns is None else part @ columns.T for part in gradients])

    if projection.exact:
        return passed(None)
    return torch.cat([passed(columns) for columns in projection.blocks(params)], dim=1)
