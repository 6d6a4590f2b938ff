"""Views of one photo: what thirty photos of one and the same animal have in common, and more or less of it.

The paper's thirty test images show one dog in a variety of poses and backgrounds; CIFAR-10 has one photo of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance

if TYPE_CHECKING:
    from jaxtyping import UInt8

KEPT = {"slight": (0.8, 1.0), "middling": (0.58, 0.8), "strong": (0.3, 0.58)}
"""Range of the side of the part that a view shows, over the photo's."""
TURNED = {"slight": 10, "middling": 20, "strong": 40}
"""Degrees up to which a view is turned."""
LIGHT = {"slight": 0.15, "middling": 0.3, "strong": 0.5}
"""How far brightness and contrast may be from 1."""


def views(
    photo: UInt8[np.ndarray, "3 size size"], count: int, strength: str, seed: int
) -> UInt8[np.ndarray, "count 3 size size"]:
    """``count`` views ``[count, 3, size, size]``: mirrored or not, turned, a part of it enlarged, in another light."""
    generator = np.random.default_rng(seed)
    whole = Image.fromarray(np.ascontiguousarray(photo.transpose(1, 2, 0)))
    return np.stack([np.asarray(_view(whole, strength, generator)).transpose(2, 0, 1) for _ in range(count)])


def _view(whole: Image.Image, strength: str, generator: np.random.Generator) -> Image.Image:
    size = whole.width
    if generator.random() < 0.5:
        whole = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    whole = whole.rotate(generator.uniform(-1, 1) * TURNED[strength], Image.Resampling.BICUBIC)
    side = round(size * generator.uniform(*KEPT[strength]))
    left, top = (round(each) for each in generator.uniform(0, size - side, 2))
    part = whole.crop((left, top, left + side, top + side))
    for of in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        part = of(part).enhance(1 + generator.uniform(-1, 1) * LIGHT[strength])
    return part.resize((size, size), Image.Resampling.BICUBIC)
