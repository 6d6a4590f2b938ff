"""How many operations a system's stages consist of, whatever the machine is doing: products and convolutions.

A run under torch's counter takes several times as long, so that it is one of its own, of which nothing is timed.
Eigendecompositions and what is done entry by entry are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, bmm_flop, mm_flop, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.throughput.clock import Clock

aten = torch.ops.aten


def counter() -> FlopCounterMode:
    """Torch's counter, with sums in place and the attention of a CPU, which it doesn't know."""
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten.addmm_: _of_two(mm_flop),
            aten.baddbmm_: _of_two(bmm_flop),
            aten._scaled_dot_product_flash_attention_for_cpu: _attention,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
        },
    )


class Count(Clock):
    """A clock that counts operations too.

    Attributes
    ----------
    operations
        By stage; those of an inner stage aren't counted in the outer one.
    """

    def __init__(self, device: torch.device, counter: FlopCounterMode):
        super().__init__(device)
        self.operations: dict[str, int] = {}
        self._counter = counter
        self._within: list[int] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts what happens within."""
        self._within.append(0)
        start = self._counter.get_total_flops()
        with super().stage(name):
            yield
        done = self._counter.get_total_flops() - start
        self.operations[name] = self.operations.get(name, 0) + done - self._within.pop()
        if self._within:
            self._within[-1] += done


def _of_two(count: Callable[..., int]) -> Callable[..., int]:
    """The product's operations, of a sum that it is added to."""
    return lambda total, left, right, *_, out_shape=None, **__: count(left, right)


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)
