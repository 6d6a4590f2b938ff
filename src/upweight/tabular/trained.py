"""A model of a table, whatever made it, with what is needed to put further rows to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from upweight.objective import Objective
from upweight.tabular.columns import Columns
from upweight.tabular.read import LabelledTable

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Validation:
    """What cross-validation said of a classifier; ``baseline`` is the share of the largest class.

    ``l2`` is the λ chosen, None of a model that has its own.
    """

    l2: float | None
    log_loss: float
    accuracy: float
    folds: int
    baseline: float

    @property
    def loss(self) -> float:
        """What λ is chosen by."""
        return self.log_loss

    def facts(self) -> dict[str, Any]:
        """By name, for people."""
        penalty = {} if self.l2 is None else {"λ (l2 of the weights)": self.l2}
        return penalty | {
            "accuracy, cross-validated": self.accuracy,
            "share of the largest class": self.baseline,
            "log-loss, cross-validated": self.log_loss,
        }

    def words(self) -> str:
        """The same as the end of a sentence."""
        return (
            f"the model is right on {self.accuracy:.1%} of rows it has not seen (largest class: {self.baseline:.1%})"
            + ("" if self.l2 is None else f"; λ = {self.l2:.2g}")
        )


@dataclass(frozen=True)
class RegressionValidation:
    """What cross-validation said of a regression; ``spread`` is the target's standard deviation."""

    l2: float | None
    squared_error: float
    r2: float
    folds: int
    spread: float

    @property
    def loss(self) -> float:
        """What λ is chosen by."""
        return self.squared_error

    def facts(self) -> dict[str, Any]:
        """By name, for people."""
        penalty = {} if self.l2 is None else {"λ (l2 of the weights)": self.l2}
        return penalty | {
            "R², cross-validated": self.r2,
            "error (root of the mean square), cross-validated": self.squared_error**0.5,
            "standard deviation of the target": self.spread,
        }

    def words(self) -> str:
        """The same as the end of a sentence."""
        return (
            f"the model's error on rows it has not seen is {self.squared_error**0.5:.4g} (root of the mean square; the "
            f"target's standard deviation: {self.spread:.4g}; R² = {self.r2:.3f})"
            + ("" if self.l2 is None else f"; λ = {self.l2:.2g}")
        )


@dataclass(frozen=True)
class Seen:
    """How a model that came fitted does on the rows that it was fitted on: accuracy, or R² where there is no baseline.

    ``baseline`` is the share of the largest class.
    """

    score: float
    baseline: float | None

    def facts(self) -> dict[str, Any]:
        """By name, for people."""
        if self.baseline is None:
            return {"R² on the rows it was fitted on": self.score}
        return {"accuracy on the rows it was fitted on": self.score, "share of the largest class": self.baseline}

    def words(self) -> str:
        """The same as the end of a sentence."""
        if self.baseline is None:
            return f"the model's R² is {self.score:.3f} on the rows it was fitted on"
        return (
            f"the model is right on {self.score:.1%} of the rows it was fitted on (largest class: {self.baseline:.1%})"
        )


@dataclass(frozen=True, eq=False)
class Trained:
    """A model at what it was trained to, with what is needed to put further rows to it.

    Attributes
    ----------
    objective
        On the encoded columns. Its ids are the row numbers.
    encode
        Rows of a table with the same columns, as the model's inputs ``[rows, inputs]``.
    names, sources
        Of each input its name, and the column of the table that it is made of; empty where nobody knows.
    validation
        What cross-validation said; of a model that came fitted, how it does on its own rows.
    kind
        What the model is called.
    is_linear
        Whether its outputs are linear in θ and its risk convex.
    notes
        What was done to the data, in words.
    targets
        Targets of a table as the objective has them; None where that is class numbers or numbers as they are.
    """

    objective: Objective
    table: LabelledTable
    columns: Columns
    encode: Callable[[LabelledTable], Matrix]
    names: tuple[str, ...]
    sources: tuple[str, ...]
    validation: Validation | RegressionValidation | Seen
    kind: str
    is_linear: bool
    notes: tuple[str, ...]
    targets: Callable[[LabelledTable], Any] | None = None

    def described(self, names: tuple[str, ...], sources: tuple[str, ...]) -> Trained:
        """The same, with what its inputs are."""
        return replace(self, names=names, sources=sources)

    def queries(self, table: LabelledTable) -> tuple[Matrix, Any]:
        """Rows of a table with the same columns, as examples like the training data."""
        return self.encode(table), table.labels if self.targets is None else self.targets(table)

    @property
    def input_names(self) -> list[str]:
        """Names of the encoded columns."""
        return list(self.names)

    def inputs_of(self, columns: Sequence[str]) -> list[int]:
        """Positions of the encoded columns that are made of these columns of the table."""
        return [position for position, name in enumerate(self.sources) if name in columns]

    def weightiest_columns(self, example: Matrix, k: int) -> list[str]:
        """The k columns of the table that move the outputs of this example ``[inputs]`` most.

        By what each input adds to the outputs, to first order: slope times value; in a linear model weight times value.
        """
        if not self.sources:
            return [str(name) for name in self.table.features.columns[:k]]
        inputs = torch.as_tensor(example, dtype=self.objective.dtype)[None]
        model = self.objective.model
        slopes: Any = torch.func.jacrev(lambda x: model(x).reshape(-1))(inputs)
        added = (slopes.reshape(-1, inputs.numel()) * inputs.reshape(-1)).detach().numpy()
        shares = np.ptp(np.vstack([added, np.zeros((1, added.shape[1]))]), axis=0)
        sources = np.array(self.sources)
        totals = {name: float(shares[sources == name].sum()) for name in dict.fromkeys(self.sources)}
        return sorted(totals, key=lambda name: -totals[name])[:k]
