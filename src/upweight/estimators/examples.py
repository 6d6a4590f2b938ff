"""The user's X and y in the form the last step of an estimator sees, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from upweight.arrays import as_tensor
from upweight.errors import InputError

DENSE_NUMBERS = 2**28
"""Numbers up to which a sparse X is made dense (2 GiB in float64)."""
UNREAL = {"c": "complex numbers", "M": "dates", "m": "durations"}
"""Kinds of arrays that NumPy makes real numbers of without a word."""


def last_step(estimator: Any) -> Any:
    """The estimator itself, or what pipelines and transformers of targets end in."""
    inner = _inner(estimator)
    return estimator if inner is None else last_step(inner)


def _inner(estimator: Any) -> Any:
    """What a pipeline ends in, or a fitted transformer of targets holds; None of anything else."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline):
        return estimator.steps[-1][1] if estimator.steps else None
    return getattr(estimator, "regressor_", None) if isinstance(estimator, TransformedTargetRegressor) else None


def ends_in_nothing(estimator: Any) -> str | None:
    """Where a pipeline has no estimator at its end, in words."""
    from sklearn.pipeline import Pipeline

    inner = _inner(estimator)
    if not isinstance(estimator, Pipeline):
        return None if inner is None else ends_in_nothing(inner)
    if not estimator.steps:
        return "the Pipeline has no steps"
    if inner is None or isinstance(inner, str):
        return f"the Pipeline ends in {inner!r}, which learns nothing"
    return ends_in_nothing(inner)


def is_unfitted_target_transformer(step: Any) -> bool:
    """Whether this is a TransformedTargetRegressor before fit: a last step only because it holds none yet."""
    from sklearn.compose import TransformedTargetRegressor

    return isinstance(step, TransformedTargetRegressor)


def transformed(estimator: Any, X: Any) -> Any:
    """X after a pipeline's fitted preprocessing; X itself for anything else."""
    from sklearn.exceptions import NotFittedError
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline) and len(estimator.steps) > 1:
        try:
            X = estimator[:-1].transform(X)
        except NotFittedError as error:
            raise InputError(
                f"estimator: the pipeline's preprocessing is not fitted; call fit(X, y) of all of it first ({error})"
            ) from error
        except Exception as error:
            raise InputError(f"X: the pipeline's preprocessing refused it: {error}") from error
    inner = _inner(estimator)
    return X if inner is None else transformed(inner, X)


def _transformed_targets(estimator: Any, values: np.ndarray) -> np.ndarray:
    """Targets as the transformers of targets on the way to the last step give them."""
    from sklearn.compose import TransformedTargetRegressor

    inner = _inner(estimator)
    if inner is None:
        return values
    if isinstance(estimator, TransformedTargetRegressor):
        columns = values if values.ndim == 2 else values[:, None]
        found = np.asarray(estimator.transformer_.transform(columns))
        values = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    return _transformed_targets(inner, values)


def index(X: Any) -> np.ndarray | None:
    """The names of rows that a DataFrame carries; None where it only numbers them, or names two alike."""
    found = getattr(X, "index", None)
    if found is None or not hasattr(X, "columns") or not found.is_unique or found.nlevels > 1:
        return None
    return np.asarray(found)


def class_names(estimator: Any) -> tuple[str, ...] | None:
    """Names of a classifier's classes; None of a regressor."""
    found = getattr(last_step(estimator), "classes_", None)
    return None if found is None else tuple(map(str, found.tolist()))


def features(estimator: Any, X: Any) -> Float[np.ndarray, "n d"]:
    """X as the last step sees it: dense, float64, finite, with as many features as it was fitted on.

    Raises
    ------
    InputError
        If it isn't so; the message names the value and the mend.
    """
    X = transformed(estimator, detached(X, "X"))
    step = last_step(estimator)
    _refuse_other_columns(step, X)
    X = _dense(X)
    _refuse_no_reals("X", X, "give real numbers (days since a date, say), or a Pipeline whose preprocessing makes them")
    try:
        # Writeable and contiguous: torch shares such an array and warns of others.
        values = np.require(np.asarray(X, dtype=np.float64), requirements=["C", "W"])
    except (TypeError, ValueError) as error:
        raise InputError(
            f"X: {type(X).__name__} can't become numbers ({error}); give numbers, or a Pipeline whose preprocessing "
            "makes them"
        ) from error
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"X: must be [examples, features], neither of them 0; got shape {values.shape}")
    expected = getattr(step, "n_features_in_", values.shape[1])  # a kernel function may take anything
    if values.shape[1] != expected:
        raise InputError(
            f"X: has {values.shape[1]} features, but {type(step).__name__} was fitted on {expected}; give the same "
            "features"
        )
    finite = np.isfinite(values).all(1)
    if not finite.all():
        raise InputError(
            f"X: NaN or infinite values in {(~finite).sum()} examples, first at position {np.argmin(finite)}; drop or "
            "fill them (e.g. SimpleImputer in a Pipeline)"
        )
    return values


