"""Features of images by EfficientNet-Lite0, computed once: cached block by block beside the data sets.

A block is a file named by the images' own bytes and the weights' checksum, so that other images, another size or other
weights are other files. An interrupted run resumes; a damaged block is named and computed again.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from upweight.datasets import cache, efficientnet
from upweight.optional import imported
from upweight.store.kept_work import Folder

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import nn

BLOCK = 64
"""Images per file."""
LEVELS = 255


def stored_at(images: npt.NDArray[np.uint8], size: int) -> UInt8[np.ndarray, "n 3 size size"]:
    """Images ``[n, height, width, 3]`` enlarged to ``size`` by bicubic interpolation and stored as bytes again."""
    with imported("data", "datasets.features"):
        from PIL import Image

    resized = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in images]
    return np.ascontiguousarray(np.stack(resized).transpose(0, 3, 1, 2))


def of_levels(network: nn.Module) -> nn.Module:
    """The network from levels 0 … 255 ``[b, 3, height, width]`` to its 1,280 features; differentiable in the levels."""
    import torch
    from torch import Tensor
    from torch import nn as layers

    class Features(layers.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, levels: Tensor) -> Tensor:
            # Channels last: depthwise convolutions and their backward passes take some two thirds of the time.
            last = levels.contiguous(memory_format=torch.channels_last)
            return efficientnet.features(self.network, last / LEVELS)

    return Features().eval()


def cached_features(
    images: UInt8[np.ndarray, "n 3 height width"], *, progress: bool = True
) -> Float[np.ndarray, "n 1280"]:
    """EfficientNet-Lite0 features of stored images, float32; those that are in the cache are read.

    Raises
    ------
    DataUnavailable
        If weights or source of the network cannot be had.
    """
    from upweight.datasets.load import load
    from upweight.progress import track

    weights = cache.sha256(load(efficientnet.NAME, progress=progress).weights)
    folder = Folder(cache.root().parent / "features" / f"{efficientnet.NAME}-{weights[:12]}", ".block")
    blocks = [images[first : first + BLOCK] for first in range(0, len(images), BLOCK)]
    keys = [_Block.of(block) for block in blocks]
    found = {number: _array(content) for number, key in enumerate(keys) if (content := folder.read(key)) is not None}
    missing = [number for number in range(len(blocks)) if number not in found]
    if missing:
        network = of_levels(efficientnet.folded(efficientnet.model(progress=progress)))
        for number in track(missing, "features of images"):
            found[number] = _features(network, blocks[number])
            folder.commit(keys[number], _bytes(found[number]))
    return np.concatenate([found[number] for number in range(len(blocks))])


@dataclass(frozen=True)
class _Block:
    """A block of images, named by its bytes."""

    key: str

    @classmethod
    def of(cls, images: npt.NDArray[np.uint8]) -> _Block:
        content = repr(images.shape).encode() + np.ascontiguousarray(images).tobytes()
        return cls(hashlib.sha256(content).hexdigest()[:32])


def _bytes(array: npt.NDArray[np.float32]) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def _array(content: bytes) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = np.load(io.BytesIO(content), allow_pickle=False)
    return found


def _features(network: nn.Module, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    import torch

    with torch.no_grad():
        found: npt.NDArray[np.float32] = network(torch.from_numpy(images).float()).numpy()
    return found
