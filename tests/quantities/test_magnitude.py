"""Whether sizes can be believed: said with the figure that decides it, kept with the result."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import upweight as uw
from problems import DOUBLE, convex, mlp
from upweight.attribution import Magnitude

GGN = uw.curvature.GGN()


def undamped() -> uw.Objective:
    """A network at an optimum of a penalised risk."""
    return mlp().objective()


TRUSTED: dict[str, Any] = {
    "the automatic choice": None,
    "dense": uw.inverse.Dense(),
    "conjugate gradients": uw.inverse.CG(),
    "the dual of all rows": uw.inverse.Dual(GGN, damping=0.0, rows=None),
    "all eigenpairs": uw.inverse.Nystrom(18, damping=0.0),
}


@pytest.mark.parametrize("name", TRUSTED)
def test_an_exact_inverse_at_an_optimum_is_trusted(name: str) -> None:
    problem = convex("softmax")
    inverse = uw.inverse.Nystrom(len(problem.theta), damping=0.0) if name == "all eigenpairs" else TRUSTED[name]
    found = uw.Influence(problem.objective(), inverse).attribute(problem.queries)
    assert found.magnitude is not None
    assert found.magnitude.trusted, found.magnitude
    assert "solved exactly at an optimum" in found.magnitude.reason
    assert "sizes: trusted: " in repr(found)


RANKS: dict[str, tuple[Any, str]] = {
    "EK-FAC": (uw.inverse.EKFAC(GGN, damping=0.0), "approximates the curvature"),
    "K-FAC": (uw.inverse.KFAC(GGN, damping=0.1), "approximates the curvature"),
    "no inverse": (uw.inverse.Identity(), "approximates the curvature"),
    "without the penalty": (uw.inverse.EKFAC(GGN, damping=0.1, penalized=False), "curvature lacks the penalty"),
    "few directions": (uw.inverse.Nystrom(3, damping=0.01), r"of rank 3 .*knows 3 of \d+ directions|knows 3 of \d+"),
    "sampled targets": (
        uw.inverse.Dual(uw.curvature.Fisher(samples=2), damping=0.0),
        "Fisher .* stands for the curvature",
    ),
    "damped": (uw.inverse.Dense(GGN, damping=1.0), r"damping δ=1 beside l2=0\.\d+ shrinks a score by up to \d\d%"),
}


@pytest.mark.parametrize("name", RANKS)
def test_what_keeps_sizes_from_being_believed_is_said(name: str) -> None:
    inverse, said = RANKS[name]
    problem = mlp()
    found = uw.Influence(undamped(), inverse).attribute(problem.queries)
    assert found.magnitude is not None
    assert not found.magnitude.trusted
    assert re.search(said, found.magnitude.reason), found.magnitude.reason


def test_a_little_damping_beside_the_penalty_is_nothing() -> None:
    problem = mlp()
    objective = problem.objective()
    little = uw.Influence(objective, uw.inverse.Dense(GGN, damping=float(objective.l2.min()) / 20)).attribute(
        problem.queries
    )
    exact = uw.Influence(objective, uw.inverse.Dense(GGN)).attribute(problem.queries)
    assert little.magnitude is not None
    assert little.magnitude.trusted
    assert float((little.scores - exact.scores).norm() / exact.scores.norm()) < 0.1


@pytest.mark.filterwarnings("ignore:θ is not at an optimum")
def test_a_model_that_is_not_at_an_optimum_has_no_sizes() -> None:
    problem = convex("logistic")
    objective = problem.objective()
    moved = objective.at(objective.params + 3)
    found = uw.Influence(moved, uw.inverse.Dense()).attribute(problem.queries)
    assert found.magnitude is not None
    assert not found.magnitude.trusted
    assert f"{found.facts['gradient_over_noise']:.2g} × its sampling noise" in found.magnitude.reason


def test_losses_that_would_fall_below_zero_are_named() -> None:
    """Of a mean of ten zeros and ten ones: ½(½ − .1)² = .08, and to first order .4 · .25 less without the ones."""
    x, y = torch.ones(20, 1, dtype=DOUBLE), (torch.arange(20) >= 10).double()[:, None]
    model = nn.Linear(1, 1, bias=False, dtype=DOUBLE)
    nn.init.constant_(model.weight, 0.5)
    influence = uw.Influence(uw.Objective(model, uw.losses.SquaredError(), (x, y)), uw.inverse.Dense())
    query = (torch.ones(1, 1, dtype=DOUBLE), torch.full((1, 1), 0.1, dtype=DOUBLE))
    ones = influence.group([[0], range(10, 20)], query, query_ids=["near"])
    assert str(ones.magnitude).startswith(
        "ranks only: without 1 the loss of query near would go from 0.08 to -0.02, which no loss does"
    )
    singly = influence.attribute(query)
    assert singly.magnitude is not None
    assert singly.magnitude.trusted
    margins = influence.group([range(10, 20)], query, measurement=lambda model, batch: model(batch[0])[:, 0] - 1)
    assert margins.magnitude is not None
    assert margins.magnitude.trusted  # what is no loss may be negative


def test_frames_and_saved_results_keep_it(tmp_path: Any) -> None:
    problem = mlp()
    found = uw.Influence(problem.objective(), uw.inverse.EKFAC(GGN, damping=0.1)).attribute(problem.queries)
    assert found.to_pandas().attrs == {"quantity": "removal", "unit": "nats", "magnitude": str(found.magnitude)}
    found.save(tmp_path / "kept")
    assert uw.Attribution.load(tmp_path / "kept").magnitude == found.magnitude
    silent = uw.Attribution(found.scores, found.quantity, found.ids, found.query_ids)
    silent.save(tmp_path / "silent")
    assert uw.Attribution.load(tmp_path / "silent").magnitude is None
    assert "sizes" not in repr(silent)


def test_methods_without_an_inverse_give_ranks() -> None:
    problem = mlp()
    objective = problem.objective()
    state = {name: value.detach().clone() for name, value in problem.model.named_parameters()}
    for found in (
        uw.TRAK(objective, dimension=8).attribute(problem.queries),
        uw.TracIn(objective, [state], [0.1]).attribute(problem.queries),
    ):
        assert found.magnitude is not None
        assert not found.magnitude.trusted
    assert str(Magnitude(False, "why")) == "ranks only: why"
    assert np.isfinite(found.scores.numpy()).all()
