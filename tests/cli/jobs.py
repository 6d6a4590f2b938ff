"""Studies whose model, loss and data are classes of their own file, and the command line as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from upweight.stored import Stored

STUDY = """
import os, time
from pathlib import Path
import pandas as pd, torch
from torch import nn
import upweight as uw

N = 40
PARENT = {parent}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(4, 5), nn.Linear(5, 3)
    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x)))

class Softened(uw.losses.CrossEntropy):
    pass

class Rows(torch.utils.data.Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y
    def __len__(self):
        return len(self.x)
    def __getitem__(self, i):
        {item}
        return self.x[i], self.y[i]

def study():
    {first}
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(N, 4, generator=generator), torch.randint(3, (N,), generator=generator)
    torch.manual_seed({seed})
    net = Net()
    objective = uw.Objective(net, {loss}, {data}, l2=0.1)
    table = pd.DataFrame({{"text": [f"text {{k}}" for k in range(N)], "length": range(N)}})
    queries = x[:6] + 0.1, y[:6]
    return uw.Study(objective, queries, query_ids=[f"q{{k}}" for k in range(6)], table=table)
"""
OPTIONS = {
    "parent": "None",
    "item": "pass",
    "first": "pass",
    "seed": "0",
    "loss": "Softened()",
    "data": "Rows(x, y)",
}


def write(folder: Path, **options: Any) -> Path:
    study = folder / "mine.py"
    study.write_text(STUDY.format(**{**OPTIONS, **options}))
    return study


def begin(*arguments: object, folder: Path, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from upweight.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(
        command,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder, **more},
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80"},
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Exit code, the object on standard output, and the error stream."""
    output, errors = process.communicate(timeout=300)
    return process.returncode, json.loads(output), errors


def scores(store: Path) -> np.ndarray:
    return np.asarray(Stored.open(store).scores.read(slice(None), slice(None)))
