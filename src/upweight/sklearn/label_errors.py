"""Label errors as an estimator of scikit-learn's kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from upweight import scalars
from upweight.errors import UpweightWarning, warn
from upweight.estimators import from_estimator
from upweight.tabular.target import MOST_NUMBERS
from upweight.tasks.label_errors import LabelErrors as ClassErrors
from upweight.tasks.label_errors import label_errors
from upweight.tasks.target_errors import TargetErrors, target_errors

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-8
"""Of the default model's solver: scores are those at an optimum."""


class LabelErrors(BaseEstimator):
    """Find examples whose label, or whose number, the rest of the data speaks against.

    Parameters
    ----------
    estimator
        A classifier or regressor, or a Pipeline that ends in one, of those that `upweight.from_estimator` takes; it is
        cloned and fitted. None: standardised columns and ``LogisticRegression``, or ``Ridge`` where y is a quantity:
        has fractions, or more than 20 distinct numbers.
    method
        How labels are scored: see `upweight.tasks.label_errors` and, of a quantity, `upweight.tasks.target_errors`.

    Attributes
    ----------
    scores_
        ``[n]``: the larger, the more suspicious.
    order_
        Positions, the most suspicious first, ``[n]``.
    suspicious_
        ``[n]`` of bool: the model without the example would give it another label, or a number far off.
    suggested_
        What it would give it, ``[n]``.
    errors_
        The task's own result, with evidence and probabilities.
    estimator_
        The fitted estimator.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from upweight.sklearn import LabelErrors
    >>> X, y = load_iris(return_X_y=True)
    >>> y[3] = 2
    >>> finder = LabelErrors().fit(X, y)
    >>> int(finder.order_[0]), int(finder.suggested_[3])
    (3, 0)
    >>> finder.find(1)["given"].tolist()
    ['2']
    """

    def __init__(self, estimator: Any = None, *, method: str = "out-of-sample") -> None:
        self.estimator = estimator
        self.method = method

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LabelErrors:
        """Fit the estimator and score every example.

        Parameters
        ----------
        X, y
            Examples and their labels, as the estimator takes them; ``[n, d]`` and ``[n]``.
        sample_weight
            Given to the estimator's fit, ``[n]``.

        Raises
        ------
        upweight.InputError
            If the estimator isn't supported, or all labels are of one class.
        """
        if y is None:
            raise ValueError("LabelErrors requires y to be passed, but the target y is None: labels are what it judges")
        if self.estimator is None:
            X = validate_data(self, X, dtype="numeric", ensure_min_samples=2)
        else:
            # A pipeline may take text and gaps; it checks by itself.
            validate_data(self, X, skip_check_array=True)
        y = column_or_1d(y, warn=True)
        is_quantity = type_of_target(y) == "continuous" or (self.estimator is None and _are_many_numbers(y))
        if not is_quantity:
            check_classification_targets(y)
        estimator = self.estimator if self.estimator is not None else _default(is_quantity)
        weights = {} if sample_weight is None else {_weight_name(estimator): sample_weight}
        self.estimator_ = clone(estimator).fit(X, y, **weights)
        objective = from_estimator(self.estimator_, X, y, sample_weight=sample_weight)
        method: Any = self.method
        self.errors_: ClassErrors | TargetErrors = (
            label_errors(objective, method=method)
            if hasattr(self.estimator_, "classes_")
            else target_errors(objective, method=method)
        )
        self.scores_ = self.errors_.attribution.scores.double().cpu().numpy()
        self.order_ = self.errors_.order
        if isinstance(self.errors_, TargetErrors):
            self.suspicious_ = self.errors_.is_suspicious.cpu().numpy()
            self.suggested_ = self.errors_.suggested.cpu().numpy()
        else:
            self.suspicious_ = self.errors_.predictions.wrong.cpu().numpy()
            self.classes_ = np.asarray(self.estimator_.classes_)
            self.suggested_ = self.classes_[self.errors_.predictions.predicted.cpu().numpy()]
        return self

    def find(self, k: int | None = None) -> pd.DataFrame:
        """The k most suspicious (None: all that are suspicious), with given and suggested label, and score.

        One row per example: rank, id, position in X, and what `upweight.tasks.LabelErrors.to_pandas` holds.

        Raises
        ------
        upweight.InputError
            If ``k`` is no whole number ≥ 1.
        """
        check_is_fitted(self)
        k = None if k is None else scalars.whole("k", k)
        frame = self.errors_.to_pandas()
        return frame[frame["suspicious"]].reset_index(drop=True) if k is None else frame.head(k)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _are_many_numbers(y: np.ndarray) -> bool:
    """Whether whole numbers are more than classes usually are; then it is said what they are taken for."""
    distinct = len(np.unique(y)) if y.dtype.kind in "iuf" else 0
    if distinct > MOST_NUMBERS:
        warn(
            f"y: {distinct:,} distinct numbers are taken as a quantity; of classes give an estimator, such as "
            "LogisticRegression()",
            UpweightWarning,
        )
    return distinct > MOST_NUMBERS


def _default(is_quantity: bool) -> Any:
    return make_pipeline(StandardScaler(), Ridge() if is_quantity else LogisticRegression(tol=TOLERANCE, max_iter=5000))


def _weight_name(estimator: Any) -> str:
    return f"{estimator.steps[-1][0]}__sample_weight" if hasattr(estimator, "steps") else "sample_weight"
