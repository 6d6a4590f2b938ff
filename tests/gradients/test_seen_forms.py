"""Batches of other forms than the first examples': where time stands first, those may look like examples first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight.gradients.rules import Examples
from upweight.gradients.seen_forms import holds

D, PLACES = 3, 2


class TimeFirst(nn.Module):
    """``[b, t, places, D]``; the layers see time, then examples, then places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(D, 4), nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x.transpose(0, 1))).tanh().sum((0, 2)))


def truth(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    rows = []
    for i in range(len(x)):
        loss = nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_longer_sequences_than_the_first_are_read_as_they_lie(steps: int, dtype: torch.dtype) -> None:
    model, y = TimeFirst().to(dtype).eval(), torch.arange(6) % 2
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (torch.randn(6, steps, PLACES, D, dtype=dtype), y))
    for longer in (steps, steps + 1, 4 * steps):
        x = torch.randn(6, longer, PLACES, D, dtype=dtype)
        for count in (6, 4, 1):
            found = objective.engine.function.materialize(objective.params, (x[:count], y[:count]))
            tolerance = (1e-9, 1e-11) if dtype == DOUBLE else (1e-3, 1e-4)
            close(found, truth(model, x[:count], y[:count]), *tolerance)
    assert not objective.engine.function.plan.slow  # type: ignore[attr-defined]


def test_a_form_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, y = (
        nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.AdaptiveAvgPool2d((1, 4)), nn.Flatten()),
        torch.arange(6) % 4,
    )
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (torch.randn(6, 2, D), y))
    longer = (torch.randn(6, 5, D), y)
    known = objective.engine.function.materialize(objective.params, longer)
    monkeypatch.setattr("upweight.gradients.factored.seeds", lambda *_: pytest.fail("it has been seen"))
    close(objective.engine.function.materialize(objective.params, longer), known)


def test_rows_that_lie_otherwise_are_told() -> None:
    plain, seeds = torch.randn(6, 2, dtype=DOUBLE), torch.tensor([[1.0, 1 + 1 / 64]], dtype=DOUBLE)
    batch_first = [plain * seeds[0].repeat_interleave(3)[:, None]]
    time_first = [plain * seeds[0].repeat(3)[:, None]]
    assert holds(Examples(0, 1), plain, batch_first, seeds, 2, 0.0)
    assert not holds(Examples(0, 1), plain, time_first, seeds, 2, 0.0)
    assert holds(Examples(0, 0), plain, time_first, seeds, 2, 0.0)
    assert not holds(Examples(0, 1), plain[:5], [time_first[0][:5]], seeds, 2, 0.0)
    assert holds(Examples(0, 1), plain * 1e-9, [time_first[0] * 1e-9], seeds, 2, 1e-8)
