"""Verification by leave-one-out, end to end."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.func import functional_call

import upweight as uw
from problems import Problem, close, convex, mlp, unflatten, with_parameters
from upweight.errors import InputError, NotStationaryWarning
from upweight.evaluation import Training
from upweight.evaluation.counterfactuals import NoisyWarning


def test_actual_changes_are_those_of_refits(convex: Problem) -> None:
    influence = uw.Influence(convex.objective())
    found = influence.verify(convex.queries, k=6)
    base = convex.query_losses(convex.theta)
    for q in range(len(base)):
        for j, position in enumerate(found.positions[q].tolist()):
            refit = convex.optimum(convex.counts_without(position))
            close(found.actual[q, j], (convex.query_losses(refit) - base)[q], rtol=1e-5, atol=1e-9)


def test_predictions_are_the_attribution_at_the_largest_scores() -> None:
    problem = convex("softmax")
    influence = uw.Influence(problem.objective())
    scores = influence.attribute(problem.queries).scores
    found = influence.verify(problem.queries, k=4)
    close(found.predicted, scores.gather(1, found.positions))
    assert found.predicted.abs().min(1).values.ge(scores.abs().topk(4, dim=1).values.min(1).values - 1e-15).all()


def test_leverage_correction_brings_the_slope_to_one() -> None:
    problem = convex("softmax", n=60)
    influence = uw.Influence(problem.objective())
    margin = "margin"  # nearly linear in θ, so that the step of θ is what is judged
    options = {"measurement": margin, "select": "random"}
    plain = influence.verify(problem.queries, k=20, **options)
    corrected = influence.verify(problem.queries, k=20, leverage_corrected=True, **options)
    close(plain.positions, corrected.positions)
    assert plain.slope > 1.03
    assert abs(corrected.slope - 1) < 0.3 * abs(plain.slope - 1)
    assert corrected.pearson > 0.995


def test_random_examples_are_chosen_by_the_seed() -> None:
    problem = convex("logistic")
    influence = uw.Influence(problem.objective())
    first, again, other = (influence.verify(problem.queries, k=5, select="random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.positions, again.positions)
    assert not torch.equal(first.positions, other.positions)


def test_a_model_off_its_optimum_is_told_by_its_noise_floor() -> None:
    problem = convex("logistic")
    moved = with_parameters(problem.model, problem.theta + 0.02)
    objective = uw.Objective(moved, uw.losses.BinaryLogistic(), (problem.x, problem.y), l2=problem.l2)
    with pytest.warns(NotStationaryWarning, match=r"can move the measurement by"):
        found = uw.Influence(objective).verify(problem.queries, k=5)
    assert found.noise_floor > uw.Influence(problem.objective()).verify(problem.queries, k=5).noise_floor


def refit(problem: Problem, noise: float = 0.0):
    """A user's training: the optimum on the examples given, moved by the seed as far as ``noise``."""

    def train(indices: Tensor, seed: int) -> nn.Module:
        counts = torch.zeros(problem.n, dtype=torch.float64)
        counts[indices] = 1 / problem.n
        theta = problem.optimum(counts)
        generator = torch.Generator().manual_seed(1000 * seed + len(indices))
        return with_parameters(problem.model, theta + noise * torch.randn(len(theta), generator=generator).double())

    return train


def test_a_users_training_is_compared_with_itself_on_all_examples() -> None:
    problem = convex("logistic")
    influence = uw.Influence(problem.objective())
    expected = influence.verify(problem.queries, k=4)
    found = uw.evaluation.against_retraining(influence, problem.queries, Training(refit(problem), (3, 4)), k=4)
    close(found.predicted, expected.predicted)
    close(found.actual, expected.actual, rtol=1e-5, atol=1e-9)
    assert found.standard_errors is not None
    close(found.standard_errors, torch.zeros_like(found.actual))
    assert found.models == 2 * (1 + len(found.positions.unique()))
    assert "seeds per example: 2" in repr(found)


def test_noise_of_training_is_the_standard_error_over_seeds() -> None:
    problem = convex("logistic")
    influence = uw.Influence(problem.objective())
    with pytest.warns(NoisyWarning, match="the noise of 3 seeds can move the measurement"):
        found = influence.verify(problem.queries, k=3, counterfactual=Training(refit(problem, 0.05), (0, 1, 2)))
    assert found.standard_errors is not None
    position, q = int(found.positions[1, 2]), 1
    everything = torch.arange(problem.n)
    changes = []
    for seed in (0, 1, 2):
        train = refit(problem, 0.05)
        without, whole = (train(kept, seed) for kept in (everything[everything != position], everything))
        theta = [torch.cat([p.detach().flatten() for p in model.parameters()]) for model in (without, whole)]
        changes.append(problem.query_losses(theta[0])[q] - problem.query_losses(theta[1])[q])
    close(found.actual[1, 2], torch.stack(changes).mean())
    close(found.standard_errors[1, 2], torch.stack(changes).std() / math.sqrt(3))
    # Over every query and example left out, not only each query's own.
    assert found.noise_floor == pytest.approx(float(found.standard_errors.square().mean().sqrt()), rel=0.02)
    assert math.isnan(influence.verify(problem.queries, k=3, counterfactual=refit(problem)).noise_floor)


