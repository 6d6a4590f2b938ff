"""Which model a table is given: by name, or a user's own estimator."""

from __future__ import annotations

from typing import Literal

from upweight.errors import InputError
from upweight.tabular.fitted import train_estimator, train_network
from upweight.tabular.linear import train_linear
from upweight.tabular.read import LabelledTable
from upweight.tabular.trained import Trained

ModelName = Literal["auto", "logistic", "ridge", "mlp"]


def train(table: LabelledTable, model: ModelName = "auto", estimator: str | None = None, *, seed: int = 0) -> Trained:
    """Train a model on all rows of a table: logistic for classes and ridge for quantities, unless another is named.

    Raises
    ------
    InputError
        If the model doesn't go with the target, or both a model and an estimator are named.
    """
    if estimator is not None:
        if model != "auto":
            raise InputError(f"--estimator: {estimator!r} and --model {model} are two models; leave one of them away")
        return train_estimator(table, estimator, seed=seed)
    if model == "mlp":
        return train_network(table, seed=seed)
    if (model == "logistic" and not table.classifies) or (model == "ridge" and table.classifies):
        what, fits = ("classes", "logistic or mlp") if table.classifies else ("a quantity", "ridge or mlp")
        raise InputError(f"--model: {table.target!r} holds {what}; {model} doesn't go with it, {fits} does")
    return train_linear(table, seed=seed)
