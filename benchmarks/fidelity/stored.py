"""Where the problem of each task is kept once it is made, and how: complete or absent."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent.parent / ".made" / "fidelity"


def path(task: str) -> Path:
    """The task's problem."""
    return FOLDER / f"{task}.npz"


def read(file: Path) -> dict[str, np.ndarray]:
    """All arrays of a file."""
    with np.load(file) as arrays:
        return dict(arrays)


def store(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write beside the place and rename into it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.stem}-{os.getpid()}.npz")
    np.savez(partial, **arrays)
    partial.replace(file)
