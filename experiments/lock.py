"""The exact environment of the results: `requirements.lock`, and where a machine departs from it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK = Path(__file__).with_name("requirements.lock")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", re.MULTILINE)


def pins() -> dict[str, str]:
    """Locked versions by package."""
    return dict(PIN.findall(LOCK.read_text(encoding="utf-8")))


def departures() -> list[str]:
    """Packages of which another version is installed, in words; those that aren't there can't be imported at all."""
    found = {name: (_installed(name), locked) for name, locked in pins().items()}
    return [f"{name} {own} (locked: {locked})" for name, (own, locked) in found.items() if own not in (None, locked)]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
