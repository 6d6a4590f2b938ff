"""Examples on a map: how many lie where, drawn as one picture, and where a point of the picture lies."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from upweight.optional import imported

WIDTH, HEIGHT, MARGIN = 840, 560, 16
CELL = 4
"""Pixels of a square in which examples are counted."""
REACH = 24
"""Pixels within which a click finds an example."""
COLOURS = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233),
    (213, 94, 0), (150, 150, 40), (120, 94, 240), (160, 82, 45), (120, 120, 120),
)  # fmt: skip
"""Okabe and Ito's, and more: of the classes in order, and again from the start."""
PERCENT = 0.5
"""Of the examples that may lie beyond the edge at each side: one far away would make all others a dot."""


@dataclass(frozen=True, eq=False)
class Map:
    """Where examples lie.

    Attributes
    ----------
    places
        In pixels, ``[examples, 2]``; those beyond the edge lie on it.
    classes
        A number for each, by which it is coloured, ``[examples]``.
    """

    places: Float[np.ndarray, "examples 2"]
    classes: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, labels: np.ndarray | None = None) -> Map:
        """Of two coordinates and labels."""
        both = np.stack([x, y], axis=1).astype(float)
        both = np.where(np.isfinite(both), both, 0)
        low, high = np.percentile(both, [PERCENT, 100 - PERCENT], axis=0)
        share = ((both - low) / np.where(high > low, high - low, 1)).clip(0, 1)
        share[:, 1] = 1 - share[:, 1]
        classes = np.zeros(len(x), dtype=int)
        if labels is not None:
            classes = np.unique(labels.astype(str), return_inverse=True)[1]
        size = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
        return cls(MARGIN + share * size, classes)

    def picture(self) -> bytes:
        """A PNG that is clear where no example lies: colour says the classes, strength how many there are."""
        with imported("explore", "the map"):
            from PIL import Image

        across, down = WIDTH // CELL, HEIGHT // CELL
        cells = (self.places // CELL).astype(int).clip(0, [across - 1, down - 1])
        flat = cells[:, 1] * across + cells[:, 0]
        count = np.bincount(flat, minlength=across * down)
        colours = np.array(COLOURS)[self.classes % len(COLOURS)]
        sums = np.stack([np.bincount(flat, colours[:, k], minlength=across * down) for k in range(3)], axis=1)
        strength = np.log1p(count) / max(np.log1p(count.max()), 1)
        alpha = np.where(count > 0, 70 + 185 * strength, 0)
        pixels = np.concatenate([sums / np.maximum(count, 1)[:, None], alpha[:, None]], axis=1)
        small = Image.fromarray(pixels.round().astype(np.uint8).reshape(down, across, 4), "RGBA")
        stream = io.BytesIO()
        small.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST).save(stream, format="PNG")
        return stream.getvalue()

    def at(self, x: float, y: float) -> int | None:
        """The example nearest to a point; None where none is near."""
        distances = np.hypot(*(self.places - [x, y]).T)
        nearest = int(distances.argmin())
        return nearest if distances[nearest] <= REACH else None
