"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from upweight.tabular import Aside, Choice

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
Target = Annotated[
    str | None, typer.Option("--target", "-t", help="CSV: the column that is predicted, a class or a quantity.")
]
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
WEIGHT = "CSV: the column that holds the rows' weights, 0 or more."
GROUP = "CSV: rows with the same value here belong together: no fold and no split parts them."
Weight = Annotated[str | None, typer.Option("--weight", help=WEIGHT)]
RowGroup = Annotated[str | None, typer.Option("--group", help=GROUP)]
FoldGroup = Annotated[str | None, typer.Option("--fold-group", help=GROUP)]


class TaskName(StrEnum):
    """What the target of a CSV is."""

    auto = "auto"
    classification = "classification"
    regression = "regression"


class ModelKind(StrEnum):
    """The models that a CSV can be given by name."""

    auto = "auto"
    logistic = "logistic"
    ridge = "ridge"
    mlp = "mlp"


Task = Annotated[
    TaskName,
    typer.Option(help="CSV: what the target is; by default a quantity where it holds more than 20 distinct numbers."),
]
Model = Annotated[
    ModelKind,
    typer.Option(help="CSV: the model; by default logistic for classes, ridge for a quantity. mlp: a small network."),
]
Estimator = Annotated[
    str | None,
    typer.Option(help="CSV: module:function that returns a scikit-learn pipeline of your own; it is imported and run."),
]
SOURCE = (
    "A table (CSV of any separator and encoding, compressed or not, Parquet, Excel; - for standard input), or a Python "
    "study file (see examples/digits_study.py)."
)
Source = Annotated[Path, typer.Argument(help=SOURCE, show_default=False)]

MODEL_OR_SOURCE = (
    f"{SOURCE[:-1]}, or a fitted scikit-learn pipeline of your own (.joblib, .pkl), followed by the table it was "
    "fitted on."
)
ModelOrSource = Annotated[Path, typer.Argument(help=MODEL_OR_SOURCE, show_default=False)]
FittedOn = Annotated[
    Path | None, typer.Argument(metavar="[TABLE]", help="Of a model: the table it was fitted on.", show_default=False)
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Load the model's file: joblib and pickle files run whatever code they hold."),
]

FOLDER = Path("upweight-report")


@dataclass(frozen=True)
class TableOptions:
    """How a table is read and which model it is given; of a study file nothing of it may be asked for."""

    drop: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    weight: str | None = None
    group: str | None = None
    group_option: str = "--group"
    task: str = "auto"
    model: str = "auto"
    estimator: str | None = None

    def refuse_for_study(self) -> None:
        """Refuse what only a table has.

        Raises
        ------
        typer.BadParameter
            If anything is asked for.
        """
        if self.drop or self.only:
            raise typer.BadParameter("--drop and --columns are for CSV files; a study file holds its own model")
        found = self.given
        if found is not None:
            raise typer.BadParameter(f"{found} is for CSV files; a study file holds its own model and examples")

    @property
    def given(self) -> str | None:
        """The first option given."""
        return "--weight" if self.weight else self.of_training

    @property
    def of_training(self) -> str | None:
        """The first option given that says how a model is to be trained."""
        given = {
            "--drop": self.drop,
            "--columns": self.only,
            self.group_option: self.group,
            "--task": self.task != "auto",
            "--model": self.model != "auto",
            "--estimator": self.estimator,
        }
        return next((option for option, value in given.items() if value), None)

    @property
    def choice(self) -> Choice:
        """The columns that are asked for."""
        from upweight.tabular import Choice

        return Choice(self.drop, self.only)

    @property
    def aside(self) -> Aside:
        """The columns that predict nothing."""
        from upweight.tabular import Aside

        return Aside(self.weight, self.group, self.group_option)


def table_options(
    drop: list[str] | None,
    only: list[str] | None,
    weight: str | None,
    group: str | None,
    task: TaskName,
    model: ModelKind,
    estimator: str | None,
    group_option: str = "--group",
) -> TableOptions:
    """What the options of a command ask of a table."""
    return TableOptions(
        tuple(drop or ()), tuple(only or ()), weight, group, group_option, task.value, model.value, estimator
    )
