"""Small descriptions on disk: JSON under the checksum of its bytes, so that a cut or altered one is told."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def seal(said: dict[str, Any]) -> bytes:
    """The description as bytes, its checksum on the first line."""
    text = json.dumps(said, indent=1).encode()
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def unseal(content: bytes) -> dict[str, Any] | None:
    """What was sealed; None where it was cut or altered, or never was a sealed description."""
    digest, _, text = content.partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
