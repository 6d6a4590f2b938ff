"""Random projections of per-example gradients: p numbers become k, inner products are kept on average.

Dense matrices are made column by column, each from its own seed, so that they never have to be held whole, and neither
the size of the blocks nor that of the batches changes them. The sparse one has `NONZERO` entries a row whatever k is.
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
from upweight.data import Data
from upweight.gradients import ExampleFunction

Kind = Literal["sparse", "rademacher", "gaussian"]
NONZERO = 4
"""Entries of a row of the sparse matrix that aren't 0, each in its own part of the columns."""
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
        ``sparse``: in every row `NONZERO` random signs over 2, one in each part of the columns (Kane & Nelson 2014),
        and zeros, so that a gradient costs 4p multiplications in place of kp; an inner product's variance is that of
        the dense ones, (‖x‖²‖y‖² + ⟨x, y⟩²)/k at most. ``rademacher`` for independent signs everywhere, or
        ``gaussian`` entries.
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

    def column(self, number: int) -> Float[np.ndarray, " p"]:
        """One column, in float32 and not yet scaled."""
        generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([*self.seed, number])))
        if self.kind == "gaussian":
            return generator.standard_normal(self.p, dtype=np.float32)
        bits = np.unpackbits(np.frombuffer(generator.bytes(-(-self.p // 8)), np.uint8), count=self.p)
        return 2 * bits.astype(np.float32) - 1

    def sparse(self, like: Tensor) -> Tensor:
        """The sparse Pᵀ ``[k, p]`` in compressed rows, in the precision and place of ``like``."""
        import scipy.sparse

        generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([*self.seed])))
        parts = np.array_split(np.arange(self.dimension), min(NONZERO, self.dimension))
        places = [part[0] + generator.integers(0, len(part), self.p) for part in parts]
        signs = 2.0 * generator.integers(0, 2, (len(parts), self.p)) - 1
        values = (signs / len(parts) ** 0.5).ravel()
        columns = np.tile(np.arange(self.p), len(parts))
        found = scipy.sparse.csr_array((values, (np.concatenate(places), columns)), shape=(self.dimension, self.p))
        starts, order = (torch.from_numpy(part.astype(np.int64)) for part in (found.indptr, found.indices))
        entries = torch.from_numpy(found.data).to(like)
        return torch.sparse_csr_tensor(starts.to(like.device), order.to(like.device), entries, size=found.shape)

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

    def passed(project: Callable[[Tensor], Tensor]) -> Tensor:
        gradients = (function.each(params, batch).materialize() for _, batch in data.batches(None, rows))
        return torch.cat([project(part) for part in gradients])

    if projection.exact:
        return passed(lambda part: part)
    if projection.kind == "sparse":
        matrix = projection.sparse(params)
        return passed(lambda part: (matrix @ part.T.contiguous()).T)
    return torch.cat([passed(partial(_products, columns)) for columns in projection.blocks(params)], dim=1)


def _products(columns: Float[Tensor, "columns p"], part: Float[Tensor, "b p"]) -> Float[Tensor, "b columns"]:
    return part @ columns.T
