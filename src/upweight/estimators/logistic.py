"""LogisticRegression and LogisticRegressionCV, binary and multinomial."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from upweight.errors import InputError
from upweight.estimators.form import Form, TrainingData, class_weights, liblinear_penalties, linear_layer
from upweight.estimators.losses import CentredCrossEntropy
from upweight.losses import BinaryLogistic, CrossEntropy


def logistic(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """One output for two classes (positive: ``classes_[1]``), one per class otherwise.

    C and the intercept's penalty are those of the final fit: LogisticRegressionCV refits with ``C_``, and with
    liblinear's intercept scaling at 1 whatever its argument says.
    """
    cross_validated = hasattr(estimator, "C_")
    _refuse_other_problems(estimator, cross_validated)
    strength = _single(estimator.C_) if cross_validated else float(estimator.C)
    unpenalised = estimator.penalty is None or math.isinf(strength)
    l2 = 0.0 if unpenalised else 1 / (data.n * strength)
    weights = data.sample_weight * class_weights(estimator, data)[data.targets]
    coefficients = np.array(estimator.coef_, dtype=np.float64)
    intercepts = np.array(estimator.intercept_, dtype=np.float64) if estimator.fit_intercept else None
    if len(estimator.classes_) == 2:
        scaling = 1.0 if cross_validated else estimator.intercept_scaling
        liblinear = estimator.solver == "liblinear"
        penalties = liblinear_penalties(estimator, l2, scaling) if liblinear else {"weight": l2}
        return Form(linear_layer(coefficients, intercepts), BinaryLogistic(), penalties, weights)
    if intercepts is None and not unpenalised:
        return Form(linear_layer(coefficients, None), CrossEntropy(), {"weight": l2}, weights)
    # Free directions that a softmax doesn't see are put to zero, where solvers that start at zero leave them.
    if intercepts is not None:
        intercepts = intercepts - intercepts.mean()
    if unpenalised:
        coefficients = coefficients - coefficients.mean(0)
    return Form(linear_layer(coefficients, intercepts), CentredCrossEntropy(), {"weight": l2}, weights)


def _single(values: Any) -> float:
    """C_, which older versions give once per class."""
    found = np.unique(np.asarray(values, dtype=np.float64))
    if len(found) > 1:
        raise InputError(f"estimator: C_ differs between classes ({found[0]:g} and {found[1]:g}); refit with one C")
    return float(found[0])


def _refuse_other_problems(estimator: Any, cross_validated: bool) -> None:
    name = type(estimator).__name__
    ratio = getattr(estimator, "l1_ratio_" if cross_validated else "l1_ratio", None)
    mixed = ratio is not None and bool(np.any(np.asarray(ratio, dtype=np.float64) > 0))
    if estimator.penalty == "l1" or (estimator.penalty in ("elasticnet", "deprecated") and mixed):
        raise InputError(
            f"estimator: {name} with an l1 penalty (penalty={estimator.penalty!r}, l1_ratio={ratio}) is not twice "
            "differentiable, so influence functions don't hold; fit with the l2 penalty (l1_ratio=0)"
        )
    if cross_validated and not estimator.refit:
        raise InputError(
            f"estimator: {name}(refit=False) averages the coefficients of its folds, which minimise no objective; "
            "fit with refit=True"
        )
    multi_class = getattr(estimator, "multi_class", "auto")  # gone since scikit-learn 1.8
    two = len(estimator.classes_) == 2
    one_against_rest = multi_class == "ovr" or (multi_class != "multinomial" and estimator.solver == "liblinear")
    if multi_class == "multinomial" if two else one_against_rest:
        raise InputError(
            f"estimator: {name}(multi_class={multi_class!r}, solver={estimator.solver!r}) on {len(estimator.classes_)} "
            "classes is not the logistic (two classes) or multinomial (more) problem; fit with multi_class='auto' and "
            "solver='lbfgs'"
        )
