"""captum: TracIn over checkpoints (all parameters, or the last layer), Arnoldi, a dense Hessian, and similarity.

TracIn adds learning rate × ∇L_q·∇ℓ over checkpoints and Arnoldi gives ∇L_qᵀ(H + δ)⁻¹∇ℓ in the space of the largest
eigenvalues; both are larger where the training example helps. Similarity compares activations and knows no labels: its
sign means nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from captum.influence import NaiveInfluenceFunction, SimilarityInfluence, TracInCP, TracInCPFast
from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.fidelity import models
from benchmarks.fidelity.peers.fitted import Fitted
from benchmarks.fidelity.peers.problem import ROWS, Problem, Refused
from benchmarks.fidelity.peers.script import run

RANK = 50
KRYLOV = 200
"""Iterations from which its Arnoldi takes the eigenvalues: its default."""
GRID = (0.0001, 0.001, 0.01, 0.1)


class Loss(nn.Module):
    """The sum over a batch; ``reduction`` is read by captum."""

    reduction = "sum"

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The batch's loss."""
        return models.loss_of_outputs(outputs, y).sum()


class EachLoss(Loss):
    """The losses of a batch."""

    reduction = "none"

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The examples' losses."""
        return models.loss_of_outputs(outputs, y)


def loader(problem: Problem) -> DataLoader:
    """The training data in order."""
    return DataLoader(TensorDataset(*problem.train), batch_size=ROWS[problem.task])


def tracin(problem: Problem, folder: Path, *, last: bool) -> Fitted:
    """TracIn over the problem's checkpoints."""
    if not problem.checkpoints:
        raise Refused("the problem holds no checkpoints")

    def load(model: nn.Module, number: int) -> float:
        model.load_state_dict(problem.with_parameters(problem.checkpoints[number]).state_dict())
        return problem.rates[number]

    common: dict[str, Any] = {
        "checkpoints": list(range(len(problem.checkpoints))),
        "checkpoints_load_func": load,
        "train_dataset": loader(problem),
    }
    if last:
        final = [module for module in problem.model.modules() if isinstance(module, nn.Linear)][-1]
        tracer = TracInCPFast(problem.model, final, loss_fn=Loss(), **common)
    else:
        tracer = TracInCP(problem.model, **common, **gradients(problem.model))
    return Fitted(lambda damping: tracer.influence(problem.queries), (), {"checkpoints": len(problem.checkpoints)})


def gradients(model: nn.Module) -> dict[str, Any]:
    """Its batched gradients where it knows all layers, else its loop over examples."""
    layers = [module for module in model.modules() if list(module.parameters(recurse=False))]
    known = all(isinstance(layer, nn.Linear | nn.Conv2d) for layer in layers)
    return {"loss_fn": Loss() if known else EachLoss(), "sample_wise_grads_per_batch": known}


def inverse(
    kind: Callable[..., Any], problem: Problem, folder: Path, *, grid: tuple[float, ...], settings: dict[str, Any]
) -> Fitted:
    """An influence function, made anew for each damping."""

    def score(damping: float | None) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # the others can't be differentiated twice
            influence = kind(
                problem.model,
                loader(problem),
                checkpoint="the model as it is",
                checkpoints_load_func=lambda model, checkpoint: 1.0,
                **gradients(problem.model),
                **settings,
                **({} if damping is None else {"hessian_reg": damping}),
            )
            return influence.influence(problem.queries)

    return Fitted(score, grid, settings)


def similarity(problem: Problem, folder: Path) -> Fitted:
    """Cosine of the last hidden activations."""
    n = len(problem.train[0])
    names = [name for name, module in problem.model.named_modules() if not list(module.children())]
    layers = names[-2:]  # the second is not used: with one layer its influence fails

    class Inputs(TensorDataset):
        """Inputs alone, as its loader asks."""

        def __getitem__(self, index: int) -> Tensor:
            return self.tensors[0][index]

    finder = SimilarityInfluence(problem.model, layers, Inputs(problem.train[0]), str(folder), "model", batch_size=n)

    def score(damping: float | None) -> Tensor:
        indices, values = finder.influence(problem.queries[0], top_k=n)[layers[0]]
        return torch.empty_like(values).scatter_(1, indices, values)

    return Fitted(score, (), {"layer": layers[0]})


VARIANTS = {
    "TracIn": partial(tracin, last=False),
    "TracIn, last layer": partial(tracin, last=True),
    f"Arnoldi {RANK}": partial(
        inverse,
        ArnoldiInfluenceFunction,
        grid=(),  # to the fourth decimal nothing depends on its damping, which the largest eigenvalues dwarf
        settings={"projection_dim": RANK, "arnoldi_dim": KRYLOV},
    ),
    "dense": partial(inverse, NaiveInfluenceFunction, grid=GRID, settings={"projection_dim": 10**9}),
    "similarity": similarity,
}

if __name__ == "__main__":
    run("captum", VARIANTS)