def bregman_response(problem: Problem, left_out: int, damping: float) -> Tensor:
    """argmin (1/n) Σ D_i + ½(λ+δ)‖θ − θ_s‖² − ℓ_out/n, by scipy on the plain formula."""

    def outputs(theta: Tensor) -> Tensor:
        return functional_call(problem.model, unflatten(problem.model, theta), (problem.x,))

    start = problem.theta
    trained = outputs(start).detach().requires_grad_()
    slopes = torch.autograd.grad(problem.compare(trained, problem.y).sum(), trained)[0]

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(theta).requires_grad_()
        losses = problem.compare(outputs(point), problem.y)
        near = 0.5 * (problem.l2 + damping) * ((point - start) ** 2).sum()
        total = (losses.sum() - (slopes * outputs(point)).sum() - losses[left_out]) / problem.n + near
        return total.item(), torch.autograd.grad(total, point)[0].numpy()

    return torch.from_numpy(minimize(value, start.numpy(), jac=True, method="BFGS", options={"gtol": 1e-9}).x)


def test_bregman_responses_are_what_influence_predicts_away_from_an_optimum() -> None:
    problem = mlp()
    step = torch.randn(len(problem.theta), generator=torch.Generator().manual_seed(0)).double()
    moved = replace(problem, model=with_parameters(problem.model, problem.theta + 0.2 * step))
    influence = uw.Influence(moved.objective(), uw.inverse.Dense(uw.curvature.GGN(), damping=0.2))
    found = uw.evaluation.against_pbrf(influence, moved.queries, k=6)
    base = moved.query_losses(moved.theta)
    for q, j in ((0, 0), (2, 3)):
        theta = bregman_response(moved, int(found.positions[q, j]), 0.2)
        close(found.actual[q, j], (moved.query_losses(theta) - base)[q], rtol=1e-4, atol=1e-8)
    assert found.pearson > 0.98
    assert found.spearman > 0.99
    assert found.noise_floor == 0
    assert "proximal Bregman response at δ = 0.2" in repr(found)
    with pytest.warns(NotStationaryWarning, match="can move the measurement"):
        assert influence.verify(moved.queries, k=6, tolerance=1e-3).pearson < 0.5


def test_a_retrained_model_keeps_its_own_buffers() -> None:
    class Scaled(nn.Linear):
        def __init__(self, scale: float):
            super().__init__(2, 1)
            self.register_buffer("scale", torch.tensor(scale))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * super().forward(x)

    x, y = torch.randn(6, 2), torch.randn(6)
    models = {seed: Scaled(float(seed)).eval() for seed in (1, 2)}
    objective = uw.Objective(models[1], uw.losses.SquaredError(), (x, y), l2=0.1)
    training = Training(lambda indices, seed: models[seed], seeds=(2, 1))
    for found, seed in zip(training.models(objective, [torch.arange(6)]), (2, 1), strict=True):
        with torch.no_grad():
            close(found.losses(), 0.5 * (models[seed](x).squeeze(1) - y) ** 2, rtol=1e-5)


def test_result_is_a_table_a_figure_and_words() -> None:
    problem = convex("ridge")
    found = uw.Influence(problem.objective(ids=[f"row {i}" for i in range(problem.n)])).verify(problem.queries, k=3)
    table = found.to_pandas()
    assert len(table) == 15
    assert table["id"].str.startswith("row").all()
    assert table["query"].tolist() == [q for q in range(5) for _ in range(3)]
    assert "Pearson" in repr(found)
    assert found.figure().axes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 1}, "k: give a whole number from 2 to"),
        ({"k": 3, "select": "best"}, "'random'"),
        ({"k": 3, "counterfactual": "loo"}, "'retrain', 'pbrf', a function"),
        ({"k": 3, "counterfactual": "pbrf", "renormalize": True}, "keeps the weights 1/n"),
    ],
)
def test_refuses(options: dict, words: str, unchecked: None) -> None:
    problem = convex("ridge")
    with pytest.raises(InputError, match=words):
        uw.Influence(problem.objective()).verify(problem.queries, **options)


@pytest.mark.parametrize(
    ("train", "seeds", "words"), [(None, (0,), "train: give a function"), (print, (), "seeds: give")]
)
def test_refuses_no_training(train: Any, seeds: tuple, words: str, unchecked: None) -> None:
    with pytest.raises(InputError, match=words):
        Training(train, seeds)
