"""scikit-learn's estimators on a table: a small network on the encoded columns, or whatever pipeline a user brings."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from upweight.errors import InputError
from upweight.estimators import from_estimator, prepare
from upweight.estimators.convert import mappings
from upweight.estimators.examples import last_step
from upweight.estimators.refused import mend
from upweight.progress import track
from upweight.tabular.columns import encoder, input_names, prepared, source_columns
from upweight.tabular.folds import folds, number_of
from upweight.tabular.linear import some_rows
from upweight.tabular.own_units import in_own_units
from upweight.tabular.read import LabelledTable
from upweight.tabular.trained import RegressionValidation, Trained, Validation

NETWORK, OWN = "--model mlp", "--estimator"
"""The options that ask for a network, or for an estimator of a user's own."""
HIDDEN = 32
"""Units of the network's one layer."""
PENALTIES = (1e-3, 1e-2, 1e-1)
"""λ of the network's weights that are tried."""
STEPS = 1000
CHOSEN_ON = 4_000
"""Rows that the network's λ is chosen on, at most."""
JUDGED_ON = 10_000
"""Rows that cross-validation of a user's estimator looks at, at most."""
MEND = (
    ". It gets the columns as they are read, missing values and text included; begin the Pipeline with what makes "
    "numbers of them"
)
LINEAR = ("LogisticRegression", "LogisticRegressionCV", "Ridge", "RidgeCV", "RidgeClassifier", "LinearRegression")


def train_network(table: LabelledTable, *, seed: int = 0) -> Trained:
    """A network of one layer of tanh units on the encoded columns, by L-BFGS; λ of the least loss in cross-validation.

    It warns where L-BFGS stops short of an optimum. A quantity is standardised within the pipeline, and the
    objective is that of the quantity in its own units.
    """
    some = some_rows(table, CHOSEN_ON, seed)
    judged = [(_validated(_network(some, l2, seed), some, seed, NETWORK), l2) for l2 in PENALTIES]
    validation, l2 = min(judged, key=lambda each: each[0].loss)
    trained, fitted = _trained(_network(table, l2, seed), table, replace(validation, l2=l2), "network", NETWORK)
    encode = fitted.named_steps["encode"]
    columns = table.columns
    return trained.described(tuple(input_names(encode, columns)), tuple(source_columns(encode, columns)))


def _network(table: LabelledTable, l2: float, seed: int) -> Pipeline:
    """Not yet fitted; ``l2`` is that of a fit to this table's rows."""
    columns = table.columns
    kind = MLPClassifier if table.classifies else MLPRegressor
    network: Any = kind(
        hidden_layer_sizes=(HIDDEN,),
        activation="tanh",
        solver="lbfgs",
        alpha=l2 * len(table),
        max_iter=STEPS,
        max_fun=20 * STEPS,
        tol=1e-7,
        random_state=seed,
    )
    if not table.classifies:
        # Else the unit of the target would decide how far the penalty goes.
        network = TransformedTargetRegressor(network, transformer=StandardScaler())
    ready = FunctionTransformer(lambda frame: prepared(frame, columns))
    return Pipeline([("read", ready), ("encode", encoder(columns)), ("model", network)])


def train_estimator(table: LabelledTable, place: str, *, seed: int = 0) -> Trained:
    """A user's own estimator or pipeline, fitted on the table's columns as they are read.

    Parameters
    ----------
    place
        ``module:function``: a function without arguments that returns it, not yet fitted. It gets a data frame of the
        kept columns, and class numbers or numbers.

    Raises
    ------
    InputError
        If there is no such function, it or its estimator fails, or what it returns is no estimator or has no
        derivatives (trees, say).
    """
    estimator = imported_estimator(place)
    held = held_by(estimator)
    others = ". Or leave --estimator away: --model logistic, ridge or mlp trains a model of the same table"
    refuse_without_derivatives(held, "--estimator", others)
    judged = _validated(estimator, some_rows(table, JUDGED_ON, seed), seed, OWN)
    return _trained(estimator, table, judged, f"{type(held).__name__} of {place}", OWN)[0]


def held_by(estimator: Any) -> Any:
    """The step that predicts, without what changes its target."""
    step = last_step(estimator)
    return last_step(getattr(step, "regressor", None) or step)


def refuse_without_derivatives(held: Any, given: str, others: str = "") -> None:
    """Refuse an estimator that has no objective here.

    Parameters
    ----------
    given
        What it was given by.
    others
        What else can be done.

    Raises
    ------
    InputError
        If so.
    """
    if type(held) not in mappings():
        raise InputError(f"{given}: {type(held).__name__} can't be explained: {mend(held)}{others}")


