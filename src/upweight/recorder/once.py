"""Tensors that don't change from checkpoint to checkpoint: written once, and told from then on by their checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Once:
    """Where each of them is.

    Attributes
    ----------
    kept
        By name, the block that holds it and its checksum.
    """

    kept: dict[str, tuple[str, str]] = field(default_factory=dict)
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def new(self, tensors: Mapping[str, Tensor], block: str) -> dict[str, Tensor]:
        """Those that no block holds as they are; ``block`` will.

        A parameter in the same memory that nothing was written to (its version) isn't looked at again. (Kernels write
        to buffers, running means say, without a new version.)
        """
        found = {}
        for name, value in tensors.items():
            seen = (value.data_ptr(), value._version)
            if isinstance(value, nn.Parameter) and name in self.kept and self._seen.get(name) == seen:
                continue
            self._seen[name] = seen
            digest = checksum(value)
            if name not in self.kept or self.kept[name][1] != digest:
                self.kept[name] = (block, digest)
                found[name] = value
        return found


def checksum(value: Tensor) -> str:
    """Of a tensor's kind, shape and numbers."""
    held = value.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{held.dtype} {tuple(held.shape)}".encode())
    digest.update(held.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def same_tensors(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of tensors that are another one under a second name (tied parameters), with that one's."""
    first: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    found = {}
    for name, value in tensors.items():
        if not value.numel():
            continue
        where = (value.data_ptr(), tuple(value.shape), tuple(value.stride()))
        if where in first:
            found[name] = first[where]
        else:
            first[where] = name
    return found
