"""SOURCE against its definition with whole matrices, its limits, and a training that is what it assumes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import Problem, close, convex, mlp, with_parameters
from upweight.curvature import GGN
from upweight.errors import InputError
from upweight.inverse import EKFAC, Dense, Dual
from upweight.inverse.functions import matrix_functions

RATES, STEPS, MOMENTUM = [0.3, 0.2, 0.1], [4, 5, 6], 0.5


def states(problem: Problem) -> list[Tensor]:
    return [scale * problem.theta for scale in (0.5, 0.8, 1.0)]


def at(problem: Problem, theta: Tensor) -> Problem:
    return replace(problem, model=with_parameters(problem.model, theta))


def defined(
    problem: Problem,
    checkpoints: list[Tensor],
    lengths: list[float],
    matrices: list[Tensor],
    metrics: list[Tensor] | None = None,
) -> Tensor:
    """Σ over segments: steps I − ηP⁻¹H carry by e^{−tP⁻¹H}, and ∫e^{−sP⁻¹H}ds P⁻¹ drives."""
    left = at(problem, checkpoints[-1]).query_gradients()
    total = 0
    for number in reversed(range(len(checkpoints))):
        scale = torch.eye(len(left[0]), dtype=torch.float64)
        scale = scale if metrics is None else torch.diag(1 / metrics[number])
        dynamics, length = scale @ matrices[number], lengths[number]
        decayed = torch.linalg.matrix_exp(-length * dynamics)
        driven = torch.linalg.solve(dynamics, torch.eye(len(scale), dtype=torch.float64) - decayed) @ scale
        total = total + left @ driven @ at(problem, checkpoints[number]).gradients().T / problem.n
        left = left @ decayed
    return total


def lengths() -> list[float]:
    return [rate * steps / (1 - MOMENTUM) for rate, steps in zip(RATES, STEPS, strict=True)]


@pytest.mark.parametrize("inverse", [Dense(), Dense(GGN()), Dual(rows=None)])
def test_equals_its_definition_on_a_quadratic(inverse: Any) -> None:
    problem = convex("ridge")
    objective, hessian = problem.objective(), problem.hessian()
    source = uw.SOURCE(objective, states(problem), RATES, STEPS, momentum=MOMENTUM, inverse=inverse)
    found = source.attribute(problem.queries)
    close(found.scores, defined(problem, states(problem), lengths(), [hessian] * 3), rtol=1e-10)
    assert found.quantity.name == "SOURCE"
    assert found.quantity.helpful_sign == 1
    assert found.facts["training length"] == pytest.approx(sum(lengths()))


def test_each_segment_has_the_curvature_and_the_gradients_of_its_own_checkpoint() -> None:
    problem = mlp()
    matrices = [at(problem, theta).ggn() for theta in states(problem)]
    expected = defined(problem, states(problem), lengths(), matrices)
    for inverse in (Dense(GGN()), Dual(rows=None)):
        source = uw.SOURCE(problem.objective(), states(problem), RATES, STEPS, momentum=MOMENTUM, inverse=inverse)
        close(source.attribute(problem.queries).scores, expected, rtol=1e-8, atol=1e-11)
        part = source.attribute(problem.queries, train=[3, 1]).scores
        close(part, expected[:, [3, 1]], rtol=1e-8, atol=1e-11)


def test_steps_of_adam_are_taken_in_their_metric() -> None:
    problem = replace(mlp(), l2=0.0)
    objective, generator = problem.objective(), torch.Generator().manual_seed(0)
    metrics = [0.5 + torch.rand(objective.p, generator=generator, dtype=torch.float64) for _ in range(3)]
    small = 1e-3 * torch.eye(objective.p, dtype=torch.float64)  # a bare GGN has no inverse; its exponential needs none
    named = [objective.layout.unflatten(metric) for metric in metrics]
    found = {}
    for inverse in (Dense(GGN(), damping=1e-3), Dual(rows=None, damping=1.0)):
        source = uw.SOURCE(objective, states(problem), RATES, STEPS, metrics=named, inverse=inverse)
        found[type(inverse)] = source.attribute(problem.queries).scores
    close(found[Dense], found[Dual], rtol=1e-7, atol=1e-10)
    plain = [rate * steps for rate, steps in zip(RATES, STEPS, strict=True)]
    matrices = [at(problem, theta).ggn() + 1e-9 * small for theta in states(problem)]
    close(found[Dense], defined(problem, states(problem), plain, matrices, metrics), rtol=1e-5, atol=1e-8)


def test_a_layer_s_curvature_by_blocks_is_that_of_its_own_matrix() -> None:
    problem = mlp()
    solver = EKFAC(damping=0.1).fit(problem.objective())
    values, vectors = torch.linalg.eigh(solver.operator.dense())
    rows = problem.query_gradients()
    close(matrix_functions(solver).apply(torch.exp, rows), rows @ vectors @ torch.diag(values.exp()) @ vectors.T)
    source = uw.SOURCE(problem.objective(), states(problem), RATES, STEPS)
    matrices = [EKFAC().fit(at(problem, theta).objective()).operator.dense() for theta in states(problem)]
    plain = [rate * steps for rate, steps in zip(RATES, STEPS, strict=True)]
    close(source.attribute(problem.queries).scores, defined(problem, states(problem), plain, matrices), rtol=1e-8)


def test_a_long_training_is_influence() -> None:
    problem = convex("softmax")
    objective = problem.objective()
    long = uw.SOURCE(objective, [problem.theta], 1.0, 10**6, inverse=Dense()).attribute(problem.queries)
    close(long.scores, uw.Influence(objective, Dense()).attribute(problem.queries).scores, rtol=1e-9)


def test_no_training_at_all_is_tracin() -> None:
    problem = mlp()
    objective, tiny = problem.objective(), 1e-9
    found = uw.SOURCE(objective, states(problem)[:2], tiny, 1, inverse=Dense(GGN())).attribute(problem.queries).scores
    theta = states(problem)[1]
    each = [at(problem, theta).query_gradients() @ at(problem, other).gradients().T for other in states(problem)[:2]]
    close(found / tiny * problem.n, sum(each), rtol=1e-6, atol=1e-9)


def test_predicts_what_full_gradient_descent_does_without_an_example() -> None:
    problem, rate, steps = convex("ridge"), 0.01, 400

    def run(counts: Tensor) -> Tensor:
        theta = torch.zeros_like(problem.theta)
        for _ in range(steps):
            theta = theta.detach().requires_grad_()
            (slope,) = torch.autograd.grad(problem.risk(theta, counts), theta)
            theta = theta - rate * slope
        return theta.detach()

    counts = torch.full((problem.n,), 1 / problem.n, dtype=torch.float64)
    trained = run(counts)
    # With the run cut into pieces, each with the gradients of its middle.
    middles, theta, pieces = [], torch.zeros_like(trained), 40
    for _ in range(pieces):
        for step in range(steps // pieces):
            if step == steps // pieces // 2:
                middles.append(theta.clone())
            theta = theta - rate * torch.autograd.functional.jacobian(lambda at: problem.risk(at, counts), theta)
    fixed = replace(problem, model=with_parameters(problem.model, trained))
    source = uw.SOURCE(fixed.objective(), [*middles, trained], rate, [steps // pieces] * pieces + [1], inverse=Dense())
    for example in (0, 5):
        less = counts.clone()
        less[example] *= 1 - 1e-4
        changed = (fixed.query_losses(run(less)) - fixed.query_losses(trained)) / 1e-4
        found = source.attribute(problem.queries, train=[example]).scores[:, 0]
        close(found, changed, rtol=0.03, atol=1e-4)


def test_a_recording_says_everything(tmp_path: Any) -> None:
    problem = mlp()
    model = with_parameters(problem.model, problem.theta)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = uw.Recorder(tmp_path / "run", model, optimizer, every=2)
    for _ in range(6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(problem.x), problem.y).backward()
        optimizer.step()
        recorder.step()
    recorder.close()
    run = uw.Recording.open(tmp_path / "run")
    objective = replace(problem, model=model).objective()
    said = uw.SOURCE(objective, run)
    assert said.lengths == pytest.approx([0.2, 0.2, 0.2])
    same = uw.SOURCE(objective, run.checkpoints, 0.1, 2)
    close(said.attribute(problem.queries).scores, same.attribute(problem.queries).scores)
    with pytest.raises(InputError, match="rates: a recording has its own"):
        uw.SOURCE(objective, run, 0.1)
    with pytest.raises(InputError, match="momentum: a recording has its own"):
        uw.SOURCE(objective, run, momentum=0.5)


def test_what_has_no_spectrum_is_refused() -> None:
    problem = mlp()
    several = problem.objective(l2={"*weight": 0.1})
    for objective, inverse, metrics, words in (
        (problem.objective(), uw.inverse.CG(GGN(), damping=0.1), None, "functions of the matrix need its eigenvalues"),
        (several, Dual(damping=0.1), None, "with an l2 that differs between parameters"),
        (problem.objective(), Dual(), True, "with an l2 beside the metric"),
        (problem.objective(), EKFAC(), True, "in the metric of Adam's steps the spectrum"),
    ):
        named = {name: torch.ones_like(value) for name, value in objective.layout.unflatten(objective.params).items()}
        source = uw.SOURCE(
            objective, [problem.theta], 0.1, 2, inverse=inverse, metrics=None if metrics is None else [named]
        )
        with pytest.raises(InputError, match=words):
            source.attribute(problem.queries)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rates": None}, "rates: one number > 0"),
        ({"rates": [0.1]}, "rates: .*each of the 3"),
        ({"steps": -1}, "steps"),
        ({"momentum": 1.0}, "momentum"),
        ({"inverse": 3}, "inverse"),
        ({"metrics": [{}]}, "metrics"),
    ],
)
def test_impossible_arguments_are_named(options: dict[str, Any], words: str) -> None:
    problem = mlp()
    arguments = {"rates": 0.1, "steps": 3, **options}
    with pytest.raises(InputError, match=words):
        uw.SOURCE(problem.objective(), states(problem), **arguments)


def test_the_training_length_is_a_damping_with_the_ends_of_the_filter() -> None:
    problem = mlp()
    rule = uw.inverse.TrainingLength(0.1, 300, 0.9)
    solver = Dual(damping=rule).fit(problem.objective())
    assert solver.damping == pytest.approx(1 / 300)
    with pytest.raises(InputError, match=r"give inverse\.TrainingLength\(rate, steps, momentum\)"):
        Dual(damping="training length").fit(problem.objective())
    with pytest.raises(InputError, match="steps"):
        uw.inverse.TrainingLength(0.1, 0)
