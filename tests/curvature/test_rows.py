"""Curvature by rows: GGN, Fisher and empirical Fisher against whole Jacobians and expectations."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

import upweight as uw
from problems import close, mlp
from upweight.curvature import GGN, EmpiricalFisher, Fisher
from upweight.curvature.rows import output_spectrum
from upweight.errors import InputError
from upweight.losses import BinaryLogistic, CrossEntropy, SquaredError

DOUBLE = torch.float64


def products(rows, objective) -> torch.Tensor:
    factors = rows.factors(torch.arange(len(rows))).materialize()
    return factors.T @ factors + torch.diag(objective.l2)


@pytest.mark.parametrize("batch_size", [None, 3, 7])
def test_all_spectral_rows_make_the_ggn(batch_size: int | None) -> None:
    problem = mlp()
    objective = problem.objective(batch_size=batch_size)
    rows = GGN().rows(objective)
    assert rows.share == pytest.approx(1.0)
    assert len(rows) == problem.n * 2  # three classes have two directions
    close(products(rows, objective), problem.ggn(), rtol=1e-8, atol=1e-8)


def test_truncated_rows_are_the_ones_of_largest_trace_and_say_their_share() -> None:
    objective = mlp().objective()
    every, some = GGN().rows(objective), GGN().rows(objective, 20)
    outputs = every.cotangents.flatten(1).norm(dim=1) ** 2
    kept = some.cotangents.flatten(1).norm(dim=1) ** 2
    close(kept.sort().values, outputs.sort().values[-20:])
    assert some.share == pytest.approx(float(kept.sum() / outputs.sum()))
    assert f"{some.share:.1%}" in some.name


def test_sampled_fishers_average_to_the_exact_one() -> None:
    problem = mlp()
    objective = problem.objective()
    draws = [Fisher(samples=50, seed=seed).of(objective).dense() for seed in range(8)]
    truth = problem.ggn()
    assert unbiased(torch.stack(draws), truth)


def unbiased(draws: torch.Tensor, truth: torch.Tensor) -> bool:
    """Whether the mean of the draws is as near the truth as their own spread says, and the truth isn't each draw."""
    error, expected = float((draws.mean(0) - truth).norm()), float(draws.std(0).norm()) / len(draws) ** 0.5
    return 0.3 * expected < error < 2 * expected


@pytest.mark.parametrize("samples", [1, 3])
def test_a_sample_depends_on_seed_and_position_alone(samples: int) -> None:
    problem = mlp()

    def gradients(rows: uw.curvature.Rows) -> torch.Tensor:
        return torch.cat([factors.materialize() for _, factors in rows.blocks(1000)])

    whole = Fisher(samples, seed=3).rows(problem.objective())
    for size in (1, 4):
        other = Fisher(samples, seed=3).rows(problem.objective(batch_size=size))
        close(gradients(other), gradients(whole))
    if samples > 1:
        drawn = gradients(whole).reshape(problem.n, samples, -1)
        assert not torch.equal(drawn[:, 0], drawn[:, 1])
    assert not torch.equal(gradients(Fisher(samples, seed=4).rows(problem.objective())), gradients(whole))


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_fisher_equals_ggn_for_gaussian_and_binary_likelihoods(kind: str) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2 if kind == "regression" else 1)).to(DOUBLE)
    x = torch.randn(12, 3, dtype=DOUBLE)
    y = torch.randn(12, 2, dtype=DOUBLE) if kind == "regression" else torch.randint(0, 2, (12,))
    loss = SquaredError() if kind == "regression" else BinaryLogistic()
    objective = uw.Objective(model, loss, (x, y), l2=0.1)

    def outputs(theta: torch.Tensor) -> torch.Tensor:
        return functional_call(model, objective.layout.unflatten(theta), (x,))

    jacobian, z = jacrev(outputs)(objective.params), outputs(objective.params)
    middle = torch.ones_like(z) if kind == "regression" else z.sigmoid() * (1 - z.sigmoid())
    truth = torch.einsum("ncp,nc,ncq->pq", jacobian, middle, jacobian) / 12 + 0.1 * torch.eye(objective.p)
    close(Fisher(samples=None).of(objective).dense(), truth.detach(), rtol=1e-8, atol=1e-8)
    draws = torch.stack([Fisher(40, seed).of(objective).dense() for seed in range(8)])
    assert unbiased(draws, truth)


def test_ignored_positions_have_no_rows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5)).to(DOUBLE)
    x, y = torch.randint(0, 5, (6, 3)), torch.randint(0, 5, (6, 3))
    y[:, 1] = -100
    objective = uw.Objective(model, CrossEntropy(), (x, y))
    assert not GGN().rows(objective).cotangents[:, 1].any()
    moved = uw.Objective(model, CrossEntropy(), (x, y.masked_fill(y == -100, 0)))
    both = [Fisher(2).rows(given).factors(torch.arange(12)).norms().sum() for given in (objective, moved)]
    assert both[0] < both[1]


@pytest.mark.parametrize("loss", [uw.losses.SquaredHinge(), lambda model, batch: (model(batch[0]) ** 2).sum(1)])
def test_what_cannot_be_sampled_says_which_curvature_can(loss: object) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    objective = uw.Objective(model, loss, (torch.randn(8, 3), torch.randint(0, 2, (8,))), l2=0.1)
    with pytest.raises(InputError, match=r"no targets can be drawn.*EmpiricalFisher"):
        Fisher().rows(objective)
    EmpiricalFisher().rows(objective)


def test_rows_and_fisher_of_a_tempered_loss_are_those_of_the_divided_outputs() -> None:
    class Divided(nn.Module):
        def __init__(self, model: nn.Module):
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x) / 2.5

    problem = mlp()
    batch = (problem.x, problem.y)
    tempered = uw.Objective(problem.model, CrossEntropy(temperature=2.5), batch, l2=0.1)
    plain = uw.Objective(Divided(problem.model), CrossEntropy(), batch, l2=0.1)
    for curvature in (GGN(), Fisher(seed=1), EmpiricalFisher()):
        close(products(curvature.rows(tempered), tempered), products(curvature.rows(plain), plain))


def test_rows_that_would_fill_the_memory_are_refused_with_their_size() -> None:
    data = (torch.randn(300, 64, 2), torch.randint(0, 50, (300, 64)))
    objective = uw.Objective(nn.Linear(2, 50), CrossEntropy(), data, l2=0.1)
    with pytest.raises(InputError, match=r"rows of the GGN would hold .* GiB .* use curvature.Fisher\(samples=1\)"):
        GGN().rows(objective)


def test_spectra_of_the_outputs_are_made_in_batches_of_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = (torch.randn(40, 6, 2), torch.randint(0, 5, (40, 6)))
    model = nn.Linear(2, 5)
    whole = GGN().rows(uw.Objective(model, CrossEntropy(), data, l2=0.1))
    few = uw.Budget(memory=7 * 6 * 5 * 5 * 8)
    seen = []
    monkeypatch.setattr(
        "upweight.curvature.rows.output_spectrum",
        lambda objective, batch, weights: seen.append(len(batch[0])) or output_spectrum(objective, batch, weights),
    )
    parted = GGN().rows(uw.Objective(model, CrossEntropy(), data, l2=0.1, budget=few))
    assert max(seen) == 7
    assert torch.equal(parted.positions, whole.positions)
    close(parted.cotangents.abs(), whole.cotangents.abs())