def targets(estimator: Any, y: Any, n: int) -> np.ndarray:
    """Targets y as positions in ``classes_``, ``[n]``; for regressors as numbers, ``[n]`` or ``[n, outputs]``.

    Raises
    ------
    InputError
        For a wrong length, labels that the estimator doesn't know, or numbers that aren't finite.
    """
    y = detached(y, "y")
    try:
        values = np.asarray(y)
    except (TypeError, ValueError) as error:
        raise InputError(f"y: give {n} targets, one per example of X ({error})") from error
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 0 or len(values) != n:
        raise InputError(f"y: need {n} targets, one per example of X; got shape {values.shape}")
    step, values = last_step(estimator), _transformed_targets(estimator, values)
    return _codes(step, values) if hasattr(step, "classes_") else _numbers(step, values)


def sample_weights(given: Any, n: int) -> Float[np.ndarray, " n"]:
    """One weight per example; ones if none are given."""
    if given is None:
        return np.ones(n)
    _refuse_no_reals("sample_weight", given, "give what was given to fit")
    given = detached(given, "sample_weight")
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"sample_weight: need {n} finite numbers ≥ 0, one per example, as given to fit ({error}); class_weight is "
            "read from the estimator"
        ) from error
    if values.shape != (n,) or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(
            f"sample_weight: need {n} finite numbers ≥ 0, one per example, as given to fit; got shape {values.shape}"
            + (f" from {values.min():g} to {values.max():g}" if values.size else "")
        )
    return values.copy()


def detached(values: Any, name: str) -> Any:
    """A tensor as an array; anything else as it is."""
    return as_tensor(values, name).cpu().numpy() if isinstance(values, Tensor) else values


def _refuse_no_reals(name: str, values: Any, mend: str) -> None:
    """Dates and durations would be taken as nanoseconds, and complex numbers lose their imaginary part."""
    if hasattr(values, "columns") and hasattr(values, "dtypes"):
        odd = [column for column, kind in values.dtypes.items() if getattr(kind, "kind", "f") in UNREAL]
        if odd:
            kind = UNREAL[values.dtypes[odd[0]].kind]
            raise InputError(f"{name}: columns {odd[:5]} hold {kind}; {mend}")
        return
    single = getattr(getattr(values, "dtype", None), "kind", None)
    if single in UNREAL:
        raise InputError(f"{name}: holds {UNREAL[single]}; {mend}")


def _dense(X: Any) -> Any:
    if not sparse.issparse(X):
        return X
    matrix: Any = X
    numbers = matrix.shape[0] * matrix.shape[1]
    if numbers > DENSE_NUMBERS:
        raise InputError(
            f"X: sparse {matrix.shape} is {8 * numbers / 2**30:.1f} GiB when dense, and up to "
            f"{8 * DENSE_NUMBERS / 2**30:.0f} GiB is converted; reduce its features first, e.g. by TruncatedSVD in the "
            "pipeline"
        )
    return matrix.toarray()


def _codes(step: Any, labels: np.ndarray) -> np.ndarray:
    name = type(step).__name__
    if _is_multilabel(step):
        raise InputError(f"y: {name} was fitted on several labels per example; fit one {name} per column of y")
    if labels.ndim != 1:
        raise InputError(
            f"y: {name} needs one label per example; got shape {labels.shape}; of one-hot labels give y.argmax(1)"
        )
    odd = next((label for label in labels.tolist() if getattr(label, "__hash__", None) is None), None)
    if odd is not None:
        raise InputError(
            f"y: {odd!r} is a {type(odd).__name__}, which is no label; give labels as they were given to fit"
        )
    positions = {label: position for position, label in enumerate(step.classes_.tolist())}
    codes = np.array([positions.get(label, -1) for label in labels.tolist()], dtype=np.int64)
    if (codes < 0).any():
        unknown = list(dict.fromkeys(labels[codes < 0].tolist()))
        raise InputError(
            f"y: labels {unknown[:5]} are not among the estimator's classes {step.classes_.tolist()[:10]}; give labels "
            "as they were given to fit"
        )
    return codes


def _is_multilabel(step: Any) -> bool:
    """Whether a RidgeClassifier or MLPClassifier says of each of several labels whether an example has it."""
    return str(getattr(getattr(step, "_label_binarizer", None), "y_type_", "")).startswith("multilabel")


def _numbers(step: Any, values: np.ndarray) -> np.ndarray:
    outputs = step.n_outputs_ if hasattr(step, "coefs_") else np.atleast_2d(step.coef_).shape[0]
    shape = (len(values),) if outputs == 1 else (len(values), outputs)
    if values.shape != shape:
        raise InputError(
            f"y: {type(step).__name__} was fitted on {outputs} targets, so y is {shape}; got {values.shape}"
        )
    _refuse_no_reals("y", values, "give numbers")
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"y: targets of {type(step).__name__} must be numbers ({error})") from error
    finite = np.isfinite(numbers).reshape(len(numbers), -1).all(1)
    if not finite.all():
        raise InputError(
            f"y: NaN or infinite values in {(~finite).sum()} examples, first at position {np.argmin(finite)}; drop them"
        )
    return numbers


def _refuse_other_columns(step: Any, X: Any) -> None:
    fitted = getattr(step, "feature_names_in_", None)
    columns = getattr(X, "columns", None)
    if fitted is None or columns is None or list(columns) == list(fitted):
        return
    raise InputError(
        f"X: its columns {list(columns)[:5]} are not those of fit, {list(fitted)[:5]}, in the same order; use X[names]"
    )
