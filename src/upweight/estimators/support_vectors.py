"""LinearSVC (liblinear) and binary SVC (libsvm, any explicit kernel)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from upweight.errors import InputError
from upweight.estimators.form import Form, TrainingData, class_weights, liblinear_penalties, linear_layer
from upweight.estimators.kernel import Kernel, KernelFeatures
from upweight.estimators.losses import PositiveWeighted
from upweight.losses import Hinge, Loss, SmoothHinge, SquaredHinge


def linear_svc(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """One output for two classes, one against the rest for more."""
    if estimator.penalty != "l2":
        raise InputError(
            f"estimator: LinearSVC(penalty={estimator.penalty!r}) is not twice differentiable, so influence "
            "functions don't hold; fit with penalty='l2'"
        )
    if estimator.multi_class != "ovr":
        raise InputError(
            f"estimator: LinearSVC(multi_class={estimator.multi_class!r}) is not a sum over one-against-rest "
            "machines; fit with multi_class='ovr'"
        )
    loss: Loss = SquaredHinge() if estimator.loss == "squared_hinge" else hinge(smooth)
    by_class = class_weights(estimator, data)
    weights = data.sample_weight
    if len(estimator.classes_) == 2:
        weights = weights * by_class[data.targets]
    elif (by_class != 1).any():
        loss = PositiveWeighted(loss, tuple(by_class.tolist()))
    intercepts = np.atleast_1d(estimator.intercept_) if estimator.fit_intercept else None
    penalties = liblinear_penalties(estimator, 1 / (data.n * estimator.C), estimator.intercept_scaling)
    return Form(linear_layer(np.asarray(estimator.coef_), intercepts), loss, penalties, weights)


def svc(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Features φ with φ(x)·φ(x′) = k(x, x′), then a linear machine w = Σ α_i φ(x_i), free intercept."""
    if len(estimator.classes_) != 2:
        raise InputError(
            f"estimator: SVC on {len(estimator.classes_)} classes trains a machine per pair of classes, which has no "
            "single objective; convert binary SVCs, one per class against the rest"
        )
    kernel = _kernel(estimator, data)
    features = KernelFeatures(kernel, torch.tensor(data.features))
    factor = features.factor.numpy()
    layer = linear_layer((_dual(estimator, data) @ factor)[None], np.atleast_1d(estimator.intercept_))
    weights = data.sample_weight * estimator.class_weight_[data.targets]
    return Form(nn.Sequential(features, layer), hinge(smooth), {"1.weight": 1 / (data.n * estimator.C)}, weights)


def hinge(smooth: float | None) -> Loss:
    """The hinge, smoothed with temperature ``smooth`` if it is given."""
    return Hinge() if smooth is None else SmoothHinge(smooth)


def _kernel(estimator: Any, data: TrainingData) -> Kernel:
    gamma = estimator.gamma
    if gamma == "scale":
        variance = data.features.var()
        gamma = 1 / (data.features.shape[1] * variance) if variance else 1.0
    elif gamma == "auto":
        gamma = 1 / data.features.shape[1]
    name = estimator.kernel if isinstance(estimator.kernel, str) else "a function"
    return Kernel(name, float(gamma), int(estimator.degree), float(estimator.coef0))


def _dual(estimator: Any, data: TrainingData) -> np.ndarray:
    """y_i α_i of every training example, ``[n]``; refuses X that isn't what the machine was fitted on."""
    coefficients, vectors = estimator.dual_coef_, estimator.support_vectors_
    if hasattr(coefficients, "toarray"):  # fitted on a sparse X
        coefficients, vectors = coefficients.toarray(), vectors.toarray()
    fitted = estimator.shape_fit_[0]
    known = estimator.kernel == "precomputed" or (
        data.n == fitted and np.allclose(data.features[estimator.support_], vectors, rtol=1e-6, atol=0)
    )
    if data.n != fitted or not known:
        raise InputError(
            f"X: its {data.n} examples are not the {fitted} that the SVC was fitted on (its support vectors stand "
            "elsewhere); give the training data, in the same order"
        )
    dual = np.zeros(data.n)
    dual[estimator.support_] = np.ravel(coefficients)
    return dual
