"""A task's problem as its file holds it, in torch's terms; numpy and torch only: every environment imports this."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fidelity import models

Examples = tuple[Tensor, Tensor]
Arrays = dict[str, np.ndarray]
"""What a measurement answers, and in `Measured` what it took."""
Measured = dict[str, Any]
ROWS = {"digits": 1000, "mnist-mlp": 500, "cifar-cnn": 100, "char-gpt": 20}
"""Examples whose own gradients, with the activations they come from, are to be held at once in about 2 GiB."""


@dataclass(frozen=True)
class Problem:
    """What `benchmarks.fidelity.problems` makes of a task; a convex one has neither seeds nor halves."""

    task: str
    model: nn.Module
    """The model explained, in evaluation mode."""
    train: Examples
    queries: Examples
    l2: float
    seeds: tuple[list[Tensor], ...]
    """Parameters of further models trained on all data."""
    checkpoints: tuple[list[Tensor], ...]
    """Parameters during the training of the model explained."""
    rates: tuple[float, ...]
    """Learning rate at each checkpoint."""
    subsets: np.ndarray
    """Training examples of each retraining, ``[subsets, kept]``."""
    losses: np.ndarray
    """Loss of each query after each retraining, mean over seeds, ``[subsets, queries]``."""

    @property
    def sequences(self) -> bool:
        """Whether outputs are ``[batch, positions, classes]``."""
        return self.train[1].ndim > 1

    def first(self, train: int | None = None, queries: int | None = None) -> Problem:
        """With the first training examples and queries only."""
        x, y = self.train
        query_x, query_y = self.queries
        return replace(self, train=(x[:train], y[:train]), queries=(query_x[:queries], query_y[:queries]))

    def with_parameters(self, parameters: list[Tensor]) -> nn.Module:
        """Another copy of the model, with these parameters."""
        model = models.build(self.task).eval()
        with torch.no_grad():
            for mine, given in zip(model.parameters(), parameters, strict=True):
                mine.copy_(given)
        return model

    def states(self, *, several: bool = False) -> list[dict[str, Tensor]]:
        """State of the model explained, in tensors of its own; with ``several`` those of the further models follow.

        Raises
        ------
        Refused
            If there are no further models.
        """
        if several and not self.seeds:
            raise Refused("the problem holds one model only")
        others = self.seeds if several else ()
        return [self.with_parameters(each).state_dict() for each in (list(self.model.parameters()), *others)]


class Refused(Exception):
    """The peer can't do this task; the message says why."""


def read(path: str, task: str, queries: int | None = None) -> Problem:
    """The problem with its first ``queries`` queries."""
    with np.load(path) as arrays:

        def parameters(prefix: str) -> list[Tensor]:
            return [torch.from_numpy(arrays[f"{prefix}param_{j}"]) for j in range(_count(arrays, prefix))]

        def several(name: str) -> tuple[list[Tensor], ...]:
            ordinals = sorted(
                {int(key.split("_")[1]) for key in arrays if key.startswith(f"{name}_") and "param" in key}
            )
            return tuple(parameters(f"{name}_{k}_") for k in ordinals)

        def examples(split: str, count: int | None) -> Examples:
            x, y = (torch.from_numpy(arrays[f"{kind}_{split}"])[:count] for kind in "xy")
            if x.dtype == torch.uint8:  # images as they come
                x = x.float() / 255
            return x, y if y.is_floating_point() else y.long()

        problem = Problem(
            task,
            models.build(task).eval(),
            examples("train", None),
            examples("test", queries),
            float(arrays["l2"]),
            several("seed"),
            several("checkpoint"),
            tuple(arrays["checkpoint_lr"].tolist()) if "checkpoint_lr" in arrays else (),
            arrays["subsets"].astype(np.int64),
            arrays["losses"].mean(1)[:, :queries],
        )
        problem.model.load_state_dict(problem.with_parameters(parameters("")).state_dict())
        return problem


def _count(arrays: Any, prefix: str) -> int:
    return sum(key.startswith(f"{prefix}param_") for key in arrays)


def equal_batch(n: int, most: int) -> int:
    """The largest batch that divides n: peers that average over batches weigh a short last one as much as the rest."""
    return max(size for size in range(1, most + 1) if n % size == 0)


def margin(outputs: Tensor, y: Tensor) -> Tensor:
    """log p/(1−p) of each example, which TRAK differentiates; p of a sequence is the geometric mean over positions."""
    if y.ndim == 1:  # by logits, since 1−p is 0 in float32 for many a training example
        labels = y[:, None]
        return outputs.gather(1, labels)[:, 0] - outputs.scatter(1, labels, -torch.inf).logsumexp(1)
    loss = models.loss_of_outputs(outputs, y) / y.shape[1]
    return -loss - torch.log(-torch.expm1(-loss))
