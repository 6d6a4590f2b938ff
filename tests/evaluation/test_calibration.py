"""Calibration against LDS of whole attributions, and on models whose subsets follow influence at a known damping."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from figures import legend, texts
from problems import close, mlp, with_parameters
from upweight.curvature import EmpiricalFisher
from upweight.errors import InputError
from upweight.evaluation import LDS, calibrate
from upweight.evaluation.calibration import EndOfGridWarning, weighted_damping
from upweight.inverse import EKFAC, Dense, Dual, Identity
from upweight.retraining import TrainingFailedError, random_halves

pytestmark = pytest.mark.usefixtures("unchecked")  # for speed

TRUE = 0.03
"""The damping of the influence that the models of `train` follow."""


@cache
def following(damping: float) -> Any:
    """A training whose models move as influence at this damping says."""
    problem = mlp()
    ggn, gradients = problem.ggn(), problem.gradients()
    inverse = torch.linalg.inv(ggn + damping * torch.eye(len(ggn), dtype=ggn.dtype))

    def train(indices: Tensor, seed: int) -> nn.Module:
        out = torch.ones(problem.n, dtype=torch.bool)
        out[indices] = False
        return with_parameters(problem.model, problem.theta + 1e-3 * gradients[out].sum(0) @ inverse)

    return train


def influence(inverse: Any = None, **options: Any) -> uw.Influence:
    return uw.Influence(mlp().objective(**options), inverse or Dense(uw.curvature.GGN(), damping=0.1))


@pytest.mark.filterwarnings("ignore:.*not at an optimum")
@pytest.mark.parametrize(
    "inverse", [Dense(uw.curvature.GGN(), damping=0.1), Dual(), EKFAC(EmpiricalFisher(), damping=0.1)]
)
def test_the_curve_is_the_lds_of_attributions(inverse: Any) -> None:
    weights = torch.rand(mlp().n, dtype=torch.float64) + 0.5
    given = influence(inverse, weights=weights, batch_size=7)
    found = calibrate(given, mlp().queries, following(TRUE), grid=[0.3, 0.01], subsets=6, fraction=0.4, seed=3)
    subsets = random_halves(mlp().n, 6, 3, 0.4)
    metric = LDS(subsets)
    models = [following(TRUE)(members, 0) for members in subsets]
    outcomes = torch.stack([given.objective.replace(model=model).losses(mlp().queries) for model in models])
    assert found.grid.tolist() == [0.01, 0.3]
    for damping, result in [*zip(found.grid.tolist(), found.curve, strict=True), (found.damping, found.lds)]:
        metric.reset()
        damped = uw.Influence(given.objective, given.solver.with_damping(damping))
        metric.update(damped.attribute(mlp().queries), outcomes)
        close(result.per_query, metric.compute().per_query)
        assert result.lds == pytest.approx(metric.compute().lds)


@pytest.mark.parametrize("true", [0.03, 0.3])
def test_the_damping_of_the_truth_is_found(true: float) -> None:
    grid = np.geomspace(1e-5, 1e2, 15).tolist()
    found = influence().calibrate(mlp().queries, following(true), grid=grid, subsets=12)
    scores = [each.lds for each in found.curve]
    assert true / 4 < grid[int(np.argmax(scores))] < true * 4
    assert max(scores) > 0.99
    assert found.lds.lds > max(scores) - 0.03


@pytest.mark.filterwarnings("ignore:calibrate. the LDS is best at an end")
def test_nothing_is_fitted_again_and_the_influence_has_the_damping(monkeypatch: pytest.MonkeyPatch) -> None:
    given = influence(EKFAC(uw.curvature.GGN(), damping="auto"))
    solver = given.solver

    def refuse(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(EKFAC, "fit", refuse)
    found = given.calibrate(mlp().queries, following(TRUE))
    assert found.influence.solver.damping == found.damping
    assert found.influence.solver.operator is solver.operator
    assert found.influence.attribute(mlp().queries).damping == found.damping
    assert given.solver is solver


@pytest.mark.filterwarnings("ignore:calibrate. the LDS is best at an end")
def test_the_default_grid_goes_around_auto_or_around_l2_where_auto_is_zero() -> None:
    given = influence(Dual())
    found = given.calibrate(mlp().queries, following(TRUE))
    centre = given.solver.with_damping("auto").damping
    assert centre > 0
    close(found.grid, centre * np.geomspace(1 / 30, 30, 13))
    assert found.auto_lds is not None
    assert found.auto_lds.lds == found.curve[6].lds
    assert f"'auto' δ={centre:.3g}: LDS {found.auto_lds.lds:.3f}" in repr(found)
    with pytest.warns(uw.errors.NotStationaryWarning):
        found = influence(Dual(), l2=50.0).calibrate(mlp().queries, following(TRUE))
    assert (found.auto, found.auto_lds) == (0.0, None)
    close(found.grid, 50 * np.geomspace(1 / 30, 30, 13))
    assert "'auto' is 0" in repr(found)


def test_the_middle_of_a_plateau_and_the_summit_of_a_peak_are_chosen() -> None:
    grid = np.geomspace(1e-4, 1e4, 33).tolist()
    logs = np.log10(grid)
    assert weighted_damping(grid, np.where(abs(logs - 1) <= 1, 0.7, 0.3)) == pytest.approx(10, rel=0.01)
    assert weighted_damping(grid, 0.7 - 0.3 * (logs + 1) ** 2) == pytest.approx(0.1, rel=0.01)
    uneven = [*np.geomspace(1e-4, 1e-3, 50).tolist(), *np.geomspace(1e-2, 1e4, 7).tolist()]
    assert weighted_damping(uneven, np.full(57, 0.5)) == pytest.approx(1, rel=1)


def test_a_best_damping_at_the_end_of_the_grid_is_said() -> None:
    with pytest.warns(EndOfGridWarning, match=r"an end of the grid, .* at δ=0\.1 beside .*grid=…"):
        influence().calibrate(mlp().queries, following(1e3), grid=np.geomspace(1e-7, 0.1, 7).tolist(), subsets=12)


def test_subsets_seeds_and_folder_go_to_the_training(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def recording(indices: Tensor, seed: int) -> nn.Module:
        with log.open("a") as file:
            print(json.dumps((indices.tolist(), seed)), file=file)
        return with_parameters(mlp().model, _moved(indices, seed))

    first = influence().calibrate(
        mlp().queries, recording, subsets=4, fraction=0.3, seeds=2, seed=7, folder=tmp_path / "models"
    )
    jobs = [json.loads(line) for line in log.read_text().splitlines()]
    expected = random_halves(mlp().n, 4, 7, 0.3)
    assert [seed for _, seed in jobs] == [0] * 4 + [1] * 4
    assert [indices for indices, _ in jobs] == [members.tolist() for members in [*expected, *expected]]
    assert (first.lds.subsets, first.lds.seeds) == (4, 2)
    assert not np.isnan(first.lds.seed_agreement)
    again = influence().calibrate(
        mlp().queries, recording, subsets=4, fraction=0.3, seeds=2, seed=7, folder=tmp_path / "models"
    )
    assert len(log.read_text().splitlines()) == len(jobs)
    assert again.damping == first.damping


def _moved(indices: Tensor, seed: int) -> Tensor:
    """θ of a model that also depends on the seed."""
    theta = torch.cat([value.detach().flatten() for value in following(TRUE)(indices, 0).parameters()])
    return theta + 1e-3 * seed * torch.sin(torch.arange(len(theta)) * float(indices.sum()))


def test_the_figure_marks_both_dampings() -> None:
    found = influence().calibrate(mlp().queries, following(TRUE))
    figure = found.figure(title="title")
    axes = figure.axes[0]
    assert "title" in texts(figure)
    assert axes.get_xscale() == "log"
    curve, chosen, auto = axes.lines
    close(curve.get_ydata(), [each.lds for each in found.curve])
    assert (chosen.get_xdata()[0], auto.get_xdata()[0]) == (found.damping, found.auto)
    assert legend(figure)[1:] == [f"calibrated δ = {found.damping:.2g}", f"auto δ = {found.auto:.2g}"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subsets": 2}, "subsets: give a whole number of at least 3"),
        ({"fraction": 1.0}, r"fraction: .*> 0 and < 1; got 1\.0"),
        ({"fraction": 0.001}, "fraction: .* is less than one"),
        ({"seeds": 0}, "seeds: .*at least 1; got 0"),
        ({"grid": [0.1]}, r"grid: two or more absolute dampings, finite and > 0; got \[0\.1\]"),
        ({"grid": [0.1, 0.0]}, "grid: two or more"),
        ({"grid": [0.1, float("inf")]}, "grid: two or more"),
        ({"train": None}, "train: give a function"),
        ({"train": lambda indices, seed: mlp().model}, r"queries: no query.* trains on its indices"),
    ],
)
@pytest.mark.filterwarnings("ignore:LDS. undefined")
def test_refuses(options: dict, words: str) -> None:
    train = options.pop("train", following(TRUE))
    with pytest.raises(InputError, match=words):
        influence().calibrate(mlp().queries, train, **options)


def test_refuses_what_has_no_damping_and_what_is_no_model() -> None:
    with pytest.raises(InputError, match="inverse: IdentitySolver has no damping to calibrate"):
        influence(Identity()).calibrate(mlp().queries, following(TRUE))
    with pytest.raises(TrainingFailedError, match="must return the trained module"):
        influence().calibrate(mlp().queries, lambda indices, seed: None)


def test_a_damping_that_is_to_be_calibrated_says_how() -> None:
    with pytest.raises(InputError, match=r"damping: 'calibrated' .* call influence\.calibrate\(queries, train\)"):
        EKFAC(damping="calibrated").fit(mlp().objective())
