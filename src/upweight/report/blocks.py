"""What a section of a report can hold: frozen data that is checked when made and drawn by the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import matplotlib.figure
from markupsafe import Markup

from upweight import kinds, plots
from upweight.errors import InputError
from upweight.report.embed import figure_markup, png_address
from upweight.report.numbers import MISSING, Cell, column
from upweight.report.tokens import Tokens

TONES = ("helpful", "harmful", "neutral")
FEW = 2
"""Rows that need no sorting."""
SEEN = 8
"""Rows that are seen at once, and need no filter."""
CRISP = 160  # pixels: the gallery enlarges smaller images, with hard edges, and reduces larger ones, smoothly


@dataclass(frozen=True)
class Text:
    """Plain text; an empty line begins a new paragraph."""

    text: str
    kind: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        kinds.check_fields(self)

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs, without the empty lines between them."""
        return [part.strip() for part in self.text.split("\n\n") if part.strip()]


@dataclass(frozen=True)
class Table:
    """A table whose header stays in sight and which scrolls sideways where it is too wide.

    Parameters
    ----------
    columns
        The header, one name for each column.
    rows
        Cells, ``[rows][columns]``; none is allowed and said.
    caption
        What the table shows.
    digits
        Significant digits of floats; all digits are shown on hovering.
    marked
        Cells that are told from the others, ``[rows][columns]`` of bool, in colour and in bold.
    anchor
        What a link to the table ends in.
    links
        Of each row, the anchor that its first cell leads to; None: to none.

    Raises
    ------
    InputError
        No column, a row of another length, fewer than one digit, marks of another form than the cells, another number
        of links than rows.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str
    digits: int = 3
    marked: Sequence[Sequence[bool]] | None = None
    anchor: str = ""
    links: Sequence[str | None] | None = None
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        if not self.columns:
            raise InputError("columns: got none; name at least one column")
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(f"rows[{i}]: got {len(row)} cells for {len(self.columns)} columns; give one for each")
        _check_digits(self.digits)
        if self.marked is not None and _lengths(self.marked) != [len(row) for row in self.rows]:
            raise InputError(f"marked: give [rows][columns] as rows has, {len(self.rows)} of {len(self.columns)}")
        if self.links is not None and len(self.links) != len(self.rows):
            raise InputError(f"links: got {len(self.links)} for {len(self.rows)} rows; give one for each, or None")

    @property
    def sortable(self) -> bool:
        """Whether a click on a column sorts it: where there is something to sort, and rows don't belong in an order."""
        return len(self.rows) > FEW and self.marked is None

    @property
    def filterable(self) -> bool:
        """Whether rows can be filtered: where there are more than are seen at once."""
        return self.sortable and len(self.rows) > SEEN

    @property
    def example(self) -> str:
        """What a filter of a column looks like."""
        place = next((place for place, numeric in enumerate(self.numeric) if numeric), None)
        name = next((column for column in self.columns if column), "column") if place is None else self.columns[place]
        word = name.partition(" [")[0]
        quoted = f'"{word}"' if " " in word else word
        return f"{quoted}:word" if place is None else f"{quoted}>0"

    def classes(self, row: int, column: int) -> str:
        """Of a cell, as the page's style names them."""
        differs = self.marked is not None and self.marked[row][column]
        return " ".join(["number"] * self.numeric[column] + ["differs"] * bool(differs))

    # Cached, because the template asks again at every cell.
    @cached_property
    def cells(self) -> list[list[Cell]]:
        """The cells as shown, ``[rows][columns]``."""
        values = ([row[place] for row in self.rows] for place in range(len(self.columns)))
        shown = [column(name, each, self.digits) for name, each in zip(self.columns, values, strict=True)]
        return [list(row) for row in zip(*shown, strict=True)]

    @cached_property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers alone, which are aligned at the right."""
        shown = [[row[i] for row in self.cells] for i in range(len(self.columns))]
        return [
            any(value.numeric for value in column) and all(value.numeric or value == MISSING for value in column)
            for column in shown
        ]


@dataclass(frozen=True, eq=False)
class Figure:
    """A matplotlib figure: drawn in lines (SVG), or in pixels (PNG) where it holds images or many points.

    Parameters
    ----------
    figure
        The figure; it is not changed.
    caption
        Written under it.
    alt
        The figure in words, for those who do not see it.

    Raises
    ------
    InputError
        No words in ``alt``.
    """

    figure: matplotlib.figure.Figure
    caption: str
    alt: str
    kind: ClassVar[str] = "figure"

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        if not self.alt.strip():
            raise InputError("alt: got no text; say in words what the figure shows")

    def markup(self, prefix: str) -> Markup:
        """The figure as HTML; ``prefix`` keeps its ids apart from those of other figures in the page."""
        return figure_markup(self.figure, self.alt, prefix)


@dataclass(frozen=True, eq=False)
class Images:
    """A gallery of example images, each with a caption and a tone.

    Parameters
    ----------
    arrays
        K images in the forms that :func:`upweight.plots.pixels` takes, which also says how numbers
        become colours.
    captions
        K captions.
    tones
        ``"helpful"``, ``"harmful"`` or ``"neutral"`` for each image; written and coloured.
    caption
        What the gallery shows.
    pairs
        The images belong together by twos, and no line breaks between them.

    Raises
    ------
    InputError
        No image, another number of captions or tones, an unknown tone, an array that is no image.
    """

    arrays: Sequence[plots.Values] | plots.Values
    captions: Sequence[str]
    tones: Sequence[str] | None = None
    caption: str = ""
    pairs: bool = False
    kind: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        count = len(plots.pixels(self.arrays))
        for name, given in (("captions", self.captions), ("tones", self.tones)):
            if given is not None and len(given) != count:
                raise InputError(f"{name}: got {len(given)} for {count} images; give one for each")
        for tone in self.tones or ():
            if tone not in TONES:
                raise InputError(f"tones: got {tone!r}; give one of {', '.join(map(repr, TONES))}")

    @property
    def examples(self) -> list[Example]:
        """The images as the template shows them."""
        images = plots.pixels(self.arrays)
        return [
            Example(png_address(image), image.shape[1], image.shape[0], max(image.shape) < CRISP, caption, tone)
            for image, caption, tone in zip(images, self.captions, self.tones or ["neutral"] * len(images), strict=True)
        ]


@dataclass(frozen=True)
class Example:
    """One image of a gallery: the address of its PNG, its size in pixels and what is said of it."""

    address: str
    width: int
    height: int
    crisp: bool
    caption: str
    tone: str


@dataclass(frozen=True)
class Meaning:
    """A box that says what the numbers mean: the quantity, its sign, its unit and whether sizes count, in words."""

    quantity: str
    sign: str
    unit: str
    sizes: str = ""
    kind: ClassVar[str] = "meaning"

    def __post_init__(self) -> None:
        kinds.check_fields(self)


@dataclass(frozen=True)
class Warnings:
    """Reasons not to believe the numbers as they stand; that there are none is said too.

    Parameters
    ----------
    messages
        A text each, shown one below the other; none where there is nothing to say.

    Raises
    ------
    InputError
        If they are one text rather than a list of them.
    """

    messages: Sequence[str]
    kind: ClassVar[str] = "warnings"

    def __post_init__(self) -> None:
        if isinstance(self.messages, str):
            raise InputError(f"messages: got the text {self.messages!r}; give a list of texts")
        kinds.check_fields(self)


@dataclass(frozen=True)
class Facts:
    """A compact grid of names and values: n, p, damping, ‖∇R‖, seconds …

    Parameters
    ----------
    facts
        Each name with its value.
    digits
        Significant digits of floats.

    Raises
    ------
    InputError
        No fact, fewer than one digit.
    """

    facts: Mapping[str, object]
    digits: int = 3
    kind: ClassVar[str] = "facts"

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        if not self.facts:
            raise InputError("facts: got none; give at least one name with its value")
        _check_digits(self.digits)

    @property
    def cells(self) -> list[tuple[str, Cell]]:
        """Each name with its value as shown."""
        return [(name, column(name, [value], self.digits)[0]) for name, value in self.facts.items()]


Block = Text | Table | Figure | Images | Tokens | Meaning | Warnings | Facts


def _lengths(rows: object) -> list[int] | None:
    """Of lists in a list; None of anything else."""
    try:
        return [len(row) for row in rows]  # type: ignore[attr-defined]
    except TypeError:
        return None


def _check_digits(digits: int) -> None:
    if not isinstance(digits, int) or isinstance(digits, bool) or digits < 1:
        raise InputError(f"digits: got {digits!r}; give a whole number of at least 1")
