"""pyDVL: EK-FAC (Linear layers only), Nyström, Arnoldi, CG and dense inverses of the Hessian.

Its influences are qᵀ(H + δ)⁻¹g; over n they are removals in nats. Its Hessian is the mean over batches, so batches
have equal length. Where EK-FAC meets a layer that it doesn't know it refuses; such layers are then frozen, as its own
documentation advises, and the scores come from the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydvl.influence.torch import (
    ArnoldiInfluence,
    CgInfluence,
    DirectInfluence,
    EkfacInfluence,
    NystroemSketchInfluence,
)
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.fidelity import models
from benchmarks.fidelity.peers.common import ROWS, Fitted, Problem, equal_batch, run

GRID = (0.0001, 0.001, 0.01, 0.1)
RANK = 50
REGULARIZATION = 0.01
"""It has no default; this was its best round number on mnist-mlp with the low ranks."""


class ClassesSecond(nn.Module):
    """Outputs as ``[batch, classes, positions]``: its EK-FAC takes the classes along dimension 1."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The model's outputs with classes second."""
        return self.model(x).movedim(-1, 1)


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Mean over examples of the loss."""
    return models.loss_of_outputs(outputs, y).mean()


def ekfac(problem: Problem, folder: Path) -> Fitted:
    """EK-FAC with corrected eigenvalues."""
    model = ClassesSecond(problem.model) if problem.sequences else problem.model
    frozen = 0
    for module in problem.model.modules():
        if not isinstance(module, nn.Linear):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
                frozen += parameter.numel()
    influence = EkfacInfluence(model, update_diagonal=True, hessian_regularization=REGULARIZATION)
    influence.fit(loader(problem))

    def regularize(value: float) -> None:
        influence.hessian_regularization = value

    # Its loss is fixed to the mean over positions, so the gradients are those of the sum over their number, squared.
    scale = problem.train[1][0].numel() ** 2
    return fitted(problem, influence, regularize, {"parameters left out": frozen}, scale)


def composed(make: Callable[[nn.Module], Any], settings: dict[str, Any]) -> Callable[[Problem, Path], Fitted]:
    """A variant of its composable family."""

    def variant(problem: Problem, folder: Path) -> Fitted:
        with sdpa_kernel(SDPBackend.MATH):  # the others can't be differentiated twice
            influence = make(problem.model).fit(loader(problem))
        return fitted(problem, influence, influence.with_regularization, settings)

    return variant


def fitted(problem: Problem, influence: Any, regularize: Callable, settings: dict[str, Any], scale: int = 1) -> Fitted:
    """Scores from an influence that is fitted."""

    def score(damping: float | None) -> Tensor:
        regularize(REGULARIZATION if damping is None else damping)
        with sdpa_kernel(SDPBackend.MATH):
            factors = influence.influence_factors(*problem.queries).detach()
            chunks = zip(*(part.split(ROWS[problem.task]) for part in problem.train), strict=True)
            values = [influence.influences_from_factors(factors, x, y).detach() for x, y in chunks]
        return torch.cat(values, dim=1) * (scale / len(problem.train[0]))

    return Fitted(score, GRID, {"unit": "nats", "default damping": REGULARIZATION, **settings})


def loader(problem: Problem) -> DataLoader:
    """Batches of equal length, as large as memory allows Hessian products with all vectors at once over them."""
    return DataLoader(TensorDataset(*problem.train), batch_size=equal_batch(len(problem.train[0]), ROWS[problem.task]))


VARIANTS = {
    "EK-FAC": ekfac,
    f"Nyström {RANK}": composed(
        lambda model: NystroemSketchInfluence(model, loss, regularization=REGULARIZATION, rank=RANK), {"rank": RANK}
    ),
    f"Arnoldi {RANK}": composed(
        lambda model: ArnoldiInfluence(model, loss, regularization=REGULARIZATION, rank=RANK), {"rank": RANK}
    ),
    "CG": composed(
        lambda model: CgInfluence(model, loss, regularization=REGULARIZATION), {"solve": "queries one by one"}
    ),
    "CG, 10 iterations": composed(
        lambda model: CgInfluence(model, loss, regularization=REGULARIZATION, solve_simultaneously=True, maxiter=10),
        {"solve": "all queries together"},
    ),
    "direct": composed(lambda model: DirectInfluence(model, loss, regularization=REGULARIZATION), {}),
}

if __name__ == "__main__":
    run("pyDVL", VARIANTS)
