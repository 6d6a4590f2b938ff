"""Precision of products: asked for by name, torch's own setting afterwards, and told by how much scores differ."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import upweight as uw
from upweight.curvature import EmpiricalFisher
from upweight.inverse import EKFAC
from upweight.linalg.ranks import rank_agreement
from upweight.precision import products


def objective(dtype: torch.dtype = torch.float32) -> uw.Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 30), nn.Tanh(), nn.Linear(30, 4)).to(dtype)
    return uw.Objective(model, uw.losses.CrossEntropy(), (torch.randn(60, 12, dtype=dtype), torch.arange(60) % 4))


def queries(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(5, 12, dtype=dtype), torch.arange(5) % 4


@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_scores_say_how_far_they_keep_their_order() -> None:
    given = objective()
    inverse = EKFAC(EmpiricalFisher(), damping=1e-2)
    asked = queries()
    plain = uw.Influence(given, inverse).attribute(asked)
    rough = uw.Influence(given, inverse, precision="bfloat16").attribute(asked)
    assert "products in bfloat16 (Spearman " in str(rough.report)
    assert "4 × 15 pairs" in str(rough.report)
    assert "Spearman" not in str(plain.report)
    assert rank_agreement(rough.scores, plain.scores) > 0.99


@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_torch_has_its_own_setting_back_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    influence = uw.Influence(objective(), EKFAC(EmpiricalFisher(), damping=1e-2), precision="bfloat16")
    seen = []
    fit = EKFAC.fit
    monkeypatch.setattr(
        EKFAC, "fit", lambda *given: (seen.append(torch.get_float32_matmul_precision()), fit(*given))[1]
    )
    influence.attribute(queries())
    assert seen == ["medium"]
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(uw.InputError):
        influence.attribute((torch.full((1, 12), torch.nan), torch.zeros(1, dtype=torch.long)))
    assert torch.get_float32_matmul_precision() == "highest"
    with products(None):
        assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("precision", "dtype", "words"),
    [
        ("tf32", torch.float32, r"precision: 'tf32' is none that .* on a cpu device; give 'float32' or 'bfloat16'"),
        ("half", torch.float32, r"precision: one of 'float32', 'tf32', 'bfloat16'"),
        ("bfloat16", torch.float64, r"precision: 'bfloat16' is for products of float32, and θ is torch.float64"),
    ],
)
def test_what_the_work_can_not_have_is_refused(precision: str, dtype: torch.dtype, words: str, unchecked: None) -> None:
    with pytest.raises(uw.InputError, match=words):
        uw.Influence(objective(dtype), precision=precision)  # type: ignore[arg-type]


def test_another_inverse_has_the_same_precision() -> None:
    influence = uw.Influence(objective(), precision="bfloat16")
    assert influence.with_inverse(EKFAC()).precision == "bfloat16"
