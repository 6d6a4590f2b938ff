"""What K-FAC and EK-FAC can't invert or fit is refused with the mend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from eigenbases import BOTH
from problems import DOUBLE, convex, mlp
from upweight.curvature import EmpiricalFisher, Hessian, Matrix
from upweight.errors import InputError
from upweight.inverse import KFAC
from upweight.losses import CrossEntropy


@pytest.mark.parametrize("inverse", BOTH)
def test_a_singular_matrix_is_refused(inverse: Any) -> None:
    objective = convex("softmax", n=24).objective(l2=0.0, data=dead_feature())
    with pytest.raises(InputError, match=r"damping: the E?K-FAC .*singular in 'weight'.*give damping > 0 \(got 0\)"):
        inverse(damping=0.0).fit(objective)
    solver = inverse(damping=0.1).fit(objective)
    with pytest.raises(InputError, match="singular"):
        solver.with_damping(0.0)


def dead_feature() -> tuple[Tensor, Tensor]:
    x = convex("softmax").x.clone()
    x[:, 1] = 0
    return x, convex("softmax").y


class Root(nn.Module):
    """Infinite slope at one input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).abs().sqrt()


@pytest.mark.parametrize("inverse", BOTH)
def test_an_example_with_a_nan_gradient_is_named(inverse: Any) -> None:
    x = torch.rand(9, 2, dtype=DOUBLE) + 1
    x[5] = 0
    objective = uw.Objective(Root().double(), CrossEntropy(), (x, torch.arange(9) % 2))
    with pytest.raises(InputError, match=r"gradients: NaN or infinite for training example 5, at layer\.weight"):
        inverse(EmpiricalFisher(), damping=0.1).fit(objective)


@pytest.mark.parametrize("inverse", BOTH)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_fitted_is_refused_with_the_mend(inverse: Any) -> None:
    with pytest.raises(InputError, match="needs an objective"):
        inverse(damping=0.1).fit(Matrix(torch.eye(3)))
    with pytest.raises(InputError, match=r"curvature: give curvature.GGN\(\), Fisher\(\) or .* got Hessian"):
        inverse(Hessian(), damping=0.1).fit(mlp().objective())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("option", "value"), [("approximation", "share"), ("damping_rule", "pi")])
def test_unknown_options_of_kfac_are_refused(option: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{option}: one of"):
        KFAC(damping=0.1, **{option: value}).fit(mlp().objective())
