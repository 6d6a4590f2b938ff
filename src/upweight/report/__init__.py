"""One self-contained HTML file that shows an attribution and says what its numbers mean.

A :class:`Report` is a title, a summary and sections; a section is a title and blocks. Blocks are plain frozen
data; ``template.html`` alone decides how they look. The file loads nothing: figures and images are inside it, and a
content security policy forbids the network and every script but the one that sorts tables on a click, by its digest:
sortable-tablesort (Unlicense, ``sortable.js``), whole. Without it the page reads as well.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from upweight.optional import imported

if TYPE_CHECKING:
    from upweight.report.blocks import Block, Facts, Figure, Images, Meaning, Table, Text, Warnings
    from upweight.report.page import Report
    from upweight.report.tokens import TokenExample, Tokens

__all__ = [
    "Block",
    "Facts",
    "Figure",
    "Images",
    "Meaning",
    "Report",
    "Table",
    "Text",
    "TokenExample",
    "Tokens",
    "Warnings",
]

_HOMES = {"Report": "page", "TokenExample": "tokens", "Tokens": "tokens"}
"""Of what isn't a block."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'upweight.report' has no attribute {name!r}")
    with imported("report", "upweight.report"):
        return getattr(import_module(f"upweight.report.{_HOMES.get(name, 'blocks')}"), name)


def __dir__() -> list[str]:
    return __all__
