"""trak: random projections of the gradients of the correct-class margin, from one or several models.

Its scores have no unit: it rescales the inverse of the projected Gram matrix. The damping is its ``lambda_reg``, in
the scale of that matrix (a sum over examples of projections over √p).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from trak import TRAKer
from trak.modelout_functions import AbstractModelOutput
from trak.projectors import BasicSingleBlockProjector, ProjectionType

from benchmarks.fidelity.peers.fitted import Fitted
from benchmarks.fidelity.peers.problem import ROWS, Problem, margin
from benchmarks.fidelity.peers.script import run

DIMENSIONS = 2048
"""At most."""
MULTIPLES = (0.1, 1.0, 10.0)
"""The grid: ridges in multiples of the mean eigenvalue of the projected Gram matrix."""


class Margin(AbstractModelOutput):
    """The margin of sequences, which it doesn't know itself."""

    def __init__(self) -> None:
        pass

    @staticmethod
    def get_output(model: nn.Module, weights, buffers, x: Tensor, y: Tensor) -> Tensor:
        """The margin of one example."""
        return margin(torch.func.functional_call(model, (weights, buffers), x[None]), y[None]).sum()

    def get_out_to_loss_grad(self, model: nn.Module, weights, buffers, batch) -> Tensor:
        """1 − p of each example."""
        x, y = batch
        return torch.sigmoid(-margin(torch.func.functional_call(model, (weights, buffers), x), y)).detach()[:, None]


class Kept(BasicSingleBlockProjector):
    """Keeps the whole projection: its block-wise projector draws every entry anew for every batch."""

    def free_memory(self) -> None:
        """Not freed: it would be gone when the queries need it."""


def trak(problem: Problem, folder: Path, *, several: bool = False) -> Fitted:
    """Features of the training data for each model; a ridge asks only for the small inverses anew."""
    dimensions = min(DIMENSIONS, len(problem.train[0]) // 2)  # its inverse is singular when examples are fewer
    states, batch_size = problem.states(several=several), ROWS[problem.task]
    p = sum(parameter.numel() for parameter in problem.model.parameters())
    traker = TRAKer(
        model=problem.model,
        task=Margin() if problem.sequences else "image_classification",
        train_set_size=len(problem.train[0]),
        save_dir=str(folder),
        device="cpu",
        projector=Kept(p, dimensions, 0, ProjectionType.rademacher, "cpu"),
        use_half_precision=False,
        logging_level=40,
    )
    for number, state in enumerate(states):
        traker.load_checkpoint(state, model_id=number)
        for batch in zip(*(part.split(batch_size) for part in problem.train), strict=True):
            traker.featurize(batch=batch, num_samples=len(batch[0]))
    finalize(traker, 0.0)
    trace = float((traker.saver.current_store["grads"].astype("float64") ** 2).sum())

    def score(damping: float | None) -> Tensor:
        if damping is not None:
            finalize(traker, damping)
        name = f"queries-{damping}"
        for number, state in enumerate(states):
            traker.start_scoring_checkpoint(name, state, number, num_targets=len(problem.queries[0]))
            for batch in zip(*(part.split(batch_size) for part in problem.queries), strict=True):
                traker.score(batch=batch, num_samples=len(batch[0]))
        return torch.as_tensor(traker.finalize_scores(name)).T

    settings = {"models": len(states), "dimensions": dimensions, "batch": batch_size}
    return Fitted(score, tuple(multiple * trace / dimensions for multiple in MULTIPLES), settings)


def finalize(traker: TRAKer, ridge: float) -> None:
    """Its features for a ridge, over those of another."""
    traker.score_computer.lambda_reg = ridge
    for state in traker.saver.model_ids.values():
        state["is_finalized"] = 0
    traker.finalize_features()


if __name__ == "__main__":
    run("traker", {"TRAK, 1 model": trak, "TRAK, several models": partial(trak, several=True)})
