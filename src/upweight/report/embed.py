"""Figures and images as parts of an HTML file, with nothing left to load."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

MOST_POINTS = 2000  # a point costs about 100 bytes as SVG: beyond these a PNG is smaller and faster to show
PNG_DOTS_PER_INCH = 200
CSS_PIXELS_PER_INCH = 96


def png_address(image: npt.NDArray[np.uint8]) -> str:
    """A ``data:`` address of the PNG of ``[height, width]`` or ``[height, width, 3]`` bytes, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return _address(buffer.getvalue())


def figure_markup(figure: Figure, alt: str, prefix: str) -> Markup:
    """The figure as HTML: SVG, or a PNG where the figure holds images or more than 2000 points.

    Parameters
    ----------
    figure
        What to draw; it is not changed.
    alt
        The figure in words.
    prefix
        Put before the figure's ids, which must be unique in a page.
    """
    width = round(figure.get_figwidth() * CSS_PIXELS_PER_INCH)
    if not has_many_points(figure):
        return _svg(_saved(figure, format="svg", metadata={"Date": None}).decode(), alt, prefix, width)
    address = _address(_saved(figure, format="png", dpi=PNG_DOTS_PER_INCH))
    return Markup('<img src="{}" alt="{}" style="--width: {}px">').format(address, alt, width)


def has_many_points(figure: Figure) -> bool:
    """Whether an SVG of the figure would be large: it holds an image, or over 2000 points, bars and marks."""
    drawn = list(_drawn(figure))
    return any(isinstance(artist, AxesImage) for artist in drawn) or sum(map(_points, drawn)) > MOST_POINTS


def _drawn(artist: Artist) -> Iterator[Artist]:
    """What a figure consists of but for the ticks, which asking an axis for them would make."""
    yield artist
    if not isinstance(artist, Axis):
        for child in artist.get_children():
            yield from _drawn(child)


def _points(artist: Artist) -> int:
    """How many marks the artist draws; a line without markers is one, since drawing thins it out."""
    if isinstance(artist, Collection):
        return max(len(np.atleast_2d(artist.get_offsets())), len(artist.get_paths()))
    if isinstance(artist, Line2D) and artist.get_marker() not in ("None", ""):
        return np.size(artist.get_xdata())
    return isinstance(artist, Patch | Line2D)


def _svg(document: str, alt: str, prefix: str, width: int) -> Markup:
    """The SVG element alone, with ids of its own and none of what only a document of its own needs."""
    svg = document[document.index("<svg") :]
    for unneeded in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<style[^>]*>.*?</style>"):
        svg = re.sub(unneeded, "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r">\s+<", "><", svg).strip()
    opening = f'<svg role="img" aria-label="{escape(alt)}" style="--width: {width}px"'
    return Markup(re.sub(r"^<svg", lambda _: opening, svg))


def _saved(figure: Figure, **options: Any) -> bytes:
    """The same figure gives the same bytes, whatever the user has set for saving elsewhere."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(
        {
            "savefig.bbox": None,
            "savefig.facecolor": "auto",
            "savefig.transparent": False,
            "svg.fonttype": "path",  # letters as outlines, not in whatever font the reader has
            "svg.hashsalt": "upweight",
        }
    ):
        figure.savefig(buffer, **options)
    return buffer.getvalue()


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
