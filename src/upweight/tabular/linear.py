"""Linear models of a table, logistic or ridge: λ chosen by cross-validation, trained to their optimum."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import nn

from upweight import losses
from upweight.errors import InputError
from upweight.objective import Objective
from upweight.progress import track
from upweight.retraining import fit
from upweight.tabular.columns import Columns, encoder, input_names, prepared, source_columns
from upweight.tabular.folds import folds, number_of
from upweight.tabular.read import LabelledTable
from upweight.tabular.trained import Matrix, RegressionValidation, Trained, Validation

PENALTIES: tuple[float, ...] = tuple(float(value) for value in np.logspace(0, -5, 11))
"""The λ tried, from large to small, so that each fit starts at the last."""
CHOSEN_ON = 20_000
"""Rows that λ is chosen on at most: the choice is as good, and the time bounded."""
BIAS_L2 = 1e-6
"""λ of the biases: it breaks softmax's tie between them and is too small to move a prediction."""
LARGEST = 2**28
"""Numbers in the encoded table (2 GiB) beyond which it is refused."""


def train_linear(table: LabelledTable, *, seed: int = 0) -> Trained:
    """Train on all rows of the table; λ is that of the least loss in cross-validation.

    Classes: ``nn.Linear`` with one output and `losses.BinaryLogistic` for two classes, else one output a class and
    `losses.CrossEntropy`. A quantity: ``nn.Linear`` and half the squared error, which is ridge regression.

    Raises
    ------
    InputError
        If the encoded table would not fit into memory.
    """
    columns = table.columns
    validation = choose_l2(table, columns, seed)
    transformer = encoder(columns)
    design = transformer.fit_transform(prepared(table.features, columns))
    refuse_large(design)
    assert validation.l2 is not None
    # From zero: Newton's method needs no start, and the optimum is the same.
    objective = fit(_objective(design, table, validation.l2))
    return Trained(
        objective,
        table,
        columns,
        lambda other: transformer.transform(prepared(other.features, columns)),
        tuple(input_names(transformer, columns)),
        tuple(source_columns(transformer, columns)),
        validation,
        "logistic model" if table.classifies else "ridge regression",
        is_linear=True,
        notes=(*table.notes, *columns.notes),
    )


def train_logistic(table: LabelledTable, *, seed: int = 0) -> Trained:
    """`train_linear` of classes.

    Raises
    ------
    InputError
        As there, and if the target is a quantity.
    """
    if not table.classifies:
        raise InputError(f"--target: {table.target!r} is a quantity; a logistic model needs classes")
    return train_linear(table, seed=seed)


def some_rows(table: LabelledTable, most: int, seed: int) -> LabelledTable:
    """The table, or as many of its rows, chosen by chance; of every class one and more."""
    if len(table) <= most:
        return table
    some = np.random.default_rng(seed).permutation(len(table))[:most]
    return table.take(np.sort(some))


def choose_l2(table: LabelledTable, columns: Columns, seed: int) -> Validation | RegressionValidation:
    """The λ of least out-of-fold loss; the encoding is learned anew in every fold."""
    table = some_rows(table, CHOSEN_ON, seed)
    number = number_of(table)
    found = np.zeros((len(PENALTIES), 2))
    total = 0.0
    # One thread: for matrices this small, threads that wait for each other take ten times longer.
    with threadpool_limits(1):
        for inner, outer in track(folds(table, seed), "choosing the penalty", number):
            weight = float(len(outer)) if table.weights is None else float(table.weights[outer].sum())
            found += _scores(table.take(inner), table.take(outer), columns) * weight
            total += weight
    found /= total
    best = int(found[:, 0].argmin())
    deviance, accuracy = found[best].tolist()
    if table.classifies:
        shares = np.bincount(table.labels, weights=table.weights)
        return Validation(PENALTIES[best], deviance, accuracy, number, float(shares.max() / shares.sum()))
    spread = float(np.sqrt(np.cov(table.labels, aweights=table.weights, ddof=0)))
    return RegressionValidation(PENALTIES[best], deviance, 1 - deviance / spread**2, number, spread)


def _scores(inner: LabelledTable, outer: LabelledTable, columns: Columns) -> Matrix:
    """Loss and accuracy (nothing, of a quantity) on ``outer`` of fits to ``inner``, ``[penalties, 2]``."""
    transformer = encoder(columns)
    design = transformer.fit_transform(prepared(inner.features, columns))
    held_out = transformer.transform(prepared(outer.features, columns))
    found = _classified if inner.classifies else _regressed
    return np.array(list(found(design, inner, held_out, outer)))


def _classified(design: Matrix, inner: LabelledTable, held_out: Matrix, outer: LabelledTable) -> Iterator[Any]:
    model = LogisticRegression(max_iter=300, warm_start=True)
    known = np.isin(outer.labels, np.unique(inner.labels))  # a class of few rows may be held out whole
    weights = None if outer.weights is None else outer.weights[known]
    for l2 in PENALTIES:
        model.set_params(C=1 / (l2 * len(inner)))
        with warnings.catch_warnings():
            # A fit that stops early at a tiny λ is no better for it, and λ is all that is chosen here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(design, inner.labels, sample_weight=inner.weights)
        probabilities = model.predict_proba(held_out)[known]
        right = model.classes_[probabilities.argmax(1)] == outer.labels[known]
        yield (
            log_loss(outer.labels[known], probabilities, labels=model.classes_, sample_weight=weights),
            float(np.average(right, weights=weights) * np.average(known, weights=outer.weights)),
        )


def _regressed(design: Matrix, inner: LabelledTable, held_out: Matrix, outer: LabelledTable) -> Iterator[Any]:
    """By one decomposition for every λ: (XᵀWX + nλI)⁻¹XᵀWy, columns and target centred."""
    weights = np.ones(len(inner)) if inner.weights is None else inner.weights
    share = weights / weights.sum()
    centre, level = share @ design, float(share @ inner.labels)
    centred = design - centre
    sizes, vectors = np.linalg.eigh((centred.T * weights) @ centred / len(inner))
    slope = vectors.T @ (centred.T @ (weights * (inner.labels - level))) / len(inner)
    turned = (held_out - centre) @ vectors
    for l2 in PENALTIES:
        error = turned @ (slope / (np.maximum(sizes, 0) + l2)) + level - outer.labels
        yield float(np.average(error**2, weights=outer.weights)), 0.0


def _objective(design: Matrix, table: LabelledTable, l2: float) -> Objective:
    classes = len(table.classes)
    outputs = classes if classes > 2 else 1
    layer = nn.Linear(design.shape[1], outputs, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    loss: losses.Loss = losses.CrossEntropy() if outputs > 1 else losses.BinaryLogistic()
    if not table.classifies:
        loss = losses.SquaredError(0.5)
    # A quantity needs no penalty of its level: there is no tie to break.
    penalties = {"weight": l2, "bias": BIAS_L2 if table.classifies else 0.0}
    weights = None if table.weights is None else table.weights
    return Objective(layer, loss, (design, table.labels), l2=penalties, ids=table.rows.tolist(), weights=weights)


def refuse_large(design: Matrix) -> None:
    """Refuse what wouldn't fit into memory.

    Raises
    ------
    InputError
        If so.
    """
    if design.size > LARGEST:
        raise InputError(
            f"the table has {len(design):,} rows and {design.shape[1]:,} columns once encoded, "
            f"{design.nbytes / 2**30:.1f} GiB; up to {LARGEST * 8 / 2**30:.0f} GiB are allowed. "
            "Give fewer rows or columns"
        )
