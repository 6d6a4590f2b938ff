"""What is raised where the content of a value can't be told."""

from __future__ import annotations

from typing import Any


class UnknownContentError(TypeError):
    """The content of a value can't be told; ``kind`` says what it is, ``trail`` the names that lead to it."""

    def __init__(self, kind: str):
        self.kind = kind
        self.trail: list[str] = []
        super().__init__(kind)

    def __str__(self) -> str:
        return f"{' → '.join(self.trail)}: {self.kind}" if self.trail else self.kind


def unknown(value: Any) -> UnknownContentError:
    """The error about this value."""
    kind = type(value)
    return UnknownContentError(kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}")
