"""A GGN made of the Jacobian's rows is the one that p products make."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import upweight as uw
from problems import DOUBLE, close, mlp
from upweight.curvature import GGN, Hessian
from upweight.curvature.assembled import by_products, by_rows, pass_flops, takes_rows

generator = torch.Generator().manual_seed(0)
X = torch.randn(11, 1, 5, 5, generator=generator, dtype=DOUBLE)
Y = torch.randint(0, 3, (11,), generator=generator)
LOSSES: dict[str, tuple[Any, Any]] = {
    "softmax": (uw.losses.CrossEntropy(label_smoothing=0.1), Y),
    "squared": (uw.losses.SquaredError(), X.flatten(1)[:, :3]),
    "logistic": (uw.losses.BinaryLogistic(), (X.flatten(1)[:, :3] > 0).double()),
}


def network(loss: Any, targets: Any, **options: Any) -> uw.Objective:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.LayerNorm(18), nn.Linear(18, 3))
    return uw.Objective(nn.Sequential(*layers).double(), loss, (X, targets), l2=0.02, **options)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_rows_and_products_make_one_matrix(name: str, batch_size: int | None) -> None:
    weights = torch.linspace(-0.5, 2, 11, dtype=DOUBLE)
    objective = network(*LOSSES[name], batch_size=batch_size, weights=weights.clamp_min(0.1))
    operator = GGN().of(objective)
    assert takes_rows(objective, operator.name, pass_flops(objective))
    for part in (operator, operator.share([2, 7, 3]), operator.sampled(torch.tensor([0, 9]))):
        close(by_rows(part), by_products(part), rtol=1e-10, atol=1e-13)


def test_the_matrix_is_that_of_the_definition_and_makes_no_product(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = mlp()
    objective = problem.objective()
    monkeypatch.setattr(type(objective.engine.function), "ggn_product", lambda *_: pytest.fail("a product was made"))
    close(GGN().of(objective).dense(), problem.ggn(), rtol=1e-9, atol=1e-11)


def test_the_hessian_comes_from_products_a_few_hundred_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = mlp()
    monkeypatch.setattr("upweight.curvature.assembled.COLUMNS", 7)
    close(Hessian().of(problem.objective()).dense(), problem.hessian(), rtol=1e-9, atol=1e-11)


def test_many_outputs_of_a_narrow_network_are_left_to_products() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 1), nn.Tanh(), nn.Linear(1, 200)).double()
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (X.flatten(1)[:, :2], Y))
    assert not takes_rows(objective, "GGN", pass_flops(objective))
    assert not takes_rows(network(*LOSSES["softmax"]), "Hessian", 1.0)


class Changing(nn.Module):
    """Uses its first weight in another operation where a batch holds a marked example."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x[:, 0] > 5).any()):
            out = (x[:, None, :] * self.first.weight).sum(-1) + self.first.bias
        else:
            out = self.first(x)
        return self.last(torch.tanh(out))


@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")
def test_a_layer_that_is_a_product_in_some_batches_alone() -> None:
    """Its rows in one batch stand beside its factors in others, on the diagonal and beside other layers."""
    torch.manual_seed(8)
    x, model = torch.randn(9, 2, dtype=DOUBLE), Changing().double()
    x[7, 0] = 6.0  # not among the first examples that are looked at
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, torch.arange(9) % 2), batch_size=2, validate=False)
    operator = GGN().of(objective)
    close(by_rows(operator), by_products(operator), rtol=1e-10, atol=1e-13)
