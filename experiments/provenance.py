"""Which code, on what, made a result: commit, versions, processor."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "transformers")
UNKNOWN = "not recorded"


def provenance() -> dict[str, Any]:
    """``commit`` (and whether the code was ``changed`` since), ``versions``, ``processor``, ``cores``, ``threads``."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "src", "experiments/**/*.py")),
        "versions": {"python": platform.python_version(), **_versions()},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def said(found: Mapping[str, Any] | None) -> str:
    """The same in a line."""
    if not found:
        return f"commit {UNKNOWN}"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"{_code(found)}; {versions}; {found['processor']}, {found['cores']} cores, {found['threads']} threads"


def mixture(results: Sequence[Mapping[str, Any]]) -> str:
    """What is to be known of results that one page puts together: those of other code than most, by name.

    Each has a ``title`` and, since it is recorded, a ``provenance``.
    """
    codes: dict[str, list[str]] = {}
    for each in results:
        codes.setdefault(_code(each.get("provenance")), []).append(each["title"])
    if len(codes) < 2:
        return ""
    most = max(codes, key=lambda code: len(codes[code]))
    others = "; ".join(f"{code}: {', '.join(titles)}" for code, titles in sorted(codes.items()) if code != most)
    return f"Results of several states of the code: {most}: {len(codes[most])} of them; {others}."


def _code(found: Mapping[str, Any] | None) -> str:
    if not found or not found["commit"]:
        return f"commit {UNKNOWN}"
    return f"commit {found['commit'][:10]}{' with changes' if found['changed'] else ''}"


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
