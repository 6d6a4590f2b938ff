"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from upweight.tabular import Choice

EXAMPLES = "[bold]Examples[/bold]\n\n"

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text, errors included.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only where the results are.")]
LARGEST_SEED = 2**32 - 1
"""What NumPy's older generators take, which scikit-learn uses."""
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Fixes every random choice.")]
Top = Annotated[int, typer.Option("--top", "-n", min=1, help="Rows to show of each kind.")]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Folder for the results, or the report's file if it ends in .html."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace results that are there already; never what is read.")]
Target = Annotated[str | None, typer.Option("--target", "-t", help="CSV: the column that holds the class.")]
Row = Annotated[
    int | None,
    typer.Option(min=0, help="CSV: the row to explain, counted from 0 under the header; it is held out of training."),
]
Query = Annotated[int | None, typer.Option(min=0, help="Study file: the query to explain, by position.")]
Drop = Annotated[list[str] | None, typer.Option("--drop", help="CSV: a column to leave out of the model; repeat it.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--columns", help="CSV: predict from this column, whatever it holds, and no other; repeat it."),
]
SOURCE = "A CSV file, or a Python study file (see examples/digits_study.py)."
Source = Annotated[Path, typer.Argument(help=SOURCE, show_default=False)]

FOLDER = Path("upweight-report")


def chosen(drop: list[str] | None, only: list[str] | None) -> Choice:
    """The columns of a CSV that the options ask for."""
    from upweight.tabular import Choice

    return Choice(tuple(drop or ()), tuple(only or ()))
