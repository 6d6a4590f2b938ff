"""Figure 1: what each part of influence adds. MNIST 1 against 7, logistic, λ = .01, one test image of a 7."""

from __future__ import annotations

import os

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats

import upweight as uw
from experiments.koh_liang import mnist
from experiments.results import Result, Stopwatch, save
from experiments.running import run

QUICK = bool(os.environ.get("QUICK"))
L2, TEST_INDEX = 0.01, 30
PALETTE = {True: "#2b7a3d", False: "#c0392b"}


def main() -> None:
    watch = Stopwatch()
    (x, y), (test_x, test_y) = mnist.one_against_seven(2_000 if QUICK else None)
    n = len(x)
    with watch.stage("training"):
        model = torch.nn.Linear(x.shape[1], 1, bias=False, dtype=torch.float64)
        torch.nn.init.zeros_(model.weight)
        objective = uw.retraining.fit(uw.Objective(model, uw.losses.BinaryLogistic(), (x, y), l2=L2))
    query = (test_x[TEST_INDEX : TEST_INDEX + 1], test_y[TEST_INDEX : TEST_INDEX + 1])
    with watch.stage("influence"):
        influence = uw.Influence(objective)
        true = n * influence.attribute(query).scores[0]  # −I_up,loss
    theta, (x_test, y_test) = objective.params, (query[0][0], query[1][0])
    hessian_inverse_test = influence.solver.solve(x_test[None]).x[0]
    weight = torch.sigmoid(-y * (x @ theta))
    test_weight = torch.sigmoid(-y_test * (x_test @ theta))
    variants = {
        "without train loss": y_test * y * test_weight * (x @ hessian_inverse_test),
        "without H": y_test * y * test_weight * weight * (x @ x_test),
        "without train loss and H": y_test * y * (x @ x_test),
    }
    closed = y_test * y * test_weight * weight * (x @ hessian_inverse_test)
    same = y == y_test
    ranked = torch.argsort(true)
    harmful = ranked[same[ranked]][4]  # the fifth most harmful of the same label, as the authors show
    numbers = {
        "n": n,
        "gradient_norm": influence.stationarity.gradient_norm,
        "closed_form_error": float((closed - true).abs().max() / true.abs().max()),
        "harmful_same_label": {"position": int(harmful), "minus_influence": float(true[harmful])},
        "negative_influences_of_same_label": float((true[same] < 0).double().mean()),
    }
    for name, values in variants.items():
        pearson, spearman = np.corrcoef(values, true)[0, 1], stats.spearmanr(values, true).statistic
        numbers[name] = {"pearson": float(pearson), "spearman": float(spearman)}
    figure = draw(variants, true, same, query[0], x[harmful])
    text = ", ".join(f"{name} R = {numbers[name]['pearson']:.2f}" for name in variants)
    save(
        Result(
            id="fig1",
            title="Fig 1: components of influence",
            paper="scatter only: each part matters; inner products miss harmful images of the same class",
            ours=f"correlation with the full influence: {text}",
            why=f"{numbers['negative_influences_of_same_label']:.0%} of the training sevens are harmful to this test "
            "seven; without H every image of the same class counts as helpful (pixels are ≥ 0, so inner products "
            "are), and without the train-loss weight the well-fitted images crowd in. I_up,loss equals the closed "
            f"form −y_t·y·σ(−y_tθᵀx_t)·σ(−yθᵀx)·x_tᵀH⁻¹x to {numbers['closed_form_error']:.0e}.",
            numbers=numbers,
            quick=QUICK,
        ),
        {"fig1_components": figure},
        watch,
    )


def draw(variants, true, same, test_image, harmful_image) -> Figure:
    """Three scatters, the test image and a harmful image of its class."""
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    axes = figure.subplots(1, 5)
    colours = [PALETTE[bool(value)] for value in same]
    for axis, (name, values) in zip(axes, variants.items(), strict=False):
        axis.scatter(values, true, c=colours, s=4, linewidths=0, rasterized=True)
        axis.set_xlabel(f"−I_up,loss\n{name}")
        axis.axhline(0, color="0.8", lw=0.7, zorder=0)
        axis.axvline(0, color="0.8", lw=0.7, zorder=0)
    axes[0].set_ylabel("−I_up,loss")
    axes[0].set_title("green: same label (7), red: other (1)", fontsize=8)
    for axis, image, name in zip(
        axes[3:], (test_image, harmful_image), ("test image", "harmful training image"), strict=True
    ):
        axis.imshow(image.reshape(28, 28), cmap="gray_r")
        axis.set_title(f"{name}, label 7", fontsize=9)
        axis.set_axis_off()
    return figure


if __name__ == "__main__":
    run(main)
