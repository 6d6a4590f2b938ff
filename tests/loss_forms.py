"""Forms of cross-entropy on small models, and whether they agree with torch's own and plain differentiation."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

import upweight as uw
from problems import DOUBLE, close, unflatten
from upweight import losses

N, D, C = 7, 3, 4
WEIGHT = torch.tensor([0.3, 2.0, 0.0, 1.2], dtype=DOUBLE)
GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(N, D, generator=GENERATOR, dtype=DOUBLE)
LABELS = torch.tensor([0, 1, 3, 2, 1, 0, 3])
PROBABILITIES = torch.rand(N, C, generator=GENERATOR, dtype=DOUBLE).softmax(-1)
IGNORED = torch.tensor([0, 1, -100, 2, 1, 0, 3])


class Places(nn.Module):
    """Classes of 2 × 3 places of each example, as the last dimension or the second."""

    def __init__(self, axis: int):
        super().__init__()
        self.axis, self.layer = axis, nn.Linear(D, 2 * 3 * C)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.tanh(self.layer(x)).reshape(-1, 2, 3, C)
        return out if self.axis == -1 else out.movedim(-1, 1)


def seeded(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for value in model.parameters():
        value.data = 0.5 * torch.randn(value.shape, generator=generator)
    return model.to(DOUBLE).eval()


def linear(outputs: int = C) -> nn.Module:
    return seeded(nn.Linear(D, outputs))


def network(outputs: int = C) -> nn.Module:
    return seeded(nn.Sequential(nn.Linear(D, 3), nn.Tanh(), nn.Linear(3, outputs)))


@dataclass(frozen=True)
class Case:
    ours: Any
    options: dict[str, Any]
    targets: Tensor

    def torchs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """One value an example, by torch's own function of that example alone."""
        return torch.stack(
            [
                F.cross_entropy(o[None], t[None], reduction="sum", **self.options)
                for o, t in zip(outputs, targets, strict=True)
            ]
        )


WEIGHTED = {"weight": WEIGHT}
SMOOTH = {"label_smoothing": 0.2}
CASES = {
    "plain": Case(losses.CrossEntropy(), {}, LABELS),
    "weight": Case(losses.CrossEntropy(weight=WEIGHT), WEIGHTED, LABELS),
    "smoothing": Case(losses.CrossEntropy(label_smoothing=0.2), SMOOTH, LABELS),
    "ignored": Case(losses.CrossEntropy(), {}, IGNORED),
    "another ignored": Case(losses.CrossEntropy(ignore_index=1), {"ignore_index": 1}, LABELS),
    "all": Case(
        losses.CrossEntropy(1, weight=WEIGHT.tolist(), label_smoothing=0.1),
        {"ignore_index": 1, "weight": WEIGHT, "label_smoothing": 0.1},
        LABELS,
    ),
    "probabilities": Case(losses.CrossEntropy(), {}, PROBABILITIES),
    "probabilities, weight": Case(losses.CrossEntropy(weight=WEIGHT), WEIGHTED, PROBABILITIES),
    "probabilities, smoothing": Case(
        losses.CrossEntropy(weight=WEIGHT, label_smoothing=0.2), {**WEIGHTED, **SMOOTH}, PROBABILITIES
    ),
    "probabilities that don't sum to 1": Case(losses.CrossEntropy(), {}, PROBABILITIES.sqrt()),
}


def plain_losses(model: nn.Module, compare: Any, targets: Tensor) -> Any:
    return lambda theta: compare(functional_call(model, unflatten(model, theta), (X,)), targets)


def plain_ggn(model: nn.Module, compare: Any, targets: Tensor) -> Tensor:
    """(1/n) Σ Jᵀ ∇²ℓ J from the whole Jacobian and torch's Hessian in each example's outputs."""

    def outputs(theta: Tensor) -> Tensor:
        return functional_call(model, unflatten(model, theta), (X,))

    theta = flat(model)
    jacobian, at = jacrev(outputs)(theta), outputs(theta)
    total = torch.zeros(len(theta), len(theta), dtype=DOUBLE)
    for z, y, j in zip(at, targets, jacobian, strict=True):
        middle = hessian(lambda v, z=z, y=y: compare(v.reshape(z.shape)[None], y[None])[0])(z.flatten())
        rows = j.reshape(-1, len(theta))
        total += rows.T @ middle @ rows
    return total / len(X)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def agrees(model: nn.Module, ours: Any, compare: Any, targets: Tensor, *, fisher: bool = True) -> uw.Objective:
    """Values, gradients, Hessian, GGN, Fisher matrices: all by their definitions."""
    objective = uw.Objective(model, ours, (X, targets), batch_size=4)
    theta, values = flat(model), plain_losses(model, compare, targets)
    close(objective.losses(), values(theta))
    gradients = torch.cat([g for _, g in objective.example_gradients()])
    close(gradients, jacrev(values)(theta))
    close(uw.curvature.Hessian().of(objective).dense(), hessian(lambda t: values(t).mean())(theta))
    expected = plain_ggn(model, compare, targets)
    close(uw.curvature.GGN().of(objective).dense(), expected)
    rows = uw.curvature.Fisher(samples=None).of(objective) if fisher else None
    if rows is not None:
        close(rows.dense(), expected, rtol=1e-7, atol=1e-9)
        sampled = uw.curvature.Fisher(samples=300).of(objective.replace(batch_size=None)).dense()
        assert (sampled - expected).norm() < 0.15 * expected.norm()
    return objective


PLACES = {
    "numbers": (torch.arange(N * 6).reshape(N, 2, 3) * 7 % C, {}),
    "numbers, ignored": (torch.where(torch.arange(N * 6) % 5 == 0, -100, torch.arange(N * 6) % C).reshape(N, 2, 3), {}),
    "numbers, all": (torch.arange(N * 6).reshape(N, 2, 3) * 7 % C, {**WEIGHTED, **SMOOTH, "ignore_index": 3}),
    "probabilities": (torch.rand(N, 2, 3, C, generator=GENERATOR, dtype=DOUBLE).softmax(-1), WEIGHTED),
}
SEVERAL = (torch.rand(N, C, generator=GENERATOR) > 0.4).double()
POSITIVE = torch.tensor([0.5, 3.0, 1.0, 2.0], dtype=DOUBLE)
