"""The report: sections in order, and the file that they become."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import get_args

import jinja2
from markupsafe import Markup

from upweight import files, kinds
from upweight.errors import InputError
from upweight.report.blocks import Block, Table

SIZE = "\ue000 kB"
"""Where the page's size comes, once it is known."""


@dataclass(frozen=True)
class Section:
    """A titled part of the page; ``anchor`` is what a link to it ends in."""

    title: str
    anchor: str
    blocks: tuple[Block, ...]


class Report:
    """A page of sections, saved as one HTML file that needs nothing else.

    >>> from upweight.report import Facts, Report
    >>> report = Report("Digits", "Which training images the model leans on.")
    >>> report = report.section("Data", Facts({"n": 1797}))
    >>> "1797" in report.html()
    True

    Parameters
    ----------
    title
        The heading of the page.
    summary
        What the reader should take away, in a few sentences; an empty line begins a new paragraph.
    foot
        How the page was made, at its end; an empty line begins a new paragraph.

    Raises
    ------
    InputError
        An empty title.
    """

    def __init__(self, title: str, summary: str = "", foot: str = "") -> None:
        kinds.check(Report.__init__, locals())
        if not title.strip():
            raise InputError("title: got no text; give the report a title")
        self.title = title
        self.summary = summary
        self.foot = foot
        self.sections: list[Section] = []

    def section(self, title: str, *blocks: Block, anchor: str | None = None) -> Report:
        """Add a section and return the report.

        Parameters
        ----------
        title
            Its heading.
        blocks
            Its content, in order.
        anchor
            What a link to it ends in (``report.html#anchor``); made from the title if none is given.

        Raises
        ------
        InputError
            An empty title, something that is no block, an anchor that is taken or cannot be one.
        """
        if not title.strip():
            raise InputError("title: got no text; give the section a title")
        for i, block in enumerate(blocks):
            if not isinstance(block, get_args(Block)):
                raise InputError(
                    f"blocks[{i}]: got {type(block).__name__}; give blocks of upweight.report, such as Text"
                )
        taken = {section.anchor for section in self.sections} | {
            table.anchor for section in self.sections for table in _tables(section.blocks) if table.anchor
        }
        for table in _tables(blocks):
            if table.anchor:
                taken.add(_checked_anchor(table.anchor, taken))
        name = _free_anchor(title, taken) if anchor is None else _checked_anchor(anchor, taken)
        self.sections.append(Section(title, name, blocks))
        return self

    def html(self) -> str:
        """The whole page; its foot ends in its size."""
        summary, foot = (
            [part.strip() for part in text.split("\n\n") if part.strip()] for text in (self.summary, self.foot)
        )
        tables = [table for section in self.sections for table in _tables(section.blocks)]
        script, digest = acting(
            sorting=any(table.sortable for table in tables), filtering=any(table.filterable for table in tables)
        )
        foot.append(f"One file of {SIZE}, which loads nothing.")
        page = _template().render(
            title=self.title, summary=summary, sections=self.sections, foot=foot, script=Markup(script), digest=digest
        )
        before, _, after = page.rpartition(SIZE)
        return before + _size(len(page.encode(errors="replace"))) + after

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page and return its path; folders are made, and a page already there is replaced at once.

        A reader sees the old page or the new one, never a part; when drawing fails the old one stays.
        """
        return files.write(path, self.html())


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{max(count / 1e3, 1):,.0f} kB"


def _tables(blocks: Iterable[Block]) -> list[Table]:
    return [block for block in blocks if isinstance(block, Table)]


def _free_anchor(title: str, taken: set[str]) -> str:
    base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    base = base if base[:1].isalpha() else f"section-{base}".strip("-")
    names = (base if i == 1 else f"{base}-{i}" for i in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _checked_anchor(anchor: str, taken: set[str]) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", anchor):
        raise InputError(f"anchor: got {anchor!r}; begin with a letter, then letters, digits, '-', '_' and '.'")
    if anchor in taken:
        raise InputError(f"anchor: {anchor!r} is taken; give another")
    return anchor


@cache
def acting(*, sorting: bool, filtering: bool) -> tuple[str, str]:
    """The scripts that sort and filter tables, whole, and their SHA-256 as a content security policy names it."""
    names = ["sortable.js"] * sorting + ["filter.js"] * filtering
    script = "\n".join(resources.files("upweight.report").joinpath(name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return script, digest if names else ""


@cache
def _template() -> jinja2.Template:
    source = resources.files("upweight.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)
