"""Images: a grid of examples, and the gradient with respect to the pixels of one."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from upweight import kinds
from upweight.errors import InputError
from upweight.plots import checks
from upweight.plots.checks import Array, Values
from upweight.plots.pictured import channels_last, pixels
from upweight.plots.style import WIDTH, styled
from upweight.plots.words import number, with_unit


@styled
def example_grid(
    images: Sequence[Values] | Values,
    captions: Sequence[object],
    *,
    columns: int = 5,
    title: str | None = None,
) -> Figure:
    """Grid of images, row by row, with a caption under each.

    Parameters
    ----------
    images
        K images, each in a form that :func:`pixels` takes.
    captions
        K captions.
    columns
        Images in a row.
    title
        Written above the grid.

    Raises
    ------
    InputError
        No image, another number of captions, an array that is no image.
    """
    kinds.check(example_grid, locals())
    shown = pixels(images)
    texts = checks.names("captions", captions, ("images", (len(shown),)))
    if not isinstance(columns, int | np.integer) or isinstance(columns, bool) or columns < 1:
        raise InputError(f"columns: got {columns!r}; give a whole number of at least 1")
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    cell = min(WIDTH / columns, 2.4)
    wrapped = [textwrap.fill(text, max(8, round(cell * 13))) for text in texts]
    lines = max(text.count("\n") + 1 for text in wrapped)
    tall = max(image.shape[0] / image.shape[1] for image in shown)
    height = (cell * min(tall, 3.0) + 0.17 * lines + 0.1) * rows + (0.35 if title else 0)
    figure = Figure(figsize=(cell * columns, height), layout="constrained")
    for i, (image, text) in enumerate(zip(shown, wrapped, strict=True)):
        show(figure.add_subplot(rows, columns, i + 1), image, text)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
    return figure


@styled
def perturbation(
    original: Values,
    gradient: Values,
    *,
    unit: str = "",
    quantity: str = "gradient",
    caption: str = "input",
    title: str | None = None,
) -> Figure:
    """Draw an input image beside the signed gradient with respect to its pixels.

    Parameters
    ----------
    original
        The image, in a form that :func:`pixels` takes.
    gradient
        Of the same shape, or ``[height, width]``; the gradients of colour channels are added up,
        which is the effect of making a pixel brighter in all of them.
    unit
        The unit of the gradient, such as ``"nats per unit of pixel"``.
    quantity
        What the gradient is of, in words.
    caption
        Written under the image.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Arrays that are no images or do not fit each other; non-finite values.
    """
    kinds.check(perturbation, locals())
    image = pixels([original])[0]
    slopes = channels_last("gradient", checks.numbers("gradient", gradient))
    slopes = slopes.sum(-1) if slopes.ndim == 3 else slopes
    if slopes.shape != image.shape[:2]:
        raise InputError(
            f"gradient: its height and width are {slopes.shape}, those of original {image.shape[:2]}; "
            "give the gradient with respect to this very image"
        )
    bound = float(np.abs(slopes).max())

    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    show(figure.add_subplot(1, 2, 1), image, caption)
    right = figure.add_subplot(1, 2, 2)
    words = f"largest |value| {number(bound)} · ‖·‖ = {number(float(np.linalg.norm(slopes)))}"
    drawn = show(right, slopes, words, cmap="RdBu", vmin=-(bound or 1.0), vmax=bound or 1.0)
    bar = figure.colorbar(drawn, ax=right, fraction=0.046, pad=0.03)
    bar.set_label(with_unit(quantity, unit), fontsize=9, parse_math=False)
    bar.ax.tick_params(labelsize=8.5, width=0.7)
    bar.outline.set_linewidth(0.5)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
    return figure


def show(axes: Axes, image: Array, caption: str, **colours: Any) -> Any:
    """An image in axes of its own, the caption under it."""
    gray: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.ndim == 2 and not colours else {}
    drawn = axes.imshow(image, interpolation="nearest", **gray, **colours)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, linewidth=0.5)
    axes.set_xlabel(caption, fontsize=9, parse_math=False)
    return drawn
