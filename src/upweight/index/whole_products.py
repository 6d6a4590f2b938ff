"""Products of queries with rows in int8 without decoding them: whole numbers times whole numbers, summed in int32.

A query's part is s·(h + l/254), with whole numbers h and l from −127 to 127 and s its largest entry over 127: fifteen
bits, an error below s/508 of each entry. Two products in int8 cost a quarter of one in float32 on CPUs that have them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.index.codec import LARGEST

NARROWEST = 64
"""Numbers that a part of a row has on the mean at least: narrower ones are decoded in less time."""
STEPS = 2 * LARGEST
"""Of the fine number in one step of the coarse one."""

Product = Callable[[Mapping[str, Tensor], slice | Tensor], Float[Tensor, "q b"]]


def pays(widths: Sequence[int]) -> bool:
    """Whether rows of such parts are multiplied as they are."""
    return hasattr(torch, "_int_mm") and sum(widths) >= NARROWEST * len(widths)


def product(queries: Float[Tensor, "q k"], widths: Sequence[int]) -> Product:
    """A function of a shard's tensors and some of its rows."""
    count = len(queries)
    parts = []
    for part in queries.double().split(list(widths), dim=1):
        size = part.abs().amax(1, keepdim=True) / LARGEST if part.shape[1] else part.new_zeros(count, 1)
        whole = part / torch.where(size > 0, size, 1)
        coarse = whole.round()
        fine = ((whole - coarse) * STEPS).round()
        parts.append((torch.cat([coarse, fine]).to(torch.int8), size.float()))

    def products(held: Mapping[str, Tensor], chosen: slice | Tensor) -> Tensor:
        values, scales = held["values"][chosen], held["scales"][chosen]
        total = torch.zeros(count, len(values))
        for number, ((both, size), part) in enumerate(zip(parts, values.split(list(widths), dim=1), strict=True)):
            if not part.shape[1]:
                continue
            coarse, fine = torch._int_mm(both, part.T).float().split(count)
            total.addcmul_(coarse.add_(fine, alpha=1 / STEPS).mul_(size), scales[:, number])
        return total

    return products
