"""The user's X and y in the form the last step of an estimator sees, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse

from upweight.messages import InputError

DENSE_NUMBERS = 2**28
"""Numbers up to which a sparse X is made dense (2 GiB in float64)."""


def last_step(estimator: Any) -> Any:
    """The estimator itself, or what pipelines and transformers of targets end in."""
    inner = _inner(estimator)
    return estimator if inner is None else last_step(inner)


def _inner(estimator: Any) -> Any:
    """What a pipeline ends in, or a fitted transformer of targets holds; None of anything else."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline):
        return estimator.steps[-1][1]
    return getattr(estimator, "regressor_", None) if isinstance(estimator, TransformedTargetRegressor) else None


def is_unfitted_target_transformer(step: Any) -> bool:
    """Whether this is a TransformedTargetRegressor before fit: a last step only because it holds none yet."""
    from sklearn.compose import TransformedTargetRegressor

    return isinstance(step, TransformedTargetRegressor)


def transformed(estimator: Any, X: Any) -> Any:
    """X after a pipeline's fitted preprocessing; X itself for anything else."""
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline) and len(estimator.steps) > 1:
        try:
            X = estimator[:-1].transform(X)
        except ValueError as error:
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
    X = transformed(estimator, X)
    step = last_step(estimator)
    _refuse_other_columns(step, X)
    X = _dense(X)
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
    values = np.asarray(y)
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
    values = np.asarray(given, dtype=np.float64)
    if values.shape != (n,) or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(
            f"sample_weight: need {n} finite numbers ≥ 0, one per example, as given to fit; got shape {values.shape}"
            + (f" from {values.min():g} to {values.max():g}" if values.size else "")
        )
    return values.copy()


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
    if labels.ndim != 1:
        raise InputError(f"y: {type(step).__name__} needs one label per example; got shape {labels.shape}")
    positions = {label: position for position, label in enumerate(step.classes_.tolist())}
    codes = np.array([positions.get(label, -1) for label in labels.tolist()], dtype=np.int64)
    if (codes < 0).any():
        unknown = list(dict.fromkeys(labels[codes < 0].tolist()))
        raise InputError(
            f"y: labels {unknown[:5]} are not among the estimator's classes {step.classes_.tolist()[:10]}; give labels "
            "as they were given to fit"
        )
    return codes


def _numbers(step: Any, values: np.ndarray) -> np.ndarray:
    outputs = step.n_outputs_ if hasattr(step, "coefs_") else np.atleast_2d(step.coef_).shape[0]
    shape = (len(values),) if outputs == 1 else (len(values), outputs)
    if values.shape != shape:
        raise InputError(
            f"y: {type(step).__name__} was fitted on {outputs} targets, so y is {shape}; got {values.shape}"
        )
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
