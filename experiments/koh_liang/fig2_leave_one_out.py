"""Figure 2, left and middle: predicted against actual leave-one-out, ten-class logistic regression, full MNIST.

n = 55,000, p = 7,840, λ = .01, one wrongly classified test image; the 500 training images of largest |I| are each
left out and the model retrained to ‖∇R‖ ≤ 1e-7. Left: H⁻¹v by conjugate gradients; middle: by LiSSA.
"""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor

import upweight as uw
from experiments.koh_liang import mnist
from experiments.results import Result, Stopwatch, save
from experiments.running import run
from upweight import plots

QUICK = bool(os.environ.get("QUICK"))
L2, TEST_INDEX, POINTS, TOLERANCE = 0.01, 8, 50 if QUICK else 500, 1e-7


def main() -> None:
    watch = Stopwatch()
    train, (test_x, test_y) = mnist.ten_classes(5_000 if QUICK else None)
    query = (test_x[TEST_INDEX : TEST_INDEX + 1], test_y[TEST_INDEX : TEST_INDEX + 1])
    with watch.stage("training"):
        model = torch.nn.Linear(784, 10, bias=False, dtype=torch.float64)
        torch.nn.init.zeros_(model.weight)
        objective = uw.retraining.fit(uw.Objective(model, uw.losses.CrossEntropy(), train, l2=L2))
    guess = int(objective.outputs(query).argmax())
    # float32 is enough for the stochastic estimate, and for the factor that preconditions the retraining.
    single = objective.to(torch.float32)
    with watch.stage("influence by CG"):
        by_cg = uw.Influence(objective, uw.inverse.CG(tolerance=1e-6))
        attribution = by_cg.attribute(query)
    with watch.stage("influence by LiSSA"):
        lissa = uw.inverse.LiSSA(batch_size=256, repeats=10)
        solution = uw.Influence(single, lissa).query_solution(query)[0]
    with watch.stage("factorising H"):
        factor = uw.inverse.Dense().fit(single)
    with watch.stage("retraining"):
        left = uw.evaluation.verify(by_cg, query, POINTS, tolerance=TOLERANCE, solver=factor)
    with watch.stage("leverages"):
        points = left.positions[0]
        corrected = uw.Influence(single, factor).attribute(query, train=points, leverage_corrected=True)
    leverage = uw.evaluation.agreement(corrected.scores, left.actual)
    stochastic, error = estimates(single, solution, points)
    middle = uw.evaluation.agreement(stochastic, left.actual)
    numbers = {
        "n": objective.n,
        "p": objective.p,
        "test_label": int(query[1]),
        "predicted_label": guess,
        "gradient_norm": by_cg.stationarity.gradient_norm,
        "points": POINTS,
        "largest_retrained_gradient_norm": float(left.gradient_norms.max()),
        "range_of_actual_changes": [float(left.actual.min()), float(left.actual.max())],
        "cg": {
            "pearson": left.pearson,
            "spearman": left.spearman,
            "slope": left.slope,
            "solver": str(attribution.report),
        },
        "cg_leverage_corrected": {"pearson": leverage.pearson, "slope": leverage.slope},
        "lissa": {
            "pearson": middle.pearson,
            "spearman": middle.spearman,
            "slope": middle.slope,
            "median_standard_error": float(error.median()),
            "median_size": float(stochastic.abs().median()),
            "solver": str(solution.report),
        },
    }
    save(
        Result(
            id="fig2",
            title="Fig 2 left, middle: leave-one-out",
            paper="on the diagonal, range ≈ ±.03",
            ours=f"CG: Pearson {left.pearson:.5f}, slope {left.slope:.4f} (leverage-corrected: {leverage.pearson:.6f}, "
            f"{leverage.slope:.4f}); LiSSA: Pearson {middle.pearson:.4f}, slope {middle.slope:.3f}, "
            f"standard error {float(error.median() / stochastic.abs().median()):.1%} of the median prediction",
            why=f"{POINTS} models retrained to ‖∇R‖ ≤ {float(left.gradient_norms.max()):.1e}, changes from "
            f"{float(left.actual.min()):+.4f} to {float(left.actual.max()):+.4f}. A slope above 1 is the "
            "leverage h of the left-out image: leaving it out takes its curvature away too, so the change is larger by "
            "1/(1 − h); dividing it out brings the slope to 1.",
            numbers=numbers,
            quick=QUICK,
        ),
        {
            "fig2_left_cg": plots.predicted_against_actual(
                left.predicted, left.actual, unit="nats", title="Exact (CG)"
            ),
            "fig2_left_corrected": plots.predicted_against_actual(
                corrected.scores, left.actual, unit="nats", title="CG, leverage-corrected"
            ),
            "fig2_middle_lissa": plots.predicted_against_actual(
                stochastic, left.actual, unit="nats", predicted_standard_error=error, title="Stochastic (LiSSA)"
            ),
        },
        watch,
    )


def estimates(objective: uw.Objective, solution: uw.inverse.Solution, points: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the repeats' predictions, and its standard error."""
    assert solution.repeats is not None
    scores = objective.inner(solution.repeats[:, 0], points) / objective.n
    return scores.mean(0, keepdim=True), scores.std(0, keepdim=True) / math.sqrt(len(scores))


if __name__ == "__main__":
    run(main)
