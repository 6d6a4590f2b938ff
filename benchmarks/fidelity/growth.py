"""Peak growth of memory by an attribution of 10 queries, at batches of 500, on an untrained network.

    python -m benchmarks.fidelity.growth --rows 4000

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

import upweight as uw
from benchmarks.fidelity.measure import Growth
from benchmarks.fidelity.models import mlp
from upweight.inverse import CG


class Rows(Dataset):
    """Examples made when asked for, so that the data itself takes no memory."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(int(index))
        return torch.rand(784, generator=generator), torch.tensor(index % 10)


def measure(rows: int) -> dict[str, Any]:
    """MiB over so many examples."""
    torch.manual_seed(0)
    model, queries = mlp(784, 32, 10), Rows(10)
    inverse = CG(uw.curvature.GGN(), damping=1.0, tolerance=0.1, max_iterations=5)
    with warnings.catch_warnings(), Growth() as growth:
        warnings.simplefilter("ignore")  # untrained: only the memory is looked at
        objective = uw.Objective(model, uw.losses.CrossEntropy(), Rows(rows), batch_size=500)
        scores = uw.Influence(objective, inverse).attribute(queries).scores
    return {"n": rows, "memory": growth.mib, "scores": scores.numel() * scores.element_size() / 2**20}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    print(json.dumps(measure(parser.parse_args().rows)))
