"""A network trained on four blobs, to unlearn some of, and equations for it."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

import upweight as uw
from problems import DOUBLE
from upweight.tasks import Equations

CLASSES = 4
SOLVE = Equations(damping=1e-3, tolerance=1e-6, max_iterations=300)
LOOSE = Equations(damping=0.1, tolerance=1e-2)


def blobs(seed: int, n: int = 240) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, 6, generator=torch.Generator().manual_seed(7), dtype=DOUBLE) * 2
    labels = torch.arange(n) % CLASSES
    return centres[labels] + 0.7 * torch.randn(n, 6, generator=generator, dtype=DOUBLE), labels


@cache
def trained(without: int | None = None) -> nn.Module:
    x, y = blobs(0)
    if without is not None:
        x, y = x[y != without], y[y != without]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, CLASSES)).double()
    optimiser = torch.optim.Adam(model.parameters(), 0.02, weight_decay=1e-3)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model.eval()


@cache
def objective() -> uw.Objective:
    return uw.Objective(trained(), uw.losses.CrossEntropy(), blobs(0), l2=1e-3)