def imported_estimator(place: str) -> Any:
    """What ``module:function`` returns; the current folder is looked through first.

    Raises
    ------
    InputError
        If there is none, it fails, or what it returns is no estimator of scikit-learn's kind.
    """
    module, colon, name = place.partition(":")
    if not (colon and module and name):
        raise InputError(f"--estimator: got {place!r}; give module:function, such as mine:pipeline for mine.py")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"--estimator: {module!r} can't be imported from {here} ({error})") from None
    except Exception as error:  # whatever the module does on import
        raise InputError(f"--estimator: {module!r} can't be imported from {here} ({_words(error)})") from error
    finally:
        sys.path.remove(here)
    maker: Callable[[], Any] | None = getattr(found, name, None)
    if not callable(maker):
        raise InputError(f"--estimator: {module!r} has no function {name!r}{_functions(found, name)}")
    try:
        estimator = maker()
    except Exception as error:
        raise InputError(f"--estimator: {place} failed ({_words(error)})") from error
    if not isinstance(estimator, BaseEstimator) or not hasattr(estimator, "fit"):
        raise InputError(
            f"--estimator: {place} returned {type(estimator).__name__}; return a scikit-learn estimator or Pipeline, "
            "not yet fitted"
        )
    return estimator


def _functions(module: Any, name: str) -> str:
    """The end of a sentence that says there is no such function: those that the module defines itself."""
    own = [
        each
        for each, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__ and not each.startswith("_")
    ]
    near = difflib.get_close_matches(name, own, n=1)
    meant = f"; did you mean {near[0]!r}? It" if near else "; it"
    if not own:
        return "; it defines none"
    return f"{meant} defines {', '.join(own[:10])}{' …' if own[10:] else ''}"


@contextmanager
def _theirs(option: str, what: str) -> Iterator[None]:
    """Whatever an estimator raises, as one line that names the option that asked for it, and what failed."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        mend = MEND if option == OWN and type(error) in (ValueError, TypeError, KeyError) else ""
        raise InputError(f"{option}: {what} ({_words(error)}){mend}") from error


def _words(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200].rstrip('.')}" if said else type(error).__name__


def _trained(
    estimator: Any, table: LabelledTable, judged: Validation | RegressionValidation, kind: str, option: str
) -> tuple[Trained, Any]:
    columns = table.columns
    fitted = _fit(estimator, table, option)
    if table.classifies and len(fitted.classes_) != len(table.classes):
        missing = sorted(set(range(len(table.classes))) - set(map(int, fitted.classes_)))
        raise InputError(f"--target: class {table.classes[missing[0]]!r} has no row that is trained on; merge it")
    objective = from_estimator(
        fitted, _features(table), table.labels, sample_weight=table.weights, ids=table.rows.tolist()
    )
    note = ""  # where targets are others than the table's
    if table.classifies:
        objective = objective.replace(class_names=table.classes)
    else:
        objective, note = in_own_units(objective, table.labels.astype(np.float64))
    is_coded = table.classifies or bool(note)
    trained = Trained(
        objective,
        table,
        columns,
        lambda other: prepare(fitted, _features(other))[0].numpy(),
        (),
        (),
        judged,
        kind,
        is_linear=type(last_step(fitted)).__name__ in LINEAR,
        notes=(*table.notes, *columns.notes, *([note] if note else [])),
        targets=(lambda other: prepare(fitted, _features(other), other.labels)[1]) if is_coded else None,
    )
    return trained, fitted


def _features(table: LabelledTable) -> Any:
    return table.features[[name for name in table.features.columns if name in table.columns.kept]]


def _fit(estimator: Any, table: LabelledTable, option: str) -> Any:
    weights = {}
    if table.weights is not None:
        last = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
        weights = {f"{last}sample_weight": table.weights}
    with _theirs(option, "fitting failed"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `from_estimator` says how far it is from an optimum
        return clone(estimator).fit(_features(table), table.labels, **weights)


def _validated(estimator: Any, table: LabelledTable, seed: int, option: str) -> Validation | RegressionValidation:
    number = number_of(table)
    said: list[tuple[float, float, float]] = []
    with threadpool_limits(1):
        for inner, outer in track(folds(table, seed), "cross-validation", number):
            fitted = _fit(estimator, table.take(inner), option)
            with _theirs(option, "predicting failed"):
                said.append((*_judged(fitted, table.take(outer)), float(len(outer))))
    loss, score, sizes = np.array(said).T
    loss, score = float(np.average(loss, weights=sizes)), float(np.average(score, weights=sizes))
    if table.classifies:
        shares = np.bincount(table.labels, weights=table.weights)
        return Validation(None, loss, score, number, float(shares.max() / shares.sum()))
    spread = float(np.std(table.labels))
    return RegressionValidation(None, loss, 1 - loss / spread**2, number, spread)


def _judged(fitted: Any, outer: LabelledTable) -> tuple[float, float]:
    """Log-loss and accuracy, or the mean square of errors."""
    said = fitted.predict(_features(outer))
    if not outer.classifies:
        return float(np.average((said - outer.labels) ** 2, weights=outer.weights)), 0.0
    right = float(np.average(said == outer.labels, weights=outer.weights))
    known = np.isin(outer.labels, fitted.classes_)
    if not hasattr(fitted, "predict_proba"):
        return float("nan"), right
    probabilities = fitted.predict_proba(_features(outer))[known]
    return float(log_loss(outer.labels[known], probabilities, labels=fitted.classes_)), right
