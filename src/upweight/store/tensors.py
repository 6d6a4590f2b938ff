"""Tensors by name as bytes that hold numbers alone (safetensors): reading them runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from upweight.errors import InputError

FACTS = "facts"


def pack(tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> bytes:
    """Tensors, on whatever device, with facts of JSON's kinds beside them."""
    from safetensors.torch import save

    held = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save(held, {FACTS: json.dumps(dict(facts or {}))})


def unpack(content: bytes, name: str = "store") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts, as they were.

    Raises
    ------
    InputError
        If the bytes are none of ours.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        facts = json.loads(header["__metadata__"][FACTS])
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{name}: holds no tensors of upweight's ({error})") from error
    return tensors, facts
