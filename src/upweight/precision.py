"""How precisely products of float32 matrices are made: torch's own setting, for as long as work of ours lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from upweight import scalars
from upweight.errors import InputError

Precision = Literal["float32", "tf32", "bfloat16"]
"""Of a product's factors; sums are float32 in each."""
SETTINGS: dict[Precision, str] = {"float32": "highest", "tf32": "high", "bfloat16": "medium"}
"""What `torch.set_float32_matmul_precision` calls them."""
ROUGHER: tuple[Precision, ...] = ("tf32", "bfloat16")
OF_DEVICE: dict[str, tuple[Precision, ...]] = {"cuda": ("float32", "tf32"), "cpu": ("float32", "bfloat16")}
"""torch makes float32 products on a GPU in TF32 at the roughest, on a CPU in bfloat16 or not at all less precisely."""


def refuse_precision(precision: Precision | None, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a precision that the work can't have.

    Raises
    ------
    InputError
        If it is none, the device lacks it, or θ isn't float32.
    """
    if precision is None:
        return
    scalars.one_of("precision", precision, get_args(Precision))
    offered = OF_DEVICE.get(device.type, ("float32",))
    if precision not in offered:
        raise InputError(
            f"precision: {precision!r} is none that torch makes float32 products in on a {device.type} device; give "
            f"{' or '.join(map(repr, offered))}"
        )
    if dtype != torch.float32 and precision != "float32":
        raise InputError(
            f"precision: {precision!r} is for products of float32, and θ is {dtype}; leave it out, or give "
            "objective.to(torch.float32)"
        )


@contextmanager
def products(precision: Precision | None) -> Iterator[None]:
    """Products of float32 in this precision within, and as they were afterwards; None: as they are."""
    if precision is None:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(SETTINGS[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
