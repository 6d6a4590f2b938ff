"""How much a pass may hold at a time, and what may be kept between passes; in bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from upweight import scalars

USUAL = 2**28
"""Bytes that a pass holds on a CPU, where larger ones are no faster."""
SHARE = {"cuda": 1 / 4, "cpu": 1 / 16}
"""Of what is free on a GPU, and of all that a machine has: what is free there changes, and batches with it."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bounds on memory. None of them changes a result by more than rounding.

    Attributes
    ----------
    memory
        Bytes that a pass may hold beside model and data: activations, factors, and the largest temporary. None: a
        quarter of what is free on a GPU; on a CPU 256 MiB, or a sixteenth of the machine's memory if that is less.
    queries
        Bytes of queries' gradients that share a pass over the training data.
    kept
        Bytes of each thing that is kept between passes: features, slopes and curvatures of a linear model, eigenvectors
        of the outputs' Hessians.
    """

    memory: int | None = None
    queries: int = 2**29
    kept: int = 2**30

    def __post_init__(self) -> None:
        scalars.whole("kept, in bytes", self.kept, 0)
        scalars.whole("queries, in bytes", self.queries)
        if self.memory is not None:
            scalars.whole("memory, in bytes", self.memory)

    def bytes_on(self, device: torch.device) -> int:
        """Bytes that a pass may hold there."""
        if self.memory is not None:
            return self.memory
        if device.type == "cuda":
            return int(SHARE["cuda"] * torch.cuda.mem_get_info(device)[0])
        return min(USUAL, int(SHARE["cpu"] * installed()))


def installed() -> int:
    """Bytes of the machine's memory; enough for `USUAL` where the system doesn't tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return int(USUAL / SHARE["cpu"])
