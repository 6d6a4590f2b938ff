"""Operators of a pass, counted, and those among them for which a GPU's answer would have to be waited for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = frozenset(
    {
        *("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "masked_select", "bincount"),
        *("_unique", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave.Tensor"),
    }
)
"""Operators whose result, or its shape, the host needs: `float(x)` and `if x.any()` are the first of them."""
INDEXING = frozenset({"index", "index_put", "index_put_", "_unsafe_index"})
TAKEN = frozenset({Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.__array__})


class Counted(TorchDispatchMode):
    """Counts the operators that run within it, those of backward passes included (autograd runs in the same thread).

    Floating-point numbers that are taken to the host as a list or an array run no operator on a CPU, and are seen by
    the name of the call. A copy to "cpu" by other names, and what the host sends from memory that isn't pinned, would
    wait on a GPU too, and can't be told here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.all: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self._called = _Called(self.waiting)

    @property
    def operators(self) -> int:
        """How many ran."""
        return self.all.total()

    @property
    def waits(self) -> int:
        """How many of them, and of the calls, would wait."""
        return self.waiting.total()

    def __enter__(self) -> Counted:
        self._called.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._called.__exit__(*raised)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.all[func.__name__] += 1
        if has_to_wait(func, args):
            self.waiting[func.__name__] += 1
        return func(*args, **(kwargs or {}))


class _Called(TorchFunctionMode):
    """Notes numbers that are taken to the host; positions are there already."""

    def __init__(self, waiting: Counter[str]) -> None:
        super().__init__()
        self._waiting = waiting

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in TAKEN and args[0].is_floating_point():
            self._waiting[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def has_to_wait(func: Any, args: Any) -> bool:
    """Whether a GPU would have to be waited for."""
    kind = func.overloadpacket.__name__
    if kind in WAITING or func.__name__ in WAITING:
        return True
    if kind not in INDEXING:
        return False
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])
