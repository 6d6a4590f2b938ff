"""Which code, on what, made a result: commit, versions, processor."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.lock import departures

HERE = Path(__file__).parent
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "transformers")
UNKNOWN = "not recorded"
_BEGUN: dict[str, Any] = {}


def provenance() -> dict[str, Any]:
    """``commit`` (and whether the code was ``changed`` since), ``versions``, ``processor``, ``cores``, ``threads``.

    ``not_as_locked`` names packages that are there in another version than `requirements.lock` has.
    """
    return {
        **_state(),
        "versions": {"python": platform.python_version(), **_versions()},
        "not_as_locked": departures(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def begin() -> None:
    """Look at the code now, and say that of all that this process makes: what is committed meanwhile isn't in it."""
    _BEGUN.update(_state())


def code() -> str:
    """The state of the code, in words."""
    return _code(_state())


def of_other_code(numbers: Any, now: str) -> list[str]:
    """States of the code other than ``now`` that parts of a result were made by: a run that was cut off went on."""
    return sorted({each for each in _codes(numbers) if each != now})


def said(found: Mapping[str, Any] | None) -> str:
    """The same in a line."""
    if not found:
        return f"commit {UNKNOWN}"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    parts = f" (parts by {', '.join(found['parts'])})" if found.get("parts") else ""
    return (
        f"{_code(found)}{parts}; {versions}; {found['processor']}, {found['cores']} cores, {found['threads']} threads"
    )


def mixture(results: Sequence[Mapping[str, Any]]) -> str:
    """What is to be known of results that one page puts together: those of other code or versions than most, by name.

    Each has a ``title`` and, since it is recorded, a ``provenance``.
    """
    told = [_apart("states of the code", [(_code(each.get("provenance")), each["title"]) for each in results])]
    known = [(each["title"], each["provenance"]) for each in results if each.get("provenance")]
    for package in ("python", *PACKAGES):
        versions = [
            (f"{package} {found['versions'][package]}", title) for title, found in known if package in found["versions"]
        ]
        told.append(_apart(f"versions of {package}", versions))
    mixed = [f"{title} ({', '.join(found['parts'])})" for title, found in known if found.get("parts")]
    told.append(f"Parts were made by another state of the code than the rest in {'; '.join(mixed)}." if mixed else "")
    return " ".join(filter(None, told))


def _apart(of: str, groups: Sequence[tuple[str, str]]) -> str:
    """The titles of all groups but the largest; empty where there is one group."""
    titles: dict[str, list[str]] = {}
    for group, title in groups:
        titles.setdefault(group, []).append(title)
    if len(titles) < 2:
        return ""
    most = max(titles, key=lambda group: len(titles[group]))
    others = "; ".join(f"{group}: {', '.join(found)}" for group, found in sorted(titles.items()) if group != most)
    return f"Results of several {of}: {most}: {len(titles[most])} of them; {others}."


def _codes(numbers: Any) -> Iterator[str]:
    if isinstance(numbers, Mapping):
        if isinstance(numbers.get("code"), str):
            yield numbers["code"]
        numbers = list(numbers.values())
    if isinstance(numbers, list | tuple):
        for each in numbers:
            yield from _codes(each)


def _code(found: Mapping[str, Any] | None) -> str:
    if not found or not found["commit"]:
        return f"commit {UNKNOWN}"
    return f"commit {found['commit'][:10]}{' with changes' if found['changed'] else ''}"


def _state() -> dict[str, Any]:
    if _BEGUN:
        return dict(_BEGUN)
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "experiments/**/*.py")
    return {"commit": _git("rev-parse", "HEAD"), "changed": bool(changed)}


def _versions() -> dict[str, str]:
    loaded = {name: sys.modules.get(_root(name)) for name in PACKAGES}
    return {name: str(module.__version__) for name, module in loaded.items() if module is not None}


def _root(package: str) -> str:
    return {"scikit-learn": "sklearn"}.get(package, package)


def _git(*arguments: str) -> str | None:
    """Its answer; None where there is no git or this is no clone."""
    try:
        ran = subprocess.run(["git", *arguments], cwd=HERE.parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
