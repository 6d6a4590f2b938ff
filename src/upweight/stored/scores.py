"""Scores that are read where they are asked for, in NumPy's way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from upweight.errors import InputError
from upweight.stored.names import SCORES

if TYPE_CHECKING:
    from upweight.stored.stored import Stored


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores that are read where they are asked for, in NumPy's way."""

    of: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        """``(queries, train)``, or ``(train,)``."""
        return self.of.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Tensor:
        keys = key if isinstance(key, tuple) else (key,)
        return torch.as_tensor(self.read(*keys))

    def read(self, *keys: Any) -> np.ndarray:
        """As NumPy indexes; lists of positions select rows and columns each.

        Raises
        ------
        InputError
            If a block is missing or altered, with its file.
        """
        array = self.of._opened
        try:
            return np.asarray(array.oindex[tuple(_plain(key) for key in keys)])
        except (IndexError, TypeError):
            raise
        except Exception as error:  # whatever zarr and its codecs raise of bytes that were altered
            named = next(
                (
                    f"{mark.key} (block {name}) {fault}"
                    for name, mark in self.of._blocks.marks(f"{SCORES}-").items()
                    if (fault := self.of._blocks.fault(name)) is not None
                ),
                f"{type(error).__name__}: {error}",
            )
            raise InputError(
                f"store: {named} in {self.of.backend}; run the job again, which does this block anew, or bring back a "
                "copy"
            ) from error


def _plain(key: Any) -> Any:
    """A part of an index as zarr takes it."""
    if isinstance(key, Tensor):
        key = key.numpy()
    if isinstance(key, Sequence) and not isinstance(key, str):
        return np.asarray(key)
    return key
