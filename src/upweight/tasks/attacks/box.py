"""The box within which a stored 8-bit image does not change: every level x stays nearer to x than to any other.

A level is one step of the 0 … 255 of a byte. With |Δ| < .5 rounding gives the stored bytes back. At exactly .5, and at
.5 to rounding in float32, it need not: hence a radius strictly below .5, and bytes compared after every attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from upweight import scalars
from upweight.errors import InputError

HALF = 0.5
FINEST = 2**-10
"""Smallest radius: below it float32 can't tell a moved level of 255 from the level itself well enough."""
MARGIN = 2**-14
"""Room below .5 for the rounding of x + Δ in float32, whose spacing at 255 is 2⁻¹⁶."""
LEVELS = 255


@dataclass(frozen=True)
class Box:
    """|Δ| ≤ radius in levels, and x + Δ within 0 … 255.

    Parameters
    ----------
    radius
        Largest change of a level of 0 … 255; below .5, so that rounding gives the stored bytes back.

    Raises
    ------
    InputError
        If it is so small that nothing could change, or so near to .5 that a byte might.
    """

    radius: float = 0.499

    def __post_init__(self) -> None:
        given = scalars.plain(self.radius)
        if not (isinstance(given, int | float) and FINEST <= given <= HALF - MARGIN):
            raise InputError(
                f"radius: got {scalars.shown(self.radius)}, in levels of 0 … 255; at least {FINEST:.4f}, or "
                f"the box permits no change, and at most {HALF - MARGIN:.5f}, or rounding may change a byte"
            )

    def project(self, stored: UInt8[Tensor, "*shape"], change: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The change within the box that is nearest to ``change``."""
        levels = stored.to(change.dtype)
        return change.clamp(-self.radius, self.radius).clamp(-levels, LEVELS - levels)


def same_bytes(stored: UInt8[Tensor, "*shape"], change: Float[Tensor, "*shape"]) -> bool:
    """Whether the changed image, rounded to bytes, is the stored one."""
    moved = stored.to(change.dtype) + change
    rounded = moved.round()
    return bool(((rounded >= 0) & (rounded <= LEVELS)).all()) and bool((rounded.to(torch.uint8) == stored).all())


def stored_images(images: Any, n: int) -> UInt8[Tensor, "n ..."]:
    """Stored images as bytes.

    Raises
    ------
    InputError
        If they aren't n images of whole levels in 0 … 255.
    """
    try:
        given = torch.as_tensor(images)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"images: {type(images).__name__} is no array of images ({error})") from error
    if given.dim() < 2 or len(given) != n:
        raise InputError(f"images: need one for each of the {n} training examples; got shape {tuple(given.shape)}")
    if given.dtype == torch.uint8:
        return given
    if given.dtype == torch.bool or given.is_complex():
        raise InputError(f"images: got {given.dtype}; give the stored images, uint8 in 0 … {LEVELS}")
    low, high = float(given.min()), float(given.max())
    if not (low >= 0 and high <= LEVELS):  # NaN is refused too
        raise InputError(
            f"images: levels range from {low:g} to {high:g}; give the stored images in 0 … {LEVELS} and let the "
            "network scale them"
        )
    if (given != given.round()).any():
        raise InputError(
            f"images: levels such as {float(given[given != given.round()][0]):.4g} are no whole numbers; give the "
            f"stored 8-bit images in 0 … {LEVELS}, not scaled or normalised ones"
        )
    return given.to(torch.uint8)
