"""What every peer's script shares: the problem, the clock, the limits and the answer. numpy and torch only.

    python -m benchmarks.fidelity.peers.PEER --problem FILE.npz --task mnist-mlp --variant NAME --answer OUT.npz

A peer's script gives `run` its variants by name. A variant fits (whatever the peer prepares once, queries unseen) and
returns a `Fitted`, whose ``score`` maps a damping to scores ``[queries, train]``: larger = more helpful to the query
(the sign of `upweight`'s removal; in its unit, nats of the query's loss, where the script says so).

The last line printed is JSON: ``stages`` (seconds of fit, score and total), ``memory`` (growth in MiB), ``version``,
``settings``; or ``failed`` with the reason. ``--variants`` prints the names instead.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fidelity import models
from benchmarks.measure import Growth

ROWS = {"digits": 1000, "mnist-mlp": 500, "cifar-cnn": 100, "char-gpt": 20}
"""Examples whose own gradients, with the activations they come from, are to be held at once in about 2 GiB."""


@dataclass(frozen=True)
class Problem:
    """A task as made by `benchmarks.fidelity.tasks`, in torch's terms."""

    task: str
    model: nn.Module
    """The model explained, in evaluation mode."""
    train: tuple[Tensor, Tensor]
    queries: tuple[Tensor, Tensor]
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


@dataclass(frozen=True)
class Fitted:
    """What a variant prepared: scores for a damping (None: the peer's default), the grid worth trying, settings."""

    score: Callable[[float | None], Tensor]
    grid: tuple[float, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


Variant = Callable[[Problem, Path], Fitted]
"""From the problem and a folder for the peer's files, removed at the end."""


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

        x_train, y_train, x_test, y_test = (
            torch.from_numpy(arrays[key]) for key in ("x_train", "y_train", "x_test", "y_test")
        )
        problem = Problem(
            task,
            models.build(task).eval(),
            (x_train, y_train.long()),
            (x_test[:queries], y_test[:queries].long()),
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


def lds(scores: np.ndarray, problem: Problem) -> float:
    """Mean over queries of Spearman's ρ between −Σ_{i∈S} scores and the losses of retraining on S."""
    predicted = -np.stack([scores[:, subset].sum(1) for subset in problem.subsets])
    ranks = [np.argsort(np.argsort(values, axis=0), axis=0) for values in (predicted, problem.losses)]
    a, b = ((rank - rank.mean(0)) / rank.std(0) for rank in ranks)
    return float((a * b).mean())


def run(package: str, variants: Mapping[str, Variant]) -> None:
    """The command line of a peer's script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--variants", action="store_true", help="print the variants' names and stop")
    parser.add_argument("--problem")
    parser.add_argument("--task", choices=models.TASKS)
    parser.add_argument("--variant", choices=variants)
    parser.add_argument("--answer")
    parser.add_argument("--queries", type=int)
    parser.add_argument("--damping", default="default", help="'default', 'best' (highest LDS of a grid), or a number")
    parser.add_argument("--limit", type=float, default=1800, help="seconds of fitting, and of each scoring")
    parser.add_argument("--memory", type=float, default=16, help="GiB of address space that the process may take")
    options = parser.parse_args()
    if options.variants:
        print(json.dumps(list(variants)))
        return
    resource.setrlimit(resource.RLIMIT_AS, (int(options.memory * 2**30),) * 2)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    found: dict[str, Any] = {"version": importlib.metadata.version(package)}
    try:
        problem = read(options.problem, options.task, options.queries)
        with tempfile.TemporaryDirectory() as folder, Growth() as growth:
            scores, measured = _measure(partial(variants[options.variant], problem, Path(folder)), problem, options)
        np.savez(options.answer, scores=scores)
        found |= {**measured, "memory": growth.mib}
    except Exception as error:
        traceback.print_exc()
        found["failed"] = _words(error)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def _measure(
    fit: Callable[[], Fitted], problem: Problem, options: argparse.Namespace
) -> tuple[np.ndarray, dict[str, Any]]:
    """Fit once; score at the damping asked for, or at each of the grid, of which the best is kept."""
    start = time.perf_counter()
    with limited(options.limit):
        fitted = fit()
    fitting = time.perf_counter() - start
    settings, tried, best = dict(fitted.settings), {}, None
    for damping in _dampings(options.damping, fitted.grid):
        start = time.perf_counter()
        with limited(options.limit):
            scores = fitted.score(damping).detach().float().numpy()
        scoring = time.perf_counter() - start
        reached = lds(scores, problem) if np.isfinite(scores).all() else None
        tried["default" if damping is None else f"{damping:.3g}"] = reached
        if reached is not None and (best is None or reached > best[0]):
            best = reached, scores, scoring
            settings["damping"] = "default" if damping is None else damping
    if best is None:
        raise Refused("its scores are not finite")
    if len(tried) > 1:
        settings["grid"] = tried
    return best[1], {"stages": {"fit": fitting, "score": best[2], "total": fitting + best[2]}, "settings": settings}


def _dampings(asked: str, grid: tuple[float, ...]) -> tuple[float | None, ...]:
    if asked == "best":
        if not grid:
            raise Refused("it has no damping to choose")
        return grid
    return (None if asked == "default" else float(asked),)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` within the block once its seconds are over."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not finished in {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _words(error: Exception) -> str:
    """The error in one short line."""
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, Refused | TimeoutError):
        return first
    failing = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return f"{type(error).__name__}: {first or failing}"[:240]
