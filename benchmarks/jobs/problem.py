"""What is scored: a network of 50k parameters, as many training examples of 100 features as are asked for, queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import upweight as uw

FEATURES, CLASSES = 100, 10
INVERSES = {"ekfac": uw.inverse.EKFAC, "kfac": uw.inverse.KFAC}
"""By name; what isn't said is by default."""
FITTED = 10_000
"""Training examples from which a slice's curvature is estimated, where only the scoring counts."""


def network() -> nn.Module:
    """49,896 parameters."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 256), nn.Tanh(), nn.Linear(256, 90), nn.Tanh(), nn.Linear(90, CLASSES))


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Examples of features and labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, FEATURES, generator=generator)
    return x, torch.randint(CLASSES, (count,), generator=generator)


def influence(examples: int, inverse: str) -> uw.Influence:
    """On the network as it is drawn: what is measured doesn't hang on whether it is trained."""
    objective = uw.Objective(network(), uw.losses.CrossEntropy(), drawn(examples, 1), l2=1e-3)
    return uw.Influence(objective, INVERSES[inverse]())


def queries(count: int) -> tuple[Tensor, Tensor]:
    """The queries."""
    return drawn(count, 2)
