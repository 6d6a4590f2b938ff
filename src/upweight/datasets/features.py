"""Features of images by EfficientNet-Lite0, computed once: cached block by block beside the data sets.

A block is a file named by the images' own bytes and the weights' checksum, so that other images, another size or other
weights are other files. It is written beside its place and renamed into it: an interrupted run resumes.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from upweight import files
from upweight.datasets import cache, efficientnet

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import nn

BLOCK = 64
"""Images per file."""
LEVELS = 255


def stored_at(images: npt.NDArray[np.uint8], size: int) -> UInt8[np.ndarray, "n 3 size size"]:
    """Images ``[n, height, width, 3]`` enlarged to ``size`` by bicubic interpolation and stored as bytes again."""
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
    folder = cache.root().parent / "features" / f"{efficientnet.NAME}-{weights[:12]}"
    blocks = [images[first : first + BLOCK] for first in range(0, len(images), BLOCK)]
    places = [folder / f"{_key(block)}.npy" for block in blocks]
    missing = [number for number, place in enumerate(places) if not place.exists()]
    if missing:
        network = of_levels(efficientnet.folded(efficientnet.model(progress=progress)))
        for number in track(missing, "features of images"):
            files.write(places[number], partial(np.save, arr=_features(network, blocks[number]), allow_pickle=False))
    return np.concatenate([np.load(place, allow_pickle=False) for place in places])


def _features(network: nn.Module, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    import torch

    with torch.no_grad():
        found: npt.NDArray[np.float32] = network(torch.from_numpy(images).float()).numpy()
    return found


def _key(images: npt.NDArray[np.uint8]) -> str:
    return hashlib.sha256(repr(images.shape).encode() + np.ascontiguousarray(images).tobytes()).hexdigest()[:32]
