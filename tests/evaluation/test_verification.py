"""Verification by leave-one-out, end to end."""

import pytest
import torch

import upweight as uw
from problems import Problem, close, convex, with_parameters
from upweight.messages import InputError, NotStationaryWarning


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
    plain = influence.verify(problem.queries, k=20, measurement=margin)
    corrected = influence.verify(problem.queries, k=20, measurement=margin, leverage_corrected=True)
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


def test_result_is_a_table_a_figure_and_words() -> None:
    problem = convex("ridge")
    found = uw.Influence(problem.objective(ids=[f"row {i}" for i in range(problem.n)])).verify(problem.queries, k=3)
    table = found.to_pandas()
    assert len(table) == 15
    assert table["id"].str.startswith("row").all()
    assert table["query"].tolist() == [q for q in range(5) for _ in range(3)]
    assert "Pearson" in repr(found)
    assert found.figure().axes


@pytest.mark.parametrize(("options", "words"), [({"k": 1}, "between 2 and"), ({"k": 3, "select": "best"}, "'random'")])
def test_refuses(options: dict, words: str, unchecked: None) -> None:
    problem = convex("ridge")
    with pytest.raises(InputError, match=words):
        uw.Influence(problem.objective()).verify(problem.queries, **options)
