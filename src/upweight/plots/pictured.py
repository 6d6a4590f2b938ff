"""Images as bytes to show, which needs no figure: matplotlib is a second of whoever shows pictures by other means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from upweight.errors import InputError
from upweight.plots import checks
from upweight.plots.checks import Array, Values


def pixels(images: Sequence[Values] | Values) -> list[npt.NDArray[np.uint8]]:
    """The images as bytes to show, each ``[height, width]`` or ``[height, width, 3]``.

    Taken are ``[height, width]``, ``[height, width, 1 or 3]`` and ``[1 or 3, height, width]``; where both of
    the latter fit, the channels are last. Bytes are shown as they are, other numbers within 0 … 1 as black …
    white. Numbers beyond that (normalised images, the digits' 0 … 16) are stretched from the least to the
    greatest of *all* images given, so that images shown together stay comparable.

    Raises
    ------
    InputError
        No image, an empty or non-finite one, or an array of another shape.
    """
    given = checks.several("images", images)
    if not given:
        raise InputError("images: got none; give at least one image")
    arrays = [channels_last(f"images[{i}]", checks.finite(f"images[{i}]", image)) for i, image in enumerate(given)]
    numbers = [array for array in arrays if array.dtype != np.uint8]
    low = min((float(array.min()) for array in numbers), default=0.0)
    high = max((float(array.max()) for array in numbers), default=1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    span = (high - low) or 1.0
    return [
        array if array.dtype == np.uint8 else np.rint((array.astype(float) - low) / span * 255).astype(np.uint8)
        for array in arrays
    ]


def channels_last(name: str, array: Array) -> Array:
    """``[height, width]`` or ``[height, width, 3]``."""
    if array.ndim == 3 and array.shape[-1] not in (1, 3) and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3):
        return array
    raise InputError(f"{name}: got shape {array.shape}; give [H, W], [H, W, 1 or 3] or [1 or 3, H, W]")
