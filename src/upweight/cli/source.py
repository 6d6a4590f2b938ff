"""What a command looks at: a trained objective with queries, and how to show both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from upweight.data import Data
from upweight.errors import InputError
from upweight.names import LINE
from upweight.objective import Objective

if TYPE_CHECKING:
    from upweight.report import Block
    from upweight.tabular import Trained
    from upweight.tasks import Predictions

SHOWN_COLUMNS = 3


@dataclass(frozen=True, eq=False)
class Source:
    """A trained objective with queries, and how to show both to a person.

    ``train_table`` and ``query_table`` hold what is known of training examples and queries, be it of a study or of a
    table, its target first and its dates as they are written; ``typed`` both with dates as dates, where they differ.
    ``noun`` is what an example is called, ``model`` the trained model of a table, ``lines`` and ``query_lines`` the
    lines of their files on which training rows and queries begin, ``tokens`` and ``query_tokens`` the texts of a
    study's tokens, where it gives them.
    """

    title: str
    noun: str
    objective: Objective
    queries: Data
    query_ids: np.ndarray
    class_names: tuple[str, ...] | None
    chosen: int | None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    images: Any = None
    query_images: Any = None
    tokens: Sequence[Sequence[str]] | None = None
    query_tokens: Sequence[Sequence[str]] | None = None
    train_table: pd.DataFrame | None = None
    query_table: pd.DataFrame | None = None
    typed: tuple[pd.DataFrame, pd.DataFrame] | None = None
    model: Trained | None = None
    lines: np.ndarray | None = None
    query_lines: np.ndarray | None = None

    @property
    def columns(self) -> dict[str, dict[str, Any]] | None:
        """What every column of a CSV was taken for; None of a study file."""
        return None if self.model is None else self.model.columns.described()

    def with_lines(self, shown: pd.DataFrame, positions: Any) -> pd.DataFrame:
        """A table of training rows with the lines of their file behind their names; without where there are none."""
        if self.lines is None:
            return shown
        found = shown.copy()
        found.insert(list(found.columns).index(self.noun) + 1, LINE, self.lines[np.asarray(positions, dtype=int)])
        return found

    def line_of(self, position: int) -> dict[str, int]:
        """The line on which a training row begins, by name; nothing where there is none."""
        return {} if self.lines is None else {LINE: int(self.lines[position])}

    def line_of_query(self, position: int) -> dict[str, int]:
        """The same of a query."""
        return {} if self.query_lines is None else {LINE: int(self.query_lines[position])}

    @property
    def values(self) -> pd.DataFrame | None:
        """What is shown beside a training example's label: of a CSV all columns but the target."""
        return self.train_table if self.train_table is None or self.model is None else self.train_table.iloc[:, 1:]

    def weightiest(self, position: int, most: int = SHOWN_COLUMNS) -> list[str]:
        """Columns of a query: of a table those that move what is said of it most, of a study the first few."""
        if self.model is not None:
            example = self.queries.take([position])[0][0].cpu().numpy()
            return self.model.weightiest_columns(example, most)
        return [] if self.train_table is None else list(self.train_table.columns[:most])

    def blocks(self) -> list[Block]:
        """The model in figures, what every column of a CSV was taken for, and notes, for a report."""
        from upweight.report import Facts, Table, Text

        rows = [
            [name, found["taken_for"], found.get("levels"), found.get("reason") or found.get("note", "")]
            for name, found in (self.columns or {}).items()
        ]
        columns = [Table(["column", "taken for", "levels", "why"], rows, "What every column was taken for.")]
        notes = [Text("\n\n".join(f"Note: {note}." for note in self.notes))]
        return [Facts(self.facts), *columns[: bool(rows)], *notes[: bool(self.notes)]]

    def predictions(self) -> Predictions | None:
        """What the model says of the queries; None where the loss knows no classes."""
        from upweight.tasks import predictions

        try:
            return predictions(self.objective, self.queries)
        except InputError:
            return None

    def query(self) -> int:
        """The query asked for, else the wrong prediction of highest loss."""
        if self.chosen is not None:
            return self.chosen
        said = self.predictions()
        return int(self.objective.losses(self.queries).argmax()) if said is None else said.hardest()
