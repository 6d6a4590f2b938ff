"""A fitted pipeline of one's own, with the table that it was fitted on."""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from upweight.errors import InputError
from upweight.estimators import from_estimator, prepare
from upweight.estimators.examples import last_step
from upweight.tabular.aside import Aside
from upweight.tabular.choice import near_names
from upweight.tabular.columns import Columns, level_name
from upweight.tabular.fitted import LINEAR, held_by, refuse_without_derivatives
from upweight.tabular.own_units import in_own_units
from upweight.tabular.read import LabelledTable, read_labelled, read_table
from upweight.tabular.target import Task
from upweight.tabular.trained import Seen, Trained
from upweight.tabular.written import SPACES


def loaded(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The estimator in a file of joblib's or pickle's, and notes. To load one runs whatever code it holds.

    Modules are looked for in the current folder first.

    Raises
    ------
    InputError
        If there is no such file, it can't be loaded, or holds no estimator of scikit-learn's kind.
    """
    import joblib

    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", InconsistentVersionWarning)
            found = joblib.load(path)
    except (pickle.UnpicklingError, ImportError, AttributeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError) as error:  # noqa: E501  # fmt: skip
        raise InputError(
            f"{path}: can't be loaded ({type(error).__name__}: {str(error)[:200]}); joblib and pickle need the modules "
            "and versions that the file was saved with"
        ) from None
    finally:
        sys.path.remove(here)
    if not isinstance(found, BaseEstimator):
        raise InputError(f"{path}: holds {type(found).__name__}; save a fitted scikit-learn estimator or Pipeline")
    old = [str(each.message).splitlines()[0] for each in said if issubclass(each.category, InconsistentVersionWarning)]
    return found, tuple(f"{path.name}: {words}" for words in old[:1])


def of_model(model: Path, path: Path, target: str, weight: str | None = None) -> Trained:
    """A fitted estimator as a model of the table that it was fitted on.

    Its columns are given to it as pandas reads them.

    Raises
    ------
    InputError
        If the file holds no fitted estimator that has an objective, or the table lacks a column or has a class that the
        estimator doesn't know.
    """
    estimator, notes = loaded(model)
    held = held_by(estimator)
    refuse_without_derivatives(held, str(model))
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise InputError(
            f"{model}: its {type(held).__name__} is not fitted; call fit(X, y) and save it again"
        ) from None
    classifies = is_classifier(estimator)
    task: Task = "classification" if classifies else "regression"
    table = read_labelled(path, target, aside=Aside(weight), task=task, model=model.name)
    names = _columns(estimator, table, model)
    if classifies:
        table = coded(table, estimator, model)

    def examples(some: LabelledTable) -> Any:
        every = _as_pandas_reads(some.path, some)
        missing = [name for name in names if name not in every.columns]
        if missing:
            raise InputError(f"{some.name}: has no column {missing[0]!r}, which {model.name} takes")
        frame = every.loc[some.rows, list(names)]
        return frame if hasattr(estimator, "feature_names_in_") else frame.to_numpy()

    def targets(some: LabelledTable) -> Any:
        return np.asarray(estimator.classes_)[some.labels] if classifies else some.labels

    objective = from_estimator(
        estimator, examples(table), targets(table), sample_weight=table.weights, ids=table.rows.tolist()
    )
    note = ""
    if not classifies:
        objective, note = in_own_units(objective, table.labels.astype(np.float64))
    unused = {str(name): f"{model.name} doesn't take it" for name in table.features.columns if name not in names}
    kind = type(last_step(estimator)).__name__
    return Trained(
        objective.replace(class_names=table.classes) if classifies else objective,
        replace(table, features=table.features[[*names, *unused]]),
        Columns((), {}, dropped=unused),
        lambda some: prepare(estimator, examples(some))[0].numpy(),
        (),
        (),
        _seen(estimator, examples(table), targets(table), table),
        f"{kind} of {model.name}",
        is_linear=kind in LINEAR,
        notes=(*table.notes, *notes, *([note] if note else [])),
        targets=(lambda some: prepare(estimator, examples(some), targets(some))[1]) if classifies or note else None,
    )


def coded(table: LabelledTable, estimator: Any, model: Path) -> LabelledTable:
    """The table with classes in the estimator's order.

    Raises
    ------
    InputError
        If it holds a class that the estimator doesn't know.
    """
    known = {level_name(value).strip(): place for place, value in enumerate(np.asarray(estimator.classes_).tolist())}
    unknown = [name for name in table.classes if name not in known]
    if unknown:
        raise InputError(
            f"--target: {table.target!r} holds {', '.join(map(repr, unknown[:5]))}, which {model.name} doesn't know; "
            f"its classes are {', '.join(map(repr, list(known)[:10]))}"
        )
    places = np.array([known[name] for name in table.classes], dtype=np.int64)
    return replace(table, classes=tuple(known), labels=places[table.labels])


def _columns(estimator: Any, table: LabelledTable, model: Path) -> tuple[str, ...]:
    """Those that the estimator was fitted on, by name; by number where it was fitted on an array."""
    every = [str(name) for name in table.features.columns]
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        missing = [str(name) for name in names if str(name) not in every]
        if missing:
            raise InputError(
                f"{table.name}: has no column {missing[0]!r}, which {model.name} takes{near_names(missing[0], every)}"
            )
        return tuple(map(str, names))
    count = getattr(estimator, "n_features_in_", len(every))
    if count != len(every):
        raise InputError(
            f"{model.name}: was fitted on {count} columns without names, and {table.name} has {len(every)} beside "
            f"{table.target!r}; give the table that it was fitted on, or fit it on a data frame"
        )
    return tuple(every)


def _as_pandas_reads(path: Path, table: LabelledTable) -> pd.DataFrame:
    written = table.written
    if written is None:
        return read_table(path)
    separator = r"\s+" if written.separator == SPACES else written.separator
    head: dict[str, Any] = {} if written.has_header else {"header": None, "names": list(written.names)}
    return _parsed(written.text, separator, tuple(head.items()))


@lru_cache(maxsize=2)
def _parsed(text: str, separator: str, head: tuple[tuple[str, Any], ...]) -> pd.DataFrame:
    import io

    frame = pd.read_csv(io.StringIO(text), sep=separator, skipinitialspace=True, **dict(head))
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame


def _seen(estimator: Any, X: Any, y: Any, table: LabelledTable) -> Seen:
    shares = np.bincount(table.labels, weights=table.weights) if table.classifies else np.ones(1)
    score = float(estimator.score(X, y, sample_weight=table.weights))
    return Seen(score, float(shares.max() / shares.sum()) if table.classifies else None)
