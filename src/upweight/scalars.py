"""What a single argument must be: each check returns it as Python's own type, or refuses it by name, with the mend.

NumPy's and torch's numbers are numbers; True and False are none, and no number is a flag.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from upweight.errors import InputError

if TYPE_CHECKING:
    import torch

LARGEST = 2**63 - 1
"""The largest whole number that tensors hold."""
SHOWN = 60
"""Letters of a value in a message."""

T = TypeVar("T")


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number within bounds.

    Raises
    ------
    InputError
        If it is something else; 2.0, "2" and True are none.
    """
    given = plain(value)
    wanted = f"a whole number of at least {least:,}" if most is None else f"a whole number from {least:,} to {most:,}"
    is_whole = isinstance(given, Integral) and not isinstance(given, bool)
    if not is_whole or not least <= given <= (LARGEST if most is None else most):
        raise InputError(f"{name}: give {wanted}; got {shown(value)}")
    return int(given)


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """A finite number within bounds.

    Raises
    ------
    InputError
        If it is something else, NaN and infinity included.
    """
    given = plain(value)
    is_number = isinstance(given, Real) and not isinstance(given, bool) and finite(given)
    inside = is_number and (
        (least is None or given >= least)
        and (above is None or given > above)
        and (most is None or given <= most)
        and (below is None or given < below)
    )
    if not inside:
        signs = ((">", above), ("≥", least), ("<", below), ("≤", most))
        bounds = " and ".join(f"{sign} {bound:g}" for sign, bound in signs if bound is not None)
        raise InputError(f"{name}: give a finite number {bounds}".rstrip() + f"; got {shown(value)}")
    return float(given)


def finite(value: Any) -> bool:
    """Whether a number is none of NaN and the infinities, nor a whole one beyond them."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def flag(name: str, value: Any) -> bool:
    """True or False.

    Raises
    ------
    InputError
        If it is something else: "no" would count as true.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name}: give True or False; got {shown(value)}")
    return bool(value)


def one_of(name: str, value: Any, choices: Collection[str]) -> str:
    """One of the names that are allowed.

    Raises
    ------
    InputError
        If it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name}: one of {', '.join(map(repr, choices))}; got {shown(value)}")
    return value


def instance(name: str, value: Any, kinds: type[T] | tuple[type[T], ...], mend: str) -> T:
    """An object of one of these kinds; ``mend`` says how to make one.

    Raises
    ------
    InputError
        If it is something else; a class is no instance of itself.
    """
    if not isinstance(value, kinds):
        raise InputError(f"{name}: give {mend}; got {shown(value)}")
    return value


def precision(name: str, value: Any) -> torch.dtype:
    """A precision that results can have.

    Raises
    ------
    InputError
        If it is another, or a name of one.
    """
    import torch

    if value is float:
        return torch.float64
    if not isinstance(value, torch.dtype) or value not in (torch.float32, torch.float64):
        raise InputError(f"{name}: give torch.float64 or torch.float32; got {shown(value)}")
    return value


def text(name: str, value: Any) -> str:
    """A string.

    Raises
    ------
    InputError
        If it is something else.
    """
    if not isinstance(value, str):
        raise InputError(f"{name}: give text; got {shown(value)}")
    return value


def function(name: str, value: Any, takes: str) -> Any:
    """Something that can be called; ``takes`` says with what, and what it gives.

    Raises
    ------
    InputError
        If it can't be.
    """
    if not callable(value):
        raise InputError(f"{name}: give a function {takes}; got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """A value in few words: what is long by its beginning, or by its kind alone."""
    if isinstance(value, type):
        return f"the class {value.__name__}, which is not yet an instance: {value.__name__}(…)"
    kind = f"a whole number of more than {SHOWN} digits" if isinstance(value, int) else f"a {type(value).__name__}"
    try:
        text = repr(value)
    except Exception:  # a user's own, or of a number longer than Python writes
        return kind
    if isinstance(value, str) and len(text) > SHOWN:
        return f"{text[:SHOWN]}…"
    return text if len(text) <= SHOWN and "\n" not in text and " at 0x" not in text else kind


def seed(name: str, value: Any) -> int:
    """A seed: a whole number that torch's and NumPy's generators take.

    Raises
    ------
    InputError
        If it is something else; 1.7 would be 1.
    """
    return whole(name, value, 0, LARGEST)


def generator(value: int) -> torch.Generator:
    """Random numbers on the CPU, so that a seed means the same on every device; takes NumPy's whole numbers too."""
    import torch

    return torch.Generator().manual_seed(seed("seed", value))


def plain(value: Any) -> Any:
    """The number in a scalar of NumPy or a tensor of no dimensions; anything else as it is."""
    import torch

    is_scalar = isinstance(value, np.generic) or (isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0)
    return value.item() if is_scalar and not getattr(value, "is_meta", False) else value
