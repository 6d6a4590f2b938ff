"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = "[bold]Examples[/bold]\n\n"

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text, errors included.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only where the results are.")]
Seed = Annotated[int, typer.Option(min=0, help="Fixes every random choice.")]
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
SOURCE = "A CSV file, or a Python study file (see examples/digits_study.py)."
Source = Annotated[Path, typer.Argument(help=SOURCE, show_default=False)]

FOLDER = Path("upweight-report")
