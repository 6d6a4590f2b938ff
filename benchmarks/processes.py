"""One measurement in a process of its own, with its system's interpreter; and the machine on which it ran."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.fidelity import environments
from benchmarks.fidelity.plan import OURS

STARTING = 30
"""Seconds that a process may take to import and read, beyond its limit."""


def found_by(system: str, module: str, *arguments: object, threads: int, limit: float) -> dict[str, Any]:
    """The JSON in the last line that the module prints, or ``failed`` with the reason in a few words."""
    try:
        interpreter = sys.executable if system == OURS else str(environments.python(system))
    except environments.Unavailable as reason:
        return {"failed": str(reason)}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [interpreter, "-m", module, *map(str, arguments)],
            cwd=environments.ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=limit + STARTING)
        except subprocess.TimeoutExpired:
            return {"failed": f"not finished in {limit:.0f} s"}
        finally:
            stop(process)
        errors.seek(0)
        return answer(out, errors.read(), process.returncode)


def stop(process: subprocess.Popen) -> None:
    """End the process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answer(out: str, errors: str, code: int) -> dict[str, Any]:
    """What a finished process found."""
    lines = out.strip().splitlines()
    if code == 0 and lines:
        return json.loads(lines[-1])
    words = (errors.strip().splitlines() or [""])[-1]
    return {"failed": f"killed by signal {-code}" if code < 0 else words[:240] or f"exit status {code}"}


def machine(threads: int) -> dict[str, Any]:
    """What figures of seconds belong to."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
    }


def processor() -> str:
    """The processor's name as the system tells it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
