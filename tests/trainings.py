"""Training functions that fresh processes can import."""

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

X = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
Y = X.sum(1, keepdim=True)


def least_squares(indices: Tensor, seed: int) -> nn.Module:
    """A few steps from a random start."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (model(X[indices]) - Y[indices]).square().mean().backward()
        optimizer.step()
    return model


def recorded(folder: str, indices: Tensor, seed: int) -> nn.Module:
    """The same, leaving in a folder who trained it; the process dies at the seed that a file there names."""
    fatal = Path(folder) / "fatal"
    if fatal.exists() and fatal.read_text() == str(seed):
        os._exit(3)
    model = least_squares(indices, seed)
    (Path(folder) / f"trained-{seed}").write_text(f"{torch.get_num_threads()} threads in process {os.getpid()}")
    return model


def slow(folder: str, indices: Tensor, seed: int) -> nn.Module:
    """The same, saying when it begins and ends, and taking a while in between."""
    (Path(folder) / f"begun-{seed}").touch()
    time.sleep(1.5)
    model = least_squares(indices, seed)
    (Path(folder) / f"ended-{seed}").touch()
    return model
