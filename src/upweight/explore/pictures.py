"""Small pictures of images, as files that a browser shows."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from upweight import plots
from upweight.arrays import as_tensor
from upweight.errors import InputError
from upweight.optional import imported

LARGEST = 160
"""Pixels of the longer side; what is larger is made smaller."""
LOOKED_AT = 256
"""Images, spread over all, by whose numbers all become colours."""
UNSHOWN = b""
"""In place of an image that can't be shown."""


def thumbnails(images: Any) -> tuple[list[bytes], int]:
    """Each image as a PNG, `UNSHOWN` where it is none; and how many those are.

    Parameters
    ----------
    images
        A sequence of arrays in the forms that `upweight.plots.pixels` takes, of PIL's images, or of paths of image
        files; numbers become colours alike in all.
    """
    with imported("explore", "pictures"):
        from PIL import Image

    low, high = _range(images)
    found, lost = [], 0
    for place in range(len(images)):
        try:
            array = _array(images[place])
            if array.dtype != np.uint8:
                array = np.rint((array.astype(float).clip(low, high) - low) / ((high - low) or 1.0) * 255)
            picture = Image.fromarray(plots.pixels([array.astype(np.uint8)])[0])
        except (InputError, TypeError, ValueError, OSError):
            found.append(UNSHOWN)
            lost += 1
            continue
        picture.thumbnail((LARGEST, LARGEST))
        stream = io.BytesIO()
        picture.save(stream, format="PNG")
        found.append(stream.getvalue())
    return found, lost


def _array(image: Any) -> np.ndarray:
    if isinstance(image, str | os.PathLike):
        from PIL import Image

        try:
            with Image.open(image) as file:
                return np.asarray(file.convert("RGB"))
        except Image.DecompressionBombError as error:
            raise ValueError(str(error)) from error
    if hasattr(image, "convert"):  # PIL's
        return np.asarray(image.convert("RGB"))
    array = as_tensor(image, "image").cpu().numpy()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("not finite")
    return array


def _range(images: Any) -> tuple[float, float]:
    """The numbers that are black and white, by `upweight.plots.pixels`' rule."""
    bounds = [
        (float(array.min()), float(array.max())) for array in _some(images) if array.size and array.dtype != np.uint8
    ]
    low, high = min((each[0] for each in bounds), default=0.0), max((each[1] for each in bounds), default=1.0)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _some(images: Any) -> Iterator[np.ndarray]:
    for place in np.unique(np.linspace(0, len(images) - 1, min(LOOKED_AT, len(images))).astype(int)).tolist():
        try:
            yield _array(images[place])
        except (InputError, TypeError, ValueError, OSError):
            continue
