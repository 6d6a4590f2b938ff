"""What every system's script does: reads the problem, runs the stages under a clock, keeps the scores, prints JSON."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.fidelity.models import loss
from benchmarks.throughput.problems import PROBLEMS, Problem

DAMPING = 1e-4
"""Of both systems' EK-FAC, absolute; large enough that the scores don't hang on rounding."""


class Clock:
    """Seconds of each stage, each waited for."""

    def __init__(self, device: torch.device):
        self.device = device
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts what happens within."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


Score = Callable[[Problem, Clock, torch.device, str, Path], Tensor]
"""Removals in nats ``[queries, train]`` by EK-FAC of the empirical Fisher, in a precision, with a folder for files."""


def main(score: Score) -> None:
    """Run the system on the problem that the command line names."""
    given = arguments()
    device = torch.device(given.device)
    problem, clock = PROBLEMS[given.problem].of(given.train, given.queries), Clock(device)
    with tempfile.TemporaryDirectory() as folder:
        floor(problem, clock, device)
        before = peak(device)
        scores = score(problem, clock, device, given.precision, Path(folder))
    if given.answer is not None:
        torch.save(scores.float().cpu(), given.answer)
    stages, first = clock.stages, clock.stages.pop("floor")
    print(json.dumps({"floor": first, "stages": stages, "peak": peak(device), "before": before}))


def floor(problem: Problem, clock: Clock, device: torch.device) -> None:
    """One forward and one backward pass over the training data, after a first batch that isn't counted."""
    model, (x, y), _ = problem.made()
    model.to(device)
    batches = list(zip(x.split(problem.batch), y.split(problem.batch), strict=True))
    one = [part.to(device) for part in batches[0]]
    loss(model, *one).sum().backward()
    with clock.stage("floor"):
        for inputs, targets in batches:
            loss(model, inputs.to(device), targets.to(device)).sum().backward()


def peak(device: torch.device) -> int:
    """Bytes at the peak so far: of the device's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--problem", choices=list(PROBLEMS), required=True)
    parser.add_argument("--train", type=int, help="training examples (default: the problem's)")
    parser.add_argument("--queries", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=["float32", "tf32", "bfloat16"])
    parser.add_argument("--answer", type=Path, help="a file for the scores")
    return parser.parse_args()
