"""What to do with estimators that have no objective here: each refusal says it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

TORCH = (
    "write what it minimises as a torch.nn.Module with a loss of one value per example, and give upweight.Objective "
    "these with its coefficients"
)
STEADY = "influence functions differentiate a fit; retrain without the examples in question instead, or explain"
HOLDER = "fit it, and give the estimators that it holds, each with the X and y of its own"
NO_TARGET = "it learns from no y; give the Pipeline that ends in what was fitted on its output"
PARTS = {
    "best_estimator_": "give its best_estimator_",
    "final_estimator_": "give its final_estimator_, on what its first estimators say of X",
    "calibrated_classifiers_": "give the estimator in each of its calibrated_classifiers_, on the rows of its own",
    "estimator_": "give its estimator_, on the columns and rows that this was fitted on",
    "estimators_": "give each of its estimators_, with the column of y (or the 0/1 labels) and the rows of its own",
}
"""Where a fitted estimator keeps others that may be mapped."""
OF_OTHERS = {
    "Bagging": "give one of its fitted estimators_[i], on the rows estimators_samples_[i] and the columns "
    "estimators_features_[i], with labels as positions in classes_",
    "AdaBoost": "each round weighs the examples by the rounds before, and keeps no weights; fit its estimator by "
    "itself, and give that",
}
"""By the beginning of the class's name, where what is held is no tree."""
MODULES = {
    "tree": f"trees have no derivatives, and {STEADY} a LogisticRegression or Ridge in its place",
    "ensemble": f"ensembles of trees have no derivatives, and {STEADY} a LogisticRegression or Ridge in its place",
    "neighbors": "neighbours are an explanation: look at kneighbors(X), or explain a LogisticRegression or Ridge",
    "naive_bayes": "it counts rather than minimises; fit LogisticRegression",
    "discriminant_analysis": "it fits moments rather than a loss; fit LogisticRegression",
    "dummy": "it knows no X; fit LogisticRegression or Ridge",
    "gaussian_process": f"for its mean fit Ridge on sklearn.kernel_approximation.Nystroem features, or {TORCH}",
    "kernel_ridge": "fit Ridge on sklearn.kernel_approximation.Nystroem features",
    "isotonic": f"steps have no derivatives, and {STEADY} a Ridge in its place",
    "cross_decomposition": "fit Ridge, or a Pipeline of PCA and Ridge",
    "semi_supervised": "fit LogisticRegression on the rows whose labels are known, or as its inner estimator",
}
"""By the module of scikit-learn that it stands in."""
NAMES = {
    "Lasso": "its l1 penalty has no second derivative; fit Ridge",
    "ElasticNet": "its l1 penalty has no second derivative; fit Ridge",
    "Lars": "it selects columns step by step; fit Ridge on the columns it selected",
    "OrthogonalMatchingPursuit": "it selects columns step by step; fit Ridge on the columns it selected",
    "BayesianRidge": "fit Ridge with alpha=lambda_/alpha_, which has the same coefficients",
    "ARDRegression": "it has a penalty for each column; fit Ridge(alpha=1 / alpha_) on X[:, j] / lambda_[j] ** 0.5",
    "NearestCentroid": "it compares with the mean of each class; fit LogisticRegression",
    "LinearSVR": "its loss has no second derivative; fit Ridge",
    "NuSVC": "fit SVC, which has the same machines for some C",
    "SVR": "its loss has no second derivative; fit Ridge on sklearn.kernel_approximation.Nystroem features",
    "NuSVR": "its loss has no second derivative; fit Ridge on sklearn.kernel_approximation.Nystroem features",
    "OneClassSVM": "it learns from no labels; its support_ are the rows that shape it",
    "QuantileRegressor": "its loss has no second derivative; fit Ridge",
    "Perceptron": "it stops at any separation; fit LogisticRegression or SGDClassifier(loss='log_loss')",
    "PassiveAggressive": "it follows the last rows it saw; fit SGDClassifier(loss='log_loss') or SGDRegressor",
    "RANSACRegressor": "it leaves rows out by itself; fit Ridge on X[inlier_mask_]",
    "TheilSenRegressor": "medians have no derivatives; fit Ridge",
    "HuberRegressor": f"it fits a scale besides; {TORCH}",
}
"""By the beginning of the class's name, the longest first."""


def mend(step: Any) -> str:
    """What its user can do, for an estimator that isn't mapped."""
    kind = step if isinstance(step, type) else type(step)
    for beginning, words in OF_OTHERS.items():
        if kind.__name__.startswith(beginning) and not _is_of_trees(step):
            return words
    for attribute, words in PARTS.items():
        held = getattr(step, "__dict__", {})
        if attribute in held and not _are_trees(held[attribute]):
            return words
    for beginning in sorted(NAMES, key=len, reverse=True):
        if kind.__name__.removeprefix("MultiTask").startswith(beginning):
            return NAMES[beginning]
    if not kind.__module__.startswith("sklearn."):
        return TORCH
    if {"estimator", "estimators", "regressor"} & set(inspect.signature(kind).parameters) and not _is_of_trees(step):
        return HOLDER
    if not _learns_from_targets(kind):
        return NO_TARGET
    return MODULES.get(kind.__module__.split(".")[1], TORCH)


def _learns_from_targets(kind: type) -> bool:
    from sklearn.base import ClassifierMixin, RegressorMixin

    return issubclass(kind, ClassifierMixin | RegressorMixin)


def _are_trees(held: Any) -> bool:
    first = np.ravel(np.asarray(held, dtype=object))[:1]
    return bool(len(first)) and type(first[0]).__module__.startswith("sklearn.tree")


def _is_of_trees(step: Any) -> bool:
    """Whether it is a bagging or boosting of trees, which it is where nothing else is said."""
    if not (step if isinstance(step, type) else type(step)).__name__.startswith(tuple(OF_OTHERS)):
        return False
    held = getattr(step, "estimator", None)
    return held is None or _are_trees(held)
