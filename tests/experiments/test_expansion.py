"""The parts of the experiment on expansion points that its figures hang on."""

from __future__ import annotations

import torch
from benchmarks.fidelity import tasks
from experiments.expansion.points import with_outputs_of
from experiments.expansion.studies import Study
from torch import nn

from problems import close


def study() -> Study:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 3, generator=generator), torch.arange(24) % 2
    recipe = tasks.Recipe("SGD", 0.1, "constant", 1e-3, epochs=2, batch=6, subsets=3, seeds=1)
    return Study("small", lambda: nn.Linear(3, 2), recipe, (x[:18], y[:18], x[18:], y[18:]))


def test_residuals_of_one_model_meet_the_jacobians_of_another() -> None:
    one = study()
    first, second = (one.train(torch.ones(one.n), seed) for seed in (0, 1))
    objective, queries = with_outputs_of(one, first, second)
    close(objective.outputs(), second(one.examples[0]).detach(), rtol=1e-5, atol=1e-6)
    close(objective.outputs(queries), second(one.queries[0]).detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(objective.params, one.objective(first).params)


def test_a_training_is_the_benchmark_s_and_fewer_steps_have_larger_batches() -> None:
    one = study()
    weights = torch.ones(one.n)
    close(*(torch.cat([value.flatten() for value in one.train(weights).parameters()]).detach() for _ in range(2)))
    chosen = one.train(weights, chosen=torch.arange(6))
    larger = one.train(weights, steps=0.5)
    assert not torch.equal(chosen.weight, larger.weight)  # type: ignore[arg-type]
    one_epoch = one.train(weights, until=0.5)
    assert one.loss(one.train(weights)) < one.loss(one_epoch)
