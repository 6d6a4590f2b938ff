"""What every system's script does: reads the problem, runs the stages under a clock, keeps the scores, prints JSON."""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fidelity.measure import MIB, Growth, resident
from benchmarks.fidelity.models import loss
from benchmarks.throughput.clock import Clock
from benchmarks.throughput.operations import Count, counter
from benchmarks.throughput.problems import PROBLEMS, Problem, problem

DAMPING = 1e-4
"""Of both systems' EK-FAC, absolute; large enough that the scores don't hang on rounding."""
PRECISIONS = ("float32", "tf32", "bfloat16")
"""``tf32``: float32 whose products may be made of TF32 on a GPU; ``bfloat16``: under torch's autocast, or as a peer
offers it."""


class Peak:
    """Bytes ``held`` before a ``with`` block, and at the ``peak`` within: of the device's tensors, or of this process.

    A process is looked at every two milliseconds, on Linux; elsewhere both are 0.
    """

    def __init__(self, device: torch.device):
        self._device, self._growth = device, Growth()

    def __enter__(self) -> Peak:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
            self.held = torch.cuda.memory_allocated(self._device)
        else:
            self.held = resident()
            self._growth.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self._device)
        else:
            self._growth.__exit__(*error)
            self.peak = self.held + int(self._growth.mib * MIB)


Score = Callable[[Problem, Clock, torch.device, str, Path], Tensor]
"""Removals in nats ``[queries, train]`` by EK-FAC of the empirical Fisher, in a precision, with a folder for files."""


def measured(score: Score, problem: Problem, device: torch.device, precision: str) -> tuple[dict[str, Any], Tensor]:
    """Floor, stages and waits in seconds, and memory in bytes; and the scores."""
    clock = Clock(device)
    with tf32(precision == "tf32"), tempfile.TemporaryDirectory() as folder:
        floor(problem, clock, device, precision)
        first = clock.stages.pop("floor")
        clock.waits.clear()
        with Peak(device) as memory:
            scores = score(problem, clock, device, precision, Path(folder))
    found = {"floor": first, "stages": clock.stages, "held": memory.held, "peak": memory.peak, **clock.known}
    return found | ({"waits": clock.waits} if device.type == "cuda" else {}), scores.float().cpu()


def counted(score: Score, problem: Problem, device: torch.device, precision: str) -> dict[str, Any]:
    """Operations of every stage; nothing is timed, as counting takes most of the time."""
    with counter() as operations, tf32(precision == "tf32"), tempfile.TemporaryDirectory() as folder:
        clock = Count(device, operations)
        score(problem, clock, device, precision, Path(folder))
    return {"operations": clock.operations}


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Products and convolutions of float32 on a GPU, by TF32 or not; then as it was."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = allowed
    try:
        yield
    finally:
        for place, was in zip(places, before, strict=True):
            place.allow_tf32 = was


@contextmanager
def lowered(device: torch.device, precision: str) -> Iterator[None]:
    """bfloat16, if that is the precision: on a CPU by torch's products of float32 in it, elsewhere by autocast."""
    if precision != "bfloat16":
        yield
        return
    if device.type != "cpu":
        with torch.autocast(device.type, torch.bfloat16):
            yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def floor(problem: Problem, clock: Clock, device: torch.device, precision: str) -> None:
    """One forward and one backward pass over the training data, after a first batch that isn't counted."""
    model, (x, y), _ = problem.made()
    model.to(device).train()  # the same function, and cuDNN's LSTM has a backward pass only here
    batches = list(zip(x.split(problem.batch), y.split(problem.batch), strict=True))

    def both(inputs: Tensor, targets: Tensor) -> None:
        with lowered(device, precision):
            value = loss(model, inputs.to(device), targets.to(device)).sum()
            value.backward()

    both(*batches[0])
    with clock.stage("floor"):
        for batch in batches:
            both(*batch)


def main(score: Score) -> None:
    """Run the system on the problem that the command line names."""
    given = arguments().parse_args()
    if given.count:
        print(json.dumps(counted(score, asked(given), torch.device(given.device), given.precision)))
        return
    found, scores = measured(score, asked(given), torch.device(given.device), given.precision)
    if given.answer is not None:
        torch.save(scores, given.answer)
    print(json.dumps(found))


def asked(given: argparse.Namespace) -> Problem:
    """The problem of the command line."""
    return problem(given.problem, small=given.small).of(given.train, given.queries)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--problem", choices=list(PROBLEMS), required=True)
    parser.add_argument("--small", action="store_true", help="the same form at a size that takes no time")
    parser.add_argument("--train", type=int, help="training examples (default: the problem's)")
    parser.add_argument("--queries", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--count", action="store_true", help="operations by stage in place of seconds")
    parser.add_argument("--answer", type=Path, help="a file for the scores")
    return parser
