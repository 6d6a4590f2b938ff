"""A small attribution to save, and what lies on disk of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from problems import DOUBLE
from upweight.attribution import Attribution, Quantity

SCORES = torch.tensor([[0.5, -1.0, 2.0, 0.5], [0.0, 3.0, -2.0, 0.0]], dtype=DOUBLE)
QUANTITY = Quantity("removal", "what it is", "nats", "good", 1)


def attribution(
    scores: Any = SCORES, ids: Any = ("a", "b", "c", "d"), query_ids: Any = (10, 20), **options: Any
) -> Any:
    return Attribution(scores, QUANTITY, np.asarray(ids), np.asarray(query_ids), **options)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def data_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())
