"""Scores that other libraries have left on disk, as an `Attribution`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.attribution import Attribution, Magnitude, Quantity
from upweight.errors import InputError
from upweight.names import distinct
from upweight.places import place

Library = Literal["kronfluence", "trak", "dattri", "numpy"]

REMOVAL = Quantity(
    "removal",
    "predicted change of the query's measurement if the training example were left out (the file's numbers over n)",
    "unit of the measurement",
    "without the example the measurement rises",
)
SELF = Quantity(
    "self-influence",
    "predicted change of the example's own loss if it were left out (the file's numbers over n)",
    "unit of the loss",
    "it is fitted against the rest",
    0,
)
TRAK = Quantity(
    "trak",
    "TRAK's product of projected gradients, summed over its models",
    "none: orders, no sizes",
    "the example raises the query's output",
)
AS_GIVEN = Quantity("score", "a score that was handed over", "as it was handed over", "the example is helpful")
PAIRWISE, OWN, SETTINGS = "pairwise_scores.safetensors", "self_scores.safetensors", "score_arguments.json"


@dataclass(frozen=True)
class Read:
    """What a file holds.

    Attributes
    ----------
    scores
        ``[queries, train]``, or ``[train]``.
    """

    scores: Float[Tensor, "queries train"] | Float[Tensor, " train"]
    quantity: Quantity
    reason: str
    damping: float | None = None


def read_scores(
    path: str | os.PathLike[str],
    of: Library,
    *,
    ids: Sequence[Any] | None = None,
    query_ids: Sequence[Any] | None = None,
) -> Attribution:
    """Scores of another library, with unit and sign in words: to rank, judge (`upweight.evaluation`) and save as ours.

    Parameters
    ----------
    path
        What was written. Of kronfluence the folder ``scores_NAME`` (or the ``.safetensors`` file in it), whose
        modules are summed; of TRAK the ``.mmap`` file in its ``scores`` folder; of dattri the tensor
        ``[train, queries]`` that its ``attribute`` gave, as ``torch.save`` keeps it; ``numpy``: an ``.npy`` file of
        ``[queries, train]``, as pyDVL's and captum's results become one.
    of
        Whose it is.
    ids, query_ids
        Names of training examples and queries (default: positions).

    Raises
    ------
    InputError
        If the file isn't what this library writes, holds NaN, or names don't match it. Reading runs no code.
    """
    scalars.one_of("of", of, get_args(Library))
    file = place("path", path)
    if not file.exists():
        raise InputError(f"path: there is no {file}; give the file that {of} wrote")
    read = READERS[of](file)
    scores = read.scores.to(torch.promote_types(read.scores.dtype, torch.float32))
    if not torch.isfinite(scores).all():
        raise InputError(f"path: {file.name} holds NaN or infinite scores; look at what wrote them")
    n = scores.shape[-1]
    names = np.arange(n) if ids is None else distinct("ids", ids, n, "training example")
    rows = len(scores) if scores.dim() == 2 else 0
    queries = np.arange(rows) if query_ids is None else distinct("query_ids", query_ids, rows, "query")
    magnitude = Magnitude(False, read.reason)
    return Attribution(scores, read.quantity, names, queries, damping=read.damping, magnitude=magnitude)


def _kronfluence(path: Path) -> Read:
    """A folder of its scores, all modules together; what its ``load_pairwise_scores`` reads."""
    from safetensors.torch import load_file

    folder, found = (path, None) if path.is_dir() else (path.parent, path)
    files = [found] if found else [folder / name for name in (PAIRWISE, OWN) if (folder / name).is_file()]
    if len(files) != 1:
        there = ", ".join(sorted(each.name for each in folder.iterdir())[:5]) or "nothing"
        raise InputError(
            f"path: {folder.name} holds {len(files)} of {PAIRWISE} and {OWN}; give the folder scores_NAME, or one of "
            f"the files (in it: {there})"
        )
    try:
        parts = load_file(files[0])
    except Exception as error:  # the format's own error is no built-in one
        raise InputError(f"path: {files[0].name} can't be read as safetensors: {error}") from error
    shapes = {tuple(part.shape) for part in parts.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) not in (1, 2):
        raise InputError(
            f"path: {files[0].name} holds tensors of shapes {sorted(shapes)}; scores are [queries, train] or [train] "
            "of every module (scores by token have one dimension more: sum it first)"
        )
    total = torch.stack(list(parts.values())).sum(0) if len(parts) > 1 else next(iter(parts.values()))
    settings = folder / SETTINGS
    known = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    damping = known.get("damping_factor")
    said = "a tenth of each layer's mean eigenvalue" if damping is None else f"{damping:g}"
    reason = f"kronfluence's file says nothing of how far the model is from an optimum (damping {said})"
    quantity = REMOVAL if total.dim() == 2 else SELF
    return Read(total.float() / total.shape[-1], quantity, reason, damping)


def _trak(path: Path) -> Read:
    """A memory map ``[train, queries]`` in NumPy's format."""
    return Read(_array(path).T.contiguous(), TRAK, "TRAK rescales its inverse: its scores have no unit")


def _dattri(path: Path) -> Read:
    """A tensor ``[train, queries]``."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling raises
        raise InputError(f"path: {path.name} can't be read as a tensor that torch.save kept: {error}") from error
    if not isinstance(found, Tensor) or found.dim() != 2:
        raise InputError(f"path: {path.name} holds {scalars.shown(found)}; give the tensor [train, queries]")
    return Read(found.T.contiguous() / len(found), REMOVAL, "dattri's tensor says nothing of damping or optimum")


def _numpy(path: Path) -> Read:
    """An array ``[queries, train]``."""
    return Read(_array(path), AS_GIVEN, "an array says nothing of how it was made")


def _array(path: Path) -> Tensor:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"path: {path.name} can't be read as an array in NumPy's format: {error}") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f":
        raise InputError(f"path: {path.name} holds {scalars.shown(found)}; give a matrix of real numbers")
    return torch.from_numpy(np.array(found, dtype=found.dtype.newbyteorder("=")))


READERS: dict[str, Callable[[Path], Read]] = {
    "kronfluence": _kronfluence,
    "trak": _trak,
    "dattri": _dattri,
    "numpy": _numpy,
}
