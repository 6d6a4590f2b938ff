"""One self-contained HTML file that shows an attribution and says what its numbers mean.

A :class:`Report` is a title, a summary and sections; a section is a title and blocks. Blocks are plain frozen
data; ``template.html`` alone decides how they look. The file loads nothing: figures and images are inside it, and a
content security policy forbids the network and every script but the one that sorts tables on a click, by its digest:
sortable-tablesort (Unlicense, ``sortable.js``), whole. Without it the page reads as well.
"""

from upweight.optional import imported

with imported("report", "upweight.report"):
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
