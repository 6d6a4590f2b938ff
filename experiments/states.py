"""States of trainings on disk, each whole or absent; what can't be written is named with its place."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from upweight import files


def write(path: Path, state: Any) -> None:
    """Put tensors, numbers and containers of them into a file; folders above it are made.

    Raises
    ------
    upweight.files.NotWrittenError
        If there is no room, or the like: torch's own message then says neither what nor where.
    """
    content = io.BytesIO()
    torch.save(state, content)
    files.write(path, content.getvalue())
