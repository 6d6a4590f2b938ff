"""pyDVL: EK-FAC (Linear layers only), Nyström, Arnoldi, CG and dense inverses of the Hessian.

Its influences are qᵀ(H + δ)⁻¹g; over n they are removals in nats. Its Hessian is the mean over batches, so batches
have equal length. Where EK-FAC meets a layer that it doesn't know it refuses; such layers are then frozen, as its own
documentation advises, and the scores come from the rest.

Convex tasks are solved by its `CgInfluence`, with λ as ``regularization``, so that the matrices are equal. Since it
averages batch means without weights, one batch holds all examples, handed over whole (a loader that collates example by
example would cost more than the products). It stops at ‖r‖ ≤ rtol²·‖b‖ (block) or, one by one, at a bound from another
norm; the square root of the tolerance, and ``atol`` set for each vector, make both stop at ‖r‖ ≤ tolerance·‖b‖.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydvl.influence.torch import (
    ArnoldiInfluence,
    CgInfluence,
    DirectInfluence,
    EkfacInfluence,
    NystroemSketchInfluence,
)
from pydvl.influence.torch.preconditioner import JacobiPreconditioner, NystroemPreconditioner, Preconditioner
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.fidelity import models
from benchmarks.fidelity.peers.fitted import Fitted
from benchmarks.fidelity.peers.problem import ROWS, Examples, Problem, equal_batch
from benchmarks.fidelity.peers.script import run
from benchmarks.fidelity.peers.solved import Solved, Solver

GRID = (0.0001, 0.001, 0.01, 0.1)
RANK = 50
GRADIENT_ROWS = 20_000
"""Training examples of a convex task whose gradients are held at once."""
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


class Whole(Dataset):
    """All examples as one ready batch."""

    def __init__(self, examples: Examples):
        self.examples = examples

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Examples:
        return self.examples


def solve(
    problem: Problem,
    tolerance: float,
    *,
    together: bool,
    preconditioner: Callable[[], Preconditioner] | None = None,
) -> Solved:
    """CG for all queries at once, or query by query."""
    warnings.simplefilter("ignore")
    model, binary = problem.model, problem.model.out_features == 1
    loss = F.binary_cross_entropy_with_logits if binary else F.cross_entropy
    train, queries = ((x, y[:, None] if binary else y) for x, y in (problem.train, problem.queries))
    influence = CgInfluence(
        model,
        loss,
        regularization=problem.l2,
        rtol=tolerance**0.5,
        atol=1e-12,
        maxiter=1000,
        solve_simultaneously=together,
        preconditioner=None if preconditioner is None else preconditioner(),
    ).fit(DataLoader(Whole(train), batch_size=None))

    def one_by_one() -> Tensor:
        (block,) = influence.block_mapper.composable_block_dict.values()
        rows = []
        for x, y in zip(*(part.split(1) for part in queries), strict=True):
            gradient = torch.autograd.grad(loss(model(x), y), model.weight)[0]
            block.op.rtol, block.op.atol = 0.0, (tolerance * float(gradient.norm())) ** 0.5
            rows.append(influence.influence_factors(x, y))
        return torch.cat(rows)

    def values(factors: Tensor) -> Tensor:
        chunks = zip(*(part.split(GRADIENT_ROWS) for part in train), strict=True)
        return torch.cat([influence.influences_from_factors(factors, x, y) for x, y in chunks], dim=1)

    return Solved(partial(influence.influence_factors, *queries) if together else one_by_one, values)


nystroem = partial(NystroemPreconditioner, RANK)
SOLVERS = {
    "block": Solver(partial(solve, together=True)),
    "block, Jacobi": Solver(partial(solve, together=True, preconditioner=partial(JacobiPreconditioner, 10))),
    f"block, Nyström {RANK}": Solver(partial(solve, together=True, preconditioner=nystroem)),
    "one by one": Solver(partial(solve, together=False), one_by_one=True),
    f"one by one, Nyström {RANK}": Solver(partial(solve, together=False, preconditioner=nystroem), one_by_one=True),
}
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
    run("pyDVL", VARIANTS, SOLVERS)
