"""A logistic model of a table, λ chosen by cross-validation, trained to its optimum."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import nn

from upweight import losses
from upweight.errors import InputError
from upweight.objective import Objective
from upweight.retraining import fit
from upweight.tabular.columns import Columns, encoder, prepared, source_columns
from upweight.tabular.read import LabelledTable

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

PENALTIES: tuple[float, ...] = tuple(float(value) for value in np.logspace(0, -5, 11))
"""The λ tried, from large to small, so that each fit starts at the last."""
FOLDS = 5
CHOSEN_ON = 20_000
"""Rows that λ is chosen on at most: the choice is as good, and the time bounded."""
BIAS_L2 = 1e-6
"""λ of the biases: it breaks softmax's tie between them and is too small to move a prediction."""
LARGEST = 2**28
"""Numbers in the encoded table (2 GiB) beyond which it is refused."""


@dataclass(frozen=True)
class Validation:
    """What cross-validation said of one λ; ``baseline`` is the share of the largest class."""

    l2: float
    log_loss: float
    accuracy: float
    folds: int
    baseline: float


@dataclass(frozen=True, eq=False)
class Logistic:
    """A logistic model at its optimum, with what is needed to put further rows to it.

    Attributes
    ----------
    objective
        ``nn.Linear`` on the encoded columns: one output and `losses.BinaryLogistic` for two classes, else one
        output a class and `losses.CrossEntropy`; λ on the weights. Its ids are the row numbers.
    validation
        Of the λ chosen.
    notes
        What was done to the data, in words.
    """

    objective: Objective
    table: LabelledTable
    columns: Columns
    encoder: ColumnTransformer
    validation: Validation
    notes: tuple[str, ...]

    def queries(self, table: LabelledTable) -> tuple[Matrix, Labels]:
        """Rows of a table with the same columns, as examples like the training data."""
        return self.encoder.transform(prepared(table.features, self.columns)), table.labels

    @property
    def input_names(self) -> list[str]:
        """Names of the encoded columns."""
        return list(self.encoder.get_feature_names_out())

    def inputs_of(self, columns: Sequence[str]) -> list[int]:
        """Positions of the encoded columns that are made of these columns of the table."""
        sources = source_columns(self.input_names, self.columns)
        return [position for position, name in enumerate(sources) if name in columns]

    def weightiest_columns(self, example: Matrix, k: int) -> list[str]:
        """The k columns of the table that move the outputs of this example ``[features]`` most."""
        (weights, _) = (parameter.detach().numpy() for parameter in self.objective.model.parameters())
        sources = np.array(source_columns(self.input_names, self.columns))
        shares = np.ptp(np.vstack([weights * example, np.zeros_like(example)]), axis=0)
        totals = {name: float(shares[sources == name].sum()) for name in dict.fromkeys(sources.tolist())}
        return sorted(totals, key=lambda name: -totals[name])[:k]


def train_logistic(table: LabelledTable, *, seed: int = 0) -> Logistic:
    """Train on all rows of the table; λ is that of the least log-loss in stratified cross-validation.

    Raises
    ------
    InputError
        If the encoded table would not fit into memory.
    """
    columns = table.columns
    frame = prepared(table.features, columns)
    validation = choose_l2(table, columns, seed)
    transformer = encoder(columns)
    design = transformer.fit_transform(frame)
    _refuse_large(design)
    # From zero: Newton's method needs no start, and the optimum is the same.
    objective = fit(_objective(design, table, validation.l2))
    return Logistic(objective, table, columns, transformer, validation, (*table.notes, *columns.notes))


def choose_l2(table: LabelledTable, columns: Columns, seed: int) -> Validation:
    """The λ of least out-of-fold log-loss; the encoding is learned anew in every fold."""
    if len(table) > CHOSEN_ON:
        some = np.random.default_rng(seed).permutation(len(table))[:CHOSEN_ON]
        table = table.take(np.sort(some))
    counts = np.bincount(table.labels, minlength=len(table.classes))
    folds = int(min(FOLDS, counts[counts > 0].min()))
    if folds < 2:
        raise InputError(
            f"--target: class {table.classes[int(counts.argmin())]!r} has one row to train on; cross-validation "
            "needs two or more of every class"
        )
    found = np.zeros((len(PENALTIES), 2))
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    # One thread: for matrices this small, threads that wait for each other take ten times longer.
    with threadpool_limits(1):
        for inner, outer in split.split(np.zeros(len(table)), table.labels):
            found += _scores(table.take(inner), table.take(outer), columns) * (len(outer) / len(table))
    best = int(found[:, 0].argmin())
    deviance, accuracy = found[best].tolist()
    return Validation(PENALTIES[best], deviance, accuracy, folds, float(counts.max() / counts.sum()))


def _scores(inner: LabelledTable, outer: LabelledTable, columns: Columns) -> Matrix:
    """Log-loss and accuracy on ``outer`` of fits to ``inner``, ``[penalties, 2]``."""
    transformer = encoder(columns)
    design = transformer.fit_transform(prepared(inner.features, columns))
    held_out = transformer.transform(prepared(outer.features, columns))
    model = _estimator(PENALTIES[0], len(design))
    rows = []
    for l2 in PENALTIES:
        model.set_params(C=1 / (l2 * len(design)))
        with warnings.catch_warnings():
            # A fit that stops early at a tiny λ is no better for it, and λ is all that is chosen here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(design, inner.labels)
        probabilities = model.predict_proba(held_out)
        rows.append(
            (
                log_loss(outer.labels, probabilities, labels=model.classes_),
                float((model.classes_[probabilities.argmax(1)] == outer.labels).mean()),
            )
        )
    return np.array(rows)


def _estimator(l2: float, n: int) -> LogisticRegression:
    return LogisticRegression(C=1 / (l2 * n), max_iter=300, warm_start=True)


def _objective(design: Matrix, table: LabelledTable, l2: float) -> Objective:
    classes = len(table.classes)
    outputs = 1 if classes == 2 else classes
    layer = nn.Linear(design.shape[1], outputs, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    loss = losses.BinaryLogistic() if outputs == 1 else losses.CrossEntropy()
    penalties = {"weight": l2, "bias": BIAS_L2}
    return Objective(layer, loss, (design, table.labels), l2=penalties, ids=table.rows.tolist())


def _refuse_large(design: Matrix) -> None:
    if design.size > LARGEST:
        raise InputError(
            f"the table has {len(design):,} rows and {design.shape[1]:,} columns once encoded, "
            f"{design.nbytes / 2**30:.1f} GiB; up to {LARGEST * 8 / 2**30:.0f} GiB are allowed. "
            "Give fewer rows or columns"
        )
